//! The standard error of a perplexity, which has no formula: by drawing the documents again and again, as the harness does.

use std::thread;

use paring_data::python::Random;

/// Draws that share a generator.
const CHUNK: usize = 1000;

/// The standard deviation of exp(−mean) over samples of the values of the same size, with replacement: chunks of 1000, or of all
/// where `draws` is less, the k-th with Python's `Random(k)`; what remains is not drawn. `None` for fewer than two draws or values.
///
/// Costs `draws` times the values, on as many threads as there are processors; the result does not depend on them.
pub(crate) fn perplexity_stderr(values: &[f64], draws: usize) -> Option<f64> {
    let chunk = CHUNK.min(draws);
    let chunks = draws.checked_div(chunk)?;
    if values.len() < 2 || chunk * chunks < 2 {
        return None;
    }
    let threads = thread::available_parallelism().map_or(1, usize::from).min(chunks);
    let share = |thread: usize| -> Vec<(usize, Vec<f64>)> {
        (thread..chunks).step_by(threads).map(|seed| (seed, drawn(values, chunk, seed as u64))).collect()
    };
    let mut made: Vec<(usize, Vec<f64>)> = thread::scope(|scope| {
        let share = &share;
        let others: Vec<_> = (1..threads)
            .map(|number| (number, thread::Builder::new().spawn_scoped(scope, move || share(number))))
            .collect();
        let mut made = share(0);
        for (number, other) in others {
            // Where the system has no thread for it, or it failed, this one does its part.
            made.extend(other.ok().and_then(|other| other.join().ok()).unwrap_or_else(|| share(number)));
        }
        made
    });
    made.sort_by_key(|(seed, _)| *seed);
    let all: Vec<f64> = made.into_iter().flat_map(|(_, values)| values).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    Some((all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (all.len() - 1) as f64).sqrt())
}

/// Perplexities of samples.
fn drawn(values: &[f64], count: usize, seed: u64) -> Vec<f64> {
    let (mut random, n) = (Random::new(seed), values.len());
    let sample = |random: &mut Random| (0..n).map(|_| values[random.choice(n)]).sum::<f64>();
    (0..count).map(|_| (-sample(&mut random) / n as f64).exp()).collect()
}
