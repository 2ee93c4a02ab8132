//! Programs that run the output of a plan, and those that do not, known before the work begins.

use paring_format::message;
use paring_format::message::Message;
use paring_format::{Checkpoint, Scheme};
use paring_model::{BlockInfo, Decoder};

use super::schemes::{self, Kind};
use super::select::{self, Selection};
use crate::Result;
use crate::output::modules::kind;
use crate::output::side_files::{left_behind, named_dtype};
use crate::plan::Plan;
use crate::plan::compatibility::{Linears, Loader, VLLM, Verdict, notes, verdict, words};
use crate::report::stored_bits;

/// Schemes of a model that is compressed already that are named.
const KINDS: usize = 4;

/// Parts of a plan's output that transformers or vLLM will not run, or not everywhere, a line each; empty when both run all.
///
/// # Errors
/// As a run: choices that do not fit each other or the model.
pub fn concerns(plan: &Plan, checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Result<Vec<Message>> {
    let selection = Selection::new(plan, decoder)?;
    let kinds = schemes::kinds(plan)?;
    let lines = schemed(&selection, &kinds, checkpoint, decoder, |number, scheme, linears| {
        let place = plan.place(number);
        notes(scheme, linears).into_iter().map(move |note| message![place.clone()].then(note))
    });
    let mut lines: Vec<Message> = lines.into_iter().flatten().collect();
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
                "{VLLM} keeps {} of {module} in one linear: they need the same scheme, or none",
                locals.join(", ")
            )));
        }
    }
    Ok(lines)
}

/// The verdicts of transformers and vLLM on the linears that they like least. Those that stay as they are run everywhere.
///
/// # Errors
/// As a run: choices that do not fit each other or the model.
pub fn loaders(plan: &Plan, checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Result<[(Loader, Verdict); 2]> {
    let (selection, kinds) = (Selection::new(plan, decoder)?, schemes::kinds(plan)?);
    let worst = |loader| {
        let verdict = |_, scheme: &Scheme, linears: &Linears<'_>| verdict(loader, scheme, linears);
        let verdicts = schemed(&selection, &kinds, checkpoint, decoder, verdict);
        Verdict::worst(verdicts.into_iter()).unwrap_or_else(|| Verdict::Runs("as plain weights".into()))
    };
    Ok(Loader::ALL.map(|loader| (loader, worst(loader))))
}

/// The results of `visit` for each choice that has a scheme: with its number, the scheme, and its linears as kernels see them.
fn schemed<T>(
    selection: &Selection,
    kinds: &[Option<Kind>],
    checkpoint: &Checkpoint,
    decoder: &dyn Decoder,
    visit: impl Fn(usize, &Scheme, &Linears<'_>) -> T,
) -> Vec<T> {
    let config = checkpoint.config();
    let (dtype, model_type) = (named_dtype(config), config.get("model_type").and_then(|name| name.as_str()));
    let of_choice = |number: usize| {
        let scheme = kinds.get(number)?.as_ref()?.scheme.as_ref()?;
        let shapes: Vec<_> = selection.linears(decoder, number).iter().map(|l| (l.rows, l.cols)).collect();
        Some(visit(number, scheme, &Linears { dtype, model_type, shapes: &shapes }))
    };
    selection.used().into_iter().filter_map(of_choice).collect()
}

/// Remarks on a plan for this model before the work: that the model is compressed already, linears that are
/// asked for and stay, and files that are not copied.
///
/// # Errors
/// A pattern that is no regular expression, and a config or folder of the model that cannot be read.
pub fn remarks(plan: &Plan, checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Result<Vec<Message>> {
    let mut lines = select::left(plan, decoder)?;
    lines.extend(left_behind(checkpoint)?.map(Message::from));
    let Some(config) = checkpoint.quant_config()? else { return Ok(lines) };
    let mut kinds: Vec<String> =
        config.groups.iter().map(|(_, scheme)| format!("{} ({})", words(scheme), scheme.format)).collect();
    kinds.extend(config.sparsity.as_ref().map(|sparsity| sparsity.format.clone()));
    if kinds.is_empty() {
        kinds.push(config.format.clone());
    }
    kinds.dedup();
    let more = kinds.len().saturating_sub(KINDS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let kinds = kinds[..kinds.len().min(KINDS)].join("; ");
    let linears: Vec<_> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    let bits = stored_bits(checkpoint, linears.iter().map(|linear| (linear.name.as_str(), linear.rows * linear.cols)));
    let already = if config.groups.is_empty() { "compressed" } else { "quantized" };
    lines.push(
        format!(
            "input is already {already} ({kinds}{more}, {bits:.1} bits): errors are relative to it, and layers \
            that are not \
            compressed again become floats"
        )
        .into(),
    );
    if let Some(which) = config.activations() {
        lines.push(format!("the input's quantization of its {which} is dropped").into());
    }
    Ok(lines)
}
