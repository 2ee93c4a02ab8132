//! Programs that will not run the output of a plan, known before the work begins.

use paring_format::message;
use paring_format::message::Message;
use paring_format::{Checkpoint, Scheme};
use paring_model::{BlockInfo, Decoder};

use super::schemes;
use super::select::Selection;
use crate::Result;
use crate::output::modules::kind;
use crate::output::side_files::named_dtype;
use crate::plan::Plan;
use crate::plan::compatibility::{Linears, Loader, Verdict, instead, verdict};

const LOADERS: [(Loader, &str); 2] = [(Loader::Transformers, "transformers 5.17"), (Loader::Vllm, "vLLM 0.33")];

/// Parts of a plan's output that transformers or vLLM will not run, or not everywhere, a line each; empty when both run all.
///
/// # Errors
/// As a run: choices that do not fit each other or the model.
pub fn concerns(plan: &Plan, checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Result<Vec<Message>> {
    let selection = Selection::new(plan, decoder)?;
    let kinds = schemes::kinds(plan)?;
    let config = checkpoint.config();
    let dtype = named_dtype(config);
    let model_type = config.get("model_type").and_then(|name| name.as_str());
    let linears: Vec<_> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    let mut lines = Vec::new();
    for number in selection.used() {
        let Some(scheme) = kinds.get(number).and_then(|kind| kind.as_ref()?.scheme.as_ref()) else { continue };
        let of_choice = linears.iter().filter(|l| selection.choice(&l.name) == Some(number));
        let shapes: Vec<(usize, usize)> = of_choice.map(|l| (l.rows, l.cols)).collect();
        let shared = Linears { dtype, model_type, shapes: &shapes };
        let place = match plan.overrides.get(number.wrapping_sub(1)) {
            Some(over) => format!("{}: ", over.targets.join(", ")),
            None => String::new(),
        };
        let what = what(scheme);
        // What programs say alike is said once.
        let mut said: Vec<(Vec<&str>, String)> = Vec::new();
        for (loader, name) in LOADERS {
            let text = match verdict(loader, scheme, &shared) {
                Verdict::Runs(_) => continue,
                Verdict::Limited(on) => format!("only on {on}"),
                Verdict::Refused(why) => format!("not at all ({why})"),
            };
            match said.iter_mut().find(|(_, other)| *other == text) {
                Some((names, _)) => names.push(name),
                None => said.push((vec![name], text)),
            }
        }
        for (names, text) in said {
            let line = message![format!("{place}{what} runs in {} {text}; see ", names.join(" and "))];
            lines.push(line.then(instead(scheme)));
        }
    }
    // Linears that were not chosen have no scheme, as those whose choice is dense.
    let scheme = |name: &str| selection.choice(name).and_then(|number| kinds[number].as_ref()?.scheme.as_ref());
    let blocks: Vec<BlockInfo> = (0..decoder.blocks()).map(|i| decoder.block_info(i)).collect();
    for number in 0..blocks.iter().map(|block| block.fused().len()).max().unwrap_or(0) {
        let names = |block: &BlockInfo| -> Option<Vec<String>> {
            Some(block.fused().get(number)?.iter().map(|linear| linear.name.clone()).collect())
        };
        let differ = |names: &Vec<String>| names.iter().any(|name| scheme(name) != scheme(&names[0]));
        // Of blocks that are alike, the first says it for all.
        if let Some(names) = blocks.iter().filter_map(names).find(differ) {
            let module = names[0].rsplit_once('.').map_or("", |(module, _)| module);
            let locals: Vec<&str> = names.iter().map(|name| kind(name)).collect();
            lines.push(Message::from(format!(
                "vLLM 0.33 keeps {} of {module} in one linear: they need the same scheme, or none",
                locals.join(", ")
            )));
        }
    }
    Ok(lines)
}

/// A scheme in words.
fn what(scheme: &Scheme) -> String {
    let weights = scheme.weights.as_ref().map(ToString::to_string).unwrap_or_default();
    let input = scheme.input.as_ref().map(|input| format!(" with inputs in {input}")).unwrap_or_default();
    format!("{weights}{input} ({})", scheme.format)
}
