//! Gradients of whole models against differences of their loss, with heads of their own and in pieces.

use paring_data::training::Example;

use super::{folder, open, settings};
use crate::finetune::Subject;
use crate::finetune::trainer::Trainer;

/// Numbers of each unit that are compared, those with the largest gradients.
const COMPARED: usize = 4;

#[test]
fn gradients_are_differences_of_the_loss() {
    for name in ["opt_untied", "falcon_rw", "qwen2"] {
        let student = open(&folder("tests/golden/models").join(name));
        let vocab = student.vocab_size() as u32;
        let ids = |from: u32, count: u32| (from..from + count).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect();
        // Of different lengths: the shorter one is padded.
        let mut answer = Example::all(ids(100, 9));
        answer.learned[..4].fill(false);
        let examples = [Example::all(ids(1, 14)), answer];
        let chosen = settings(1, 1e-3, Subject::Weights { masked: false });
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut trained, mut moved] = dirs
            .each_ref()
            .map(|dir| Trainer::new((student.as_ref(), None), &chosen, (dir.path(), None), |_| ()).unwrap());
        let made = trained.step(0, &examples.iter().collect::<Vec<_>>(), &mut |_| ()).unwrap();
        let loss = moved.measure(&examples, &mut |_| ()).unwrap();
        assert!((made.loss / loss - 1.0).abs() < 1e-5, "{name}: {} and {loss}", made.loss);
        let head = student.blocks() + 1;
        assert_eq!(moved.units.len() > head, !student.outer().tied, "{name}");
        let units = moved.units.len();
        for unit in [0, student.blocks(), head].into_iter().filter(|&unit| unit < units) {
            let (gradient, values) = (trained.store.gradient(unit).unwrap(), moved.store.values(unit).unwrap());
            let mut largest: Vec<usize> = (0..gradient.len()).collect();
            largest.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()));
            for &at in &largest[..COMPARED.min(largest.len())] {
                let mut measured = |by: f32| {
                    let mut values = values.clone();
                    values[at] += by;
                    moved.store.begin(unit, &values).unwrap();
                    moved.measure(&examples, &mut |_| ()).unwrap()
                };
                let by = 2e-3;
                let slope = (measured(by) - measured(-by)) / f64::from(2.0 * by);
                moved.store.begin(unit, &values).unwrap();
                // Losses are sums of f32 products: a difference of 1e-6 in them is 2.5e-4 here, and curvature adds to that.
                let allowed = 1e-3 + 0.02 * slope.abs();
                let got = f64::from(gradient[at]);
                assert!((got - slope).abs() < allowed, "{name}, unit {unit}, number {at}: {got}, slope {slope}");
            }
        }
    }
}
