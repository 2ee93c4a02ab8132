//! The definitions of backward passes, in f64.

/// `x / sqrt(mean(x²) + eps) · weight` for rows of as many features as there are weights.
pub(crate) fn rms(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let dim = weight.len();
    let row = |x: &[f64]| {
        let r = (x.iter().map(|v| v * v).sum::<f64>() / dim as f64 + eps).sqrt().recip();
        x.iter().zip(weight).map(|(x, w)| x * r * w).collect::<Vec<_>>()
    };
    x.chunks_exact(dim).flat_map(row).collect()
}

/// The gradients of `x` and of the weight.
pub(crate) fn rms_backward(dy: &[f64], x: &[f64], weight: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let dim = weight.len();
    let (mut dx, mut dw) = (Vec::new(), vec![0.0; dim]);
    for (dy, x) in dy.chunks_exact(dim).zip(x.chunks_exact(dim)) {
        let r = (x.iter().map(|v| v * v).sum::<f64>() / dim as f64 + eps).sqrt().recip();
        let mean = (0..dim).map(|i| dy[i] * weight[i] * x[i]).sum::<f64>() / dim as f64;
        for i in 0..dim {
            dx.push(r * (dy[i] * weight[i] - x[i] * r * r * mean));
            dw[i] += dy[i] * x[i] * r;
        }
    }
    (dx, dw)
}

fn normalized(x: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let dim = x.len() as f64;
    let mean = x.iter().sum::<f64>() / dim;
    let r = (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / dim + eps).sqrt().recip();
    (x.iter().map(|v| (v - mean) * r).collect(), r)
}

/// `(x − mean) / sqrt(var + eps) · weight + bias`.
pub(crate) fn layer(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let dim = weight.len();
    let row = |x: &[f64]| {
        let n = normalized(x, eps).0;
        (0..dim).map(|i| n[i] * weight[i] + bias[i]).collect::<Vec<_>>()
    };
    x.chunks_exact(dim).flat_map(row).collect()
}

/// The gradients of `x`, of the weight and of the bias.
pub(crate) fn layer_backward(dy: &[f64], x: &[f64], weight: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let dim = weight.len();
    let (mut dx, mut dw, mut db) = (Vec::new(), vec![0.0; dim], vec![0.0; dim]);
    for (dy, x) in dy.chunks_exact(dim).zip(x.chunks_exact(dim)) {
        let (n, r) = normalized(x, eps);
        let mean = (0..dim).map(|i| dy[i] * weight[i]).sum::<f64>() / dim as f64;
        let along = (0..dim).map(|i| dy[i] * weight[i] * n[i]).sum::<f64>() / dim as f64;
        for i in 0..dim {
            dx.push(r * (dy[i] * weight[i] - mean - n[i] * along));
            dw[i] += dy[i] * n[i];
            db[i] += dy[i];
        }
    }
    (dx, dw, db)
}
