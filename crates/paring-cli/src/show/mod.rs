//! Results as text.

pub mod amounts;
mod answer;
pub mod comparison;
mod inspected;
mod outcome;
pub mod paint;
mod rouge;
pub mod stored;
pub mod tasks;
pub mod terminal;
mod tokens;
pub mod training;
pub mod wrap;

use paring::commands::compare::Comparison;
use paring::commands::verify::Verified;

pub use amounts::size;
pub use answer::{Answer, Channels, Failure, out};
pub use inspected::inspected;
pub use outcome::{Made, outcome};
use paring::report::words::plural;
pub use rouge::{Sentences, rouge};
pub use stored::{difference, run};
pub use tokens::tokens;

/// Columns at which the text of an [`entry`] begins.
const ENTRY: usize = 16;

/// A name and its text.
pub fn entry(name: &str, text: &str) -> String {
    format!("  {name:<0$} {text}", ENTRY - 3)
}

/// The checks that passed.
pub fn verified(model: &str, verified: &Verified) -> Vec<String> {
    let formats = verified.formats.iter().map(|(format, n)| format!("{n} {format}")).collect::<Vec<_>>().join(", ");
    let Verified { linears, tensors, digests_checked, bytes, covered, ignored, untargeted, .. } = verified;
    let digests = match digests_checked {
        0 => "none to compare with".to_string(),
        n => format!("{n} match those of the run that wrote it"),
    };
    vec![
        format!("{:<10} {linears} ({formats})", "linears"),
        format!("{:<10} {}, no NaN or infinity", "tensors", plural(*tensors, "other tensor")),
        format!("{:<10} {digests}", "digests"),
        match covered + ignored + untargeted {
            0 => format!("{:<10} none", "groups"),
            _ => format!("{:<10} {covered} linears quantized, {ignored} ignored, {untargeted} unmatched", "groups"),
        },
        format!("{:<10} {model} is complete and consistent with its config, {}", "OK", size(*bytes)),
    ]
}

/// The distance of a model from a reference.
pub fn compared(reference: &str, compared: &Comparison) -> Vec<String> {
    let Comparison { mean_kl, max_kl, top1_agreement, perplexity, reference_perplexity, perplexity_ratio, .. } =
        compared;
    let Comparison { windows, seqlen, dataset, seconds, peak_rss_mib, place, .. } = compared;
    vec![
        format!("{:<10} {mean_kl:.6} nats on average, at most {max_kl:.6}", "KL"),
        format!(
            "{:<10} {} vs {} ({}); same top token {:.1} % of the time",
            "perplexity",
            outcome::perplexity(*perplexity),
            outcome::perplexity(*reference_perplexity),
            stored::change(perplexity_ratio - 1.0),
            100.0 * top1_agreement
        ),
        format!(
            "compared with {reference} on {} of {seqlen} tokens of {dataset}: {}, {}, {}",
            plural(*windows, "window"),
            place.words(),
            amounts::seconds(*seconds),
            place.memory(*peak_rss_mib)
        ),
    ]
}
