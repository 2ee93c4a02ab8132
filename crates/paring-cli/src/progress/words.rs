//! Steps in a few words.

use paring::report::progress::Step;
use paring::report::training::TrainingStep;
use paring::report::{LayerReport, Stage};

/// A step in words, without the number of its block.
pub fn doing(step: &Step<'_>) -> String {
    let what = match step.stage {
        Stage::Read => "reading weights",
        Stage::Forward => "forward pass",
        Stage::Gram => "statistics",
        Stage::Factor => "factor",
        Stage::Sweep => "sweep",
        Stage::Error => "errors",
        Stage::Pack => "packing",
        Stage::Write => "writing",
        Stage::Check => "checking the output",
        Stage::Head => "head",
        Stage::Allocate => "measuring layers",
        Stage::Train => "training",
    };
    let module = step.module.map_or(String::new(), |name| format!(" of {}", short(name)));
    // The batch of windows that is at work now.
    let part = if step.stage == Stage::Train && step.block.is_none() { "block pass" } else { "window" };
    let count = step.count.map_or(String::new(), |(done, of)| format!(", {part} {}/{of}", (done + 1).min(of)));
    format!("{what}{module}{count}")
}

/// The columns of [`layer`].
pub fn layer_header() -> String {
    format!("{:<34} {:>11} {:>6} {:>6} {:>9} {:>7}", "linear", "shape", "bits", "zeros", "error", "seconds")
}

/// A linear that was compressed, in a row of 80 columns or fewer for names of the usual length.
pub fn layer(layer: &LayerReport) -> String {
    let shape = format!("{}x{}", layer.rows, layer.cols);
    let error = layer.error.map_or(String::new(), |error| format!("{error:.6}"));
    let LayerReport { name, bits, sparsity, seconds, .. } = layer;
    format!("{name:<34} {shape:>11} {bits:>6.3} {:>4.1} % {error:>9} {seconds:>7.3}", 100.0 * sparsity)
}

/// The last two parts of a module path: `mlp.down_proj`.
fn short(name: &str) -> &str {
    name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
}

/// A step of a training in a line.
pub fn training(step: &TrainingStep, steps: usize) -> String {
    let &TrainingStep { step, loss, gradient_norm, rate, learned, .. } = step;
    format!(
        "step {:>5}/{steps}: loss {loss:.4}, gradients {gradient_norm:.3}, rate {rate:.2e}, {learned} tokens",
        step + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_short() {
        let gram = Step::new(Stage::Gram).block(3);
        assert_eq!(doing(&gram.count(0, 128)), "statistics, window 1/128");
        assert_eq!(doing(&gram.count(128, 128)), "statistics, window 128/128");
        assert_eq!(doing(&Step::new(Stage::Sweep).module("model.layers.3.mlp.down_proj")), "sweep of mlp.down_proj");
        assert_eq!(doing(&Step::new(Stage::Factor).module("lm_head")), "factor of lm_head");
    }
}
