//! The definition.

/// The mean of (y − target)² over the valid rows, divided by the mean of target² + `eps` if there is one, and the gradient of y.
pub(crate) fn squared_error(y: &[f64], target: &[f64], valid: &[bool], eps: Option<f64>) -> (f64, Vec<f64>) {
    let dim = y.len() / valid.len();
    let counts = |i: usize| valid[i / dim];
    let count = (0..y.len()).filter(|&i| counts(i)).count() as f64;
    let mean = |f: &dyn Fn(usize) -> f64| (0..y.len()).filter(|&i| counts(i)).map(f).sum::<f64>() / count;
    let size = eps.map_or(1.0, |eps| mean(&|i| target[i] * target[i]) + eps);
    let error = mean(&|i| (y[i] - target[i]).powi(2)) / size;
    let dy = |i: usize| if counts(i) { 2.0 * (y[i] - target[i]) / count / size } else { 0.0 };
    (error, (0..y.len()).map(dy).collect())
}

/// The mean of weight · (y − target)² for weights of rows, and the gradient of y.
pub(crate) fn weighted_squared_error(y: &[f64], target: &[f64], weights: &[f64]) -> (f64, Vec<f64>) {
    let (count, dim) = (y.len() as f64, y.len() / weights.len());
    let sum: f64 = (0..y.len()).map(|i| weights[i / dim] * (y[i] - target[i]).powi(2)).sum();
    (sum / count, (0..y.len()).map(|i| 2.0 * weights[i / dim] * (y[i] - target[i]) / count).collect())
}
