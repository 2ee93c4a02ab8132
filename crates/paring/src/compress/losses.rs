//! Notes at the end of a run on what became of its weights, and nobody asked for.

use paring_format::message;
use paring_format::message::Message;

use super::select::Selection;
use crate::methods::share_of;
use crate::plan::{Curvature, Opt, Pattern, Plan, Recipe};
use crate::report::LayerReport;

/// Linears that a note names; the report has all.
const NAMED: usize = 6;
/// The share of zeros that more of them than asked for is worth a note: less are ties.
const MORE: f64 = 5e-4;

/// Notes on inputs that were never anything but zero, on more zeros than were asked for, and on weights that are lost because
/// their scales are too small.
pub(super) fn notes(layers: &[LayerReport], plan: &Plan, selection: &Selection) -> Vec<Message> {
    let recipe = |layer: &LayerReport| Some(plan.choice(selection.choice(&layer.name)?)?.recipe);
    let chosen: Vec<(&LayerReport, &Recipe)> = layers.iter().filter_map(|l| Some((l, recipe(l)?))).collect();
    let mut notes = Vec::new();
    for (curvature, what) in
        [(Curvature::Full, "their weights are 0 now"), (Curvature::Diagonal, "their weights were removed first")]
    {
        // Where all were, the linear has a note of its own.
        let dead = chosen.iter().filter(|(l, r)| r.method.curvature == curvature && (1..l.cols).contains(&l.dead));
        let dead = dead.map(|(l, _)| (l.name.as_str(), format!("{} of {}", l.dead, l.cols)));
        if let Some(list) = list(dead.collect()) {
            notes.push(format!("inputs that were zero in all calibration tokens ({what}): {list}").into());
        }
    }
    let more = chosen.iter().filter_map(|(l, r)| {
        let asked = asked(l, r).filter(|asked| l.sparsity > asked + MORE)?;
        Some((l.name.as_str(), format!("{:.1} %, requested {:.1} %", 100.0 * l.sparsity, 100.0 * asked)))
    });
    if let Some(list) = list(more.collect()) {
        notes.push(format!("more zeros than requested: {list}").into());
    }
    let lost = chosen.iter().filter_map(|(l, _)| {
        let lost = l.underflow?;
        let zeros = format!("{:.1} % became 0", 100.0 * lost.zeros);
        Some((l.name.as_str(), format!("{zeros}, squared error {:.4} instead of {:.4}", lost.error, lost.usual_error)))
    });
    if let Some(list) = list(lost.collect()) {
        let problem = format!("weights too small for the scales that the file can hold: {list}; ");
        let remedy =
            message![problem, "use a copy of the model in bfloat16 or float32, or leave them out with ", Opt::Ignore];
        notes.push(remedy);
    }
    notes
}

/// The share of zeros that a recipe that only prunes asks for in a linear.
fn asked(layer: &LayerReport, recipe: &Recipe) -> Option<f64> {
    // Rounding makes zeros of its own.
    match recipe.pattern.filter(|_| recipe.rounding.is_none())? {
        Pattern::Given => None,
        Pattern::NofM { keep, of } => Some(1.0 - keep as f64 / of.max(1) as f64),
        Pattern::Unstructured(share) if recipe.method.share_per_row => {
            Some(share_of(share, layer.cols) as f64 / layer.cols.max(1) as f64)
        }
        // A slice has a threshold of its own: one more in each is none too many.
        Pattern::Unstructured(share) => {
            let width = recipe.slice(layer.cols).clamp(1, layer.cols.max(1));
            Some(share + 1.0 / (layer.rows * width).max(1) as f64)
        }
    }
}

/// Linears with what is to be said of each: neighbours of which the same is true share it, and only the first are named.
fn list(found: Vec<(&str, String)>) -> Option<String> {
    let mut groups: Vec<(String, &str, &str)> = Vec::new();
    for (name, text) in &found {
        let (module, local) = name.rsplit_once('.').unwrap_or(("", name));
        match groups.last_mut() {
            Some((names, of, same)) if *of == module && same == text => *names += &format!(", {local}"),
            _ => groups.push((name.to_string(), module, text)),
        }
    }
    let more = groups.len().saturating_sub(NAMED);
    let named: Vec<String> = groups.iter().take(NAMED).map(|(names, _, text)| format!("{names} ({text})")).collect();
    let more = if more > 0 { format!(" and {more} more, which report.json has") } else { String::new() };
    (!named.is_empty()).then(|| named.join("; ") + &more)
}
