//! The definitions of losses and gradients.

fn log_shares(z: &[f64], temperature: f64) -> Vec<f64> {
    let log_sum = z.iter().map(|z| (z / temperature).exp()).sum::<f64>().ln();
    z.iter().map(|z| z / temperature - log_sum).collect()
}

/// Σ −log softmax(z)\[target\], and its gradient.
pub(crate) fn cross_entropy(z: &[f64], targets: &[Option<u32>]) -> (f64, Vec<f64>) {
    let vocab = z.len() / targets.len();
    let (mut loss, mut dz) = (0.0, vec![0.0; z.len()]);
    for ((z, dz), target) in z.chunks_exact(vocab).zip(dz.chunks_exact_mut(vocab)).zip(targets) {
        let Some(target) = target else { continue };
        let logs = log_shares(z, 1.0);
        loss -= logs[*target as usize];
        dz.iter_mut().zip(&logs).for_each(|(dz, log)| *dz = log.exp());
        dz[*target as usize] -= 1.0;
    }
    (loss, dz)
}

/// Σ T² KL(softmax(teacher / T) ‖ softmax(z / T)), and the gradient of z.
pub(crate) fn divergence(z: &[f64], teacher: &[f64], valid: &[bool], temperature: f64) -> (f64, Vec<f64>) {
    let vocab = z.len() / valid.len();
    let (mut loss, mut dz) = (0.0, vec![0.0; z.len()]);
    for (row, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
        let at = row * vocab..(row + 1) * vocab;
        let (student, teacher) =
            (log_shares(&z[at.clone()], temperature), log_shares(&teacher[at.clone()], temperature));
        for ((dz, s), t) in dz[at].iter_mut().zip(&student).zip(&teacher) {
            loss += temperature * temperature * t.exp() * (t - s);
            *dz = temperature * (s.exp() - t.exp());
        }
    }
    (loss, dz)
}
