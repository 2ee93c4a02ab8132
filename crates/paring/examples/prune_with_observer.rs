//! Removes two of every four weights, and follows the run with an observer of its own:
//!
//!     cargo run --release -p paring --example prune_with_observer -- MODEL CALIBRATION.txt OUT

use paring::plan::Pattern;
use paring::report::progress::Observer;
use paring::report::{LayerReport, Report};
use paring::{Request, Result};

/// Prints a line for each block, and remembers the linear with the largest error.
#[derive(Default)]
pub struct Worst {
    /// The linear.
    pub name: String,
    /// Its error.
    pub error: f64,
    blocks: usize,
}

impl Observer for Worst {
    fn start(&mut self, _done: usize, blocks: usize, linears: usize) {
        self.blocks = blocks;
        println!("{linears} linears in {blocks} blocks");
    }

    fn linear(&mut self, layer: &LayerReport) {
        if let Some(error) = layer.error.filter(|error| *error > self.error) {
            (self.name, self.error) = (layer.name.clone(), error);
        }
    }

    fn block(&mut self, i: usize) {
        println!("block {} of {} is written", i + 1, self.blocks);
    }

    fn note(&mut self, text: &str) {
        println!("note: {text}");
    }
}

/// Writes the pruned model to `out`.
pub fn prune(model: &str, calibration: &str, out: &str) -> Result<(Report, Worst)> {
    let request = Request::sparsify(model).method("sparsegpt").pattern(Pattern::NofM { keep: 2, of: 4 });
    let mut worst = Worst::default();
    let report = paring::run(request.data(calibration).out(out), &mut worst)?;
    Ok((report, worst))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, out] = arguments.as_slice() else {
        return Err("expected MODEL CALIBRATION.txt OUT".into());
    };
    let (report, worst) = prune(model, calibration, out)?;
    println!("{:.1} % of the weights are zero; {} has the largest error", 100.0 * report.sparsity, worst.name);
    Ok(())
}
