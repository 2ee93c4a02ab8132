//! Agreement of a device with the CPU: every operation's cases, and the layers of the published implementations.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::Device;
use paring_kernels::cases;
use paring_kernels::square_matrix::SquareMatrix;
use serde::Serialize;

use crate::Result;
use crate::methods::Outcome;
use crate::methods::published::{Case, Folder, Layer};
use crate::pipeline::stats::Stats;
use crate::plan::Curvature;

/// Results of the cases.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Cases of operations that were run.
    pub operations: usize,
    /// Elements of these that differ from the definition within what ties allow.
    pub operation_ties: usize,
    /// Layers that were compressed on the device and on the CPU.
    pub layers: usize,
    /// Elements of these that differ from the CPU within what ties allow: near a tie, or after one in their row.
    pub layer_ties: usize,
    /// Elements of all layers.
    pub elements: usize,
    /// Failures: a name and the reason each.
    pub failed: Vec<String>,
}

impl Agreement {
    /// Records the first line of the reason: the others say where in the program it was.
    fn fail(&mut self, name: &str, reason: &str) {
        self.failed.push(format!("{name}: {}", reason.lines().next().unwrap_or_default()));
    }
}

/// Runs all cases of operations on the device, and those of the folder whose sweep runs on a GPU, if one is given.
///
/// A layer agrees when its error tr(ΔW H ΔWᵀ) is within 1e-4 of that on the CPU and every code and mask is the same. Sums
/// are rounded in another order on a GPU, so a weight halfway between two codes may be rounded the other way, and the
/// rest of its row with it: up to one row in eight may hold such, when the error is within 2 % (as between published
/// implementations).
///
/// Errors when the folder cannot be read.
pub fn check(device: &Device, folder: Option<&Path>) -> Result<Agreement> {
    let mut found = Agreement::default();
    for case in cases::all() {
        found.operations += 1;
        match case.run(device) {
            Err(error) => found.fail(&case.name, &error.to_string()),
            Ok(off) => {
                found.operation_ties += off.ties;
                let holds = off.ratio <= 1.0;
                if !holds {
                    found.fail(&case.name, &format!("off by {:.3} of what is allowed", off.ratio));
                }
            }
        }
    }
    let layers = folder.map_or(Ok(Vec::new()), |folder| Folder::new(folder).cases())?;
    for case in layers.iter().filter(|case| case.recipe.method.curvature == Curvature::Full) {
        let layer = case.layer()?;
        found.layers += 1;
        found.elements += layer.weight.len();
        match compare(case, &layer, device) {
            Err(error) => found.fail(&case.name, &error.to_string()),
            Ok(OutcomeDifference { elements, problem: None }) => found.layer_ties += elements,
            Ok(OutcomeDifference { problem: Some(problem), .. }) => found.fail(&case.name, &problem),
        }
    }
    Ok(found)
}

/// Difference of two outcomes.
struct OutcomeDifference {
    elements: usize,
    /// Reason that it is more than ties.
    problem: Option<String>,
}

fn compare(case: &Case, layer: &Layer, device: &Device) -> Result<OutcomeDifference> {
    let made = case.compress(layer, |h| Ok(Stats::Gram(SquareMatrix::on_device(device, h.to_vec())?)))?;
    let want = case.compress(layer, |h| Ok(Stats::Gram(h.to_vec().into())))?;
    Ok(differences(&made, &want, layer))
}

fn differences(made: &Outcome, want: &Outcome, layer: &Layer) -> OutcomeDifference {
    let kept = |outcome: &Outcome| outcome.compressed.outlier_mask().unwrap_or_default();
    let pairs = [(made.codes(), want.codes()), (made.dropped.clone(), want.dropped.clone()), (kept(made), kept(want))];
    let lengths = pairs.iter().all(|(a, b)| a.len() == b.len());
    let at: BTreeSet<usize> =
        pairs.iter().flat_map(|(a, b)| (0..a.len().min(b.len())).filter(|&i| a[i] != b[i])).collect();
    let rows: BTreeSet<usize> = at.iter().map(|i| i / layer.cols).collect();
    let (got, expected) = (error(made, layer), error(want, layer));
    let off = (got - expected).abs() / expected.max(f64::MIN_POSITIVE);
    let most = layer.rows.div_ceil(8);
    let near = off <= if at.is_empty() { 1e-4 } else { 0.02 };
    let problem = if !lengths {
        Some("another number of codes or marks".to_string())
    } else if rows.len() > most {
        Some(format!("{} of {} rows differ, at most {most} may", rows.len(), layer.rows))
    } else if !near {
        Some(format!("an error of {got}, on the CPU {expected}; {} elements differ", at.len()))
    } else {
        None
    };
    OutcomeDifference { elements: at.len(), problem }
}

/// tr(ΔW H ΔWᵀ) in f64.
fn error(outcome: &Outcome, layer: &Layer) -> f64 {
    let change: Vec<f64> =
        outcome.dense().iter().zip(&layer.weight).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
    let row = |row: &[f64]| -> f64 {
        let times = |h: &[f32]| row.iter().zip(h).map(|(&v, &h)| v * f64::from(h)).sum::<f64>();
        row.iter().zip(layer.gram.chunks_exact(layer.cols)).map(|(&v, h)| v * times(h)).sum()
    };
    change.chunks_exact(layer.cols).map(row).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::published::own;
    use paring_kernels::device::{Choice, open};

    #[test]
    fn every_device_agrees_with_the_cpu() {
        let mut devices = vec![Device::Cpu];
        devices.extend(open(Choice::Cuda(0)));
        for device in &devices {
            let found = check(device, Some(&own().file(""))).unwrap();
            assert_eq!((found.layers, found.failed), (205, Vec::<String>::new()), "{device:?}");
            assert!(found.operations > 20 && found.elements > 500_000, "{} {}", found.operations, found.elements);
            // As in the cases of the sweep, one weight in fifty may be near a tie, or after one in its row.
            let most = if device.is_cpu() { 0 } else { found.elements / 50 };
            assert!(found.layer_ties <= most, "{device:?}: {} of {} elements differ", found.layer_ties, found.elements);
        }
    }

    #[test]
    fn differences_beyond_ties_are_named() {
        let case = own().cases().unwrap().into_iter().find(|case| case.name == "a48x64 gptq_b4_g32_asym").unwrap();
        let layer = case.layer().unwrap();
        let stats = |h: &[f32]| Ok(Stats::Gram(h.to_vec().into()));
        let want = case.compress(&layer, stats).unwrap();
        assert_eq!(differences(&want, &want, &layer).elements, 0);
        // The grids of another layer: most rows differ.
        let other = Layer { weight: layer.weight.iter().map(|w| w * 1.3 + 0.01).collect(), ..layer.clone() };
        let made = case.compress(&other, stats).unwrap();
        assert!(differences(&made, &want, &layer).problem.unwrap().contains("rows differ"));
        // The same codes, but an error that is not theirs.
        let mut made = case.compress(&layer, stats).unwrap();
        made.dense_mut().iter_mut().for_each(|w| *w *= 1.01);
        assert!(differences(&made, &want, &layer).problem.unwrap().starts_with("an error of"));
    }
}
