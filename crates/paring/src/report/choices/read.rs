//! The places of a plan that options make, and their values as they are typed.

use paring_format::{PRESETS, Preset};
use serde_json::{Value, json};

use super::Choice;
use crate::plan::Opt;

/// Reads a value as an option has it: `None` where it is not one that this program writes, an empty list where there is
/// nothing to say.
pub type Read = fn(Opt, &Value) -> Option<Vec<Choice>>;

/// A path, the option that makes the value there, and its reader.
pub type Place = (&'static str, Opt, Read);

/// The pattern of a recipe whose masks are given.
pub const GIVEN: &str = "given";

/// The layout, which linears may have of their own.
pub const FORMAT: Place = ("format", Opt::Format, name);

/// Options of a recipe, by their paths in it.
pub const RECIPE: [Place; 20] = [
    ("pattern", Opt::Pattern, pattern),
    ("mask", Opt::Mask, name),
    ("refit", Opt::Refit, switch),
    ("mask_only", Opt::MaskOnly, switch),
    ("rounding.act_order", Opt::ActOrder, name),
    ("rounding.static_groups", Opt::StaticGroups, switch),
    ("rounding.search", Opt::Scales, name),
    ("spqr.scale_bits", Opt::QqScaleBits, number),
    ("spqr.zero_bits", Opt::QqZeroBits, number),
    ("spqr.second_rows", Opt::QqGroupSize, number),
    ("spqr.zero_symmetric", Opt::QqZeroSym, switch),
    ("outlier_share", Opt::OutlierShare, number),
    ("spqr.outlier_threshold", Opt::OutlierThreshold, number),
    ("spqr.permutation", Opt::PermutationOrder, name),
    ("spqr.simplified_outliers", Opt::SimplifiedOutliers, switch),
    ("spqr.round_zero", Opt::RoundZero, switch),
    ("spqr.per_channel", Opt::PerChannel, switched_off),
    ("spqr.keep_last_columns", Opt::KeepLastColumns, count),
    ("percdamp", Opt::Percdamp, number),
    ("blocksize", Opt::BlockSize, number),
];

/// Options of a run, by their paths in a plan.
pub const RUN: [Place; 26] = [
    ("masks.file", Opt::Masks, name),
    ("masks.pattern", Opt::Pattern, pattern),
    // Of what the file holds.
    ("masks.digest", Opt::Masks, |_, value| value.is_string().then(Vec::new)),
    ("allocation.bits.target", Opt::TargetBits, number),
    ("allocation.sparsity", Opt::Allocate, name),
    // Said by a size of groups, or by none.
    ("allocation.bits.free_groups", Opt::TargetBits, |_, value| value.is_boolean().then(Vec::new)),
    ("kv_cache", Opt::KvCache, cache),
    ("nsamples", Opt::Nsamples, count),
    ("seqlen", Opt::Seqlen, count),
    ("seed", Opt::Seed, number),
    ("true_sequential", Opt::TrueSequential, switch),
    ("dense_stream", Opt::DenseStream, share_or_name),
    ("reconstruct_steps", Opt::ReconstructSteps, count),
    ("layers", Opt::Layers, range),
    ("include", Opt::Include, list),
    ("ignore", Opt::Ignore, list),
    ("allow_fallback", Opt::AllowFallback, switch),
    ("skip_out_loss", Opt::SkipOutLoss, switch),
    ("config", Opt::Config, name),
    ("precision", Opt::Dtype, name),
    ("device", Opt::Device, name),
    ("max_vram", Opt::MaxVram, number),
    ("gram_precision", Opt::GramPrecision, name),
    ("offload_activations", Opt::Offload, offload),
    ("lenient", Opt::Lenient, switch),
    // What happens to an earlier output says nothing of this one.
    ("overwrite", Opt::Overwrite, |_, value| value.is_boolean().then(Vec::new)),
];

/// The options that choose grids for weights, and the quantization of inputs. `None` where no option says them.
pub fn grids(weights: &Value, input: Option<&Value>) -> Option<Vec<Choice>> {
    let own = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_default();
    let group = match own(weights, "strategy").as_str()? {
        "channel" => json!(-1),
        "group" => own(weights, "group_size"),
        _ => Value::Null,
    };
    let integers = own(weights, "type") == "int";
    let group = group.as_i64().filter(|_| integers);
    let input = input.filter(|input| !input.is_null());
    if let (Some(group), None, Some(bits)) = (group, input, own(weights, "num_bits").as_u64()) {
        let mut found = vec![Choice::new(Opt::Wbits, bits.to_string()), Choice::new(Opt::GroupSize, group.to_string())];
        if own(weights, "symmetric") == true {
            found.push(Choice::new(Opt::Sym, String::new()));
        }
        return Some(found);
    }
    // Groups may be chosen beside a scheme, and the order of visit always is.
    let fixed = |args: &Value| {
        let mut args = args.clone();
        let object = args.as_object_mut()?;
        object.remove("actorder");
        if group.is_some() {
            object.remove("group_size");
            object.remove("strategy");
        }
        Some(args)
    };
    let known = |preset: &&Preset| {
        let ours = preset.weights.as_ref().map(|args| args.to_json());
        let inputs = preset.input.as_ref().map(|args| args.to_json());
        ours.as_ref().is_some_and(|ours| fixed(ours) == fixed(weights)) && inputs.as_ref() == input
    };
    let preset = PRESETS.iter().find(known)?;
    let mut found = vec![Choice::new(Opt::Scheme, preset.name.to_string())];
    let usual = preset.weights.as_ref().map(|args| args.to_json()).unwrap_or_default();
    if let Some(group) =
        group.filter(|_| ["strategy", "group_size"].iter().any(|key| own(&usual, key) != own(weights, key)))
    {
        found.push(Choice::new(Opt::GroupSize, group.to_string()));
    }
    Some(found)
}

fn pattern(_: Opt, value: &Value) -> Option<Vec<Choice>> {
    // That masks are given is said by their file.
    if value == GIVEN {
        return Some(Vec::new());
    }
    if let Some(share) = value.get("unstructured").and_then(Value::as_f64) {
        return Some(vec![Choice::new(Opt::Sparsity, share.to_string())]);
    }
    let part = |key: &str| value.get("nof_m")?.get(key)?.as_u64();
    Some(vec![Choice::new(Opt::Pattern, format!("{}:{}", part("keep")?, part("of")?))])
}

fn number(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    let number = value.as_f64()?;
    let text = if value.is_f64() { rounded(number) } else { value.to_string() };
    Some(vec![Choice::new(option, text)])
}

/// A number to six digits that count: thresholds and shares that were found have more than anyone reads.
fn rounded(number: f64) -> String {
    if !(1e-6..1e6).contains(&number.abs()) {
        return number.to_string();
    }
    let decimals = (5.0 - number.abs().log10().floor()).max(0.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// A number that says nothing where it is 0.
fn count(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    if value.as_u64() == Some(0) { Some(Vec::new()) } else { number(option, value) }
}

/// A name; those of defaults say nothing.
fn name(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    match (option, value.as_str()?) {
        (Opt::ActOrder, "none")
        | (Opt::PermutationOrder, "identity")
        | (Opt::GramPrecision, "f32")
        | (Opt::Scales, "minmax") => Some(Vec::new()),
        (_, name) => Some(vec![Choice::new(option, name.to_string())]),
    }
}

/// A number, or a name.
fn share_or_name(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    number(option, value).or_else(|| name(option, value))
}

fn switch(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    (value == true).then(|| vec![Choice::new(option, String::new())])
}

/// A switch that is on by default.
fn switched_off(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    Some(if value.as_bool()? { Vec::new() } else { vec![Choice::new(option, "false".into())] })
}

fn offload(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    (value == true).then(|| vec![Choice::new(option, "activations".into())])
}

fn cache(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    let is_fp8 = value.get("type")? == "float" && value.get("num_bits")? == 8;
    is_fp8.then(|| vec![Choice::new(option, "fp8".into())])
}

fn range(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    let ends: Vec<u64> = value.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
    let [from, to] = ends[..] else { return None };
    Some(vec![Choice::new(option, format!("{from}..{to}"))])
}

fn list(option: Opt, value: &Value) -> Option<Vec<Choice>> {
    let names = value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    Some(names.into_iter().map(|name| Choice::new(option, name.to_string())).collect())
}
