//! Options → a [`Recipe`].

use clap::{Args, ValueEnum};
use paring::plan::method::{GPTQ, MethodInfo, RTN, SPQR};
use paring::plan::{ActOrder, Pattern, Permutation, Recipe, Rounding, Spqr, for_target_bits};
use paring::{Error, Result};
use paring_format::{Element, PRESETS, Preset, QuantArgs, Strategy};

use super::{ActOrderArg, Grids, Removal, Sweep};

/// SpQR's options, as its published script spells them (with hyphens or underscores).
#[derive(Args)]
#[command(next_help_heading = "SpQR (any of these selects --method spqr)")]
pub struct SpqrArgs {
    /// Quantize the scales again, to B bits
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub qq_scale_bits: Option<u32>,
    /// Quantize the zeros again, to B bits
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub qq_zero_bits: Option<u32>,
    /// Rows whose scales and zeros share a grid [default: 16]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true)]
    pub qq_groupsize: Option<usize>,
    /// Symmetric grids for the zeros
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub qq_zero_sym: Option<bool>,
    /// Keep a weight exact when its squared error is over this share of the weights' mean variance; inf keeps none
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub outlier_threshold: Option<f64>,
    /// Find the threshold that keeps this share of the weights exact, on a sample of the layers
    #[arg(long, value_name = "SHARE", conflicts_with = "outlier_threshold", allow_negative_numbers = true)]
    pub outlier_share: Option<f64>,
    /// Choose bits, groups and outliers for this many bits per weight on disk
    #[arg(
        long,
        value_name = "BITS",
        conflicts_with_all = ["outlier_share", "outlier_threshold", "qq_scale_bits", "qq_zero_bits", "qq_groupsize"],
        allow_negative_numbers = true
    )]
    pub target_bits: Option<f64>,
    /// The order in which columns are visited [default: identity]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub permutation_order: Option<PermutationArg>,
    /// Fit grids to all weights of a group, without looking for likely outliers first
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub simplified_outliers: Option<bool>,
    /// Round zeros to whole numbers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub round_zero: Option<bool>,
    /// Correct but don't round the last N columns visited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_last_columns: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PermutationArg {
    /// As in the file
    Identity,
    /// By falling Gram diagonal
    #[value(name = "act_order", alias = "act-order")]
    ActOrder,
    /// Columns whose weights rank alike side by side
    Spearman,
}

impl SpqrArgs {
    /// Whether one of them was given.
    pub fn any(&self) -> bool {
        self.qq_scale_bits.is_some()
            || self.qq_zero_bits.is_some()
            || self.qq_groupsize.is_some()
            || self.qq_zero_sym == Some(true)
            || self.outlier_threshold.is_some()
            || self.outlier_share.is_some()
            || self.target_bits.is_some()
            || self.permutation_order.is_some()
            || self.simplified_outliers == Some(true)
            || self.round_zero == Some(true)
            || self.keep_last_columns.is_some()
    }

    /// These settings, with those that were not given as `base` has them.
    pub fn settings(&self, per_channel: Option<bool>, base: Spqr) -> Spqr {
        Spqr {
            scale_bits: self.qq_scale_bits.or(base.scale_bits),
            zero_bits: self.qq_zero_bits.or(base.zero_bits),
            second_rows: self.qq_groupsize.unwrap_or(base.second_rows),
            zero_symmetric: self.qq_zero_sym.unwrap_or(base.zero_symmetric),
            outlier_threshold: self
                .outlier_threshold
                .map_or(base.outlier_threshold, |t| Some(t).filter(|t| *t != f64::INFINITY)),
            permutation: match self.permutation_order {
                None => base.permutation,
                Some(PermutationArg::Identity) => Permutation::Identity,
                Some(PermutationArg::ActOrder) => Permutation::ActOrder,
                Some(PermutationArg::Spearman) => Permutation::Spearman,
            },
            simplified_outliers: self.simplified_outliers.unwrap_or(base.simplified_outliers),
            round_zero: self.round_zero.unwrap_or(base.round_zero),
            per_channel: per_channel.unwrap_or(base.per_channel),
            keep_last_columns: self.keep_last_columns.unwrap_or(base.keep_last_columns),
        }
    }
}

/// The recipe of quantize, and the share of outliers when a threshold must be found for it.
pub fn quantizing(args: &super::QuantizeArgs) -> Result<(Recipe, Option<f64>)> {
    let method = args.method.as_deref();
    let Some(target) = args.spqr.target_bits else {
        if args.grids.wbits.is_none() && args.grids.scheme.is_none() {
            return Err(Error::Misuse("quantize needs --wbits B, --scheme NAME, or --target-bits BITS".into()));
        }
        let recipe = recipe(method, None, &args.grids, Some(&args.spqr), &args.sweep)?;
        return Ok((recipe, args.spqr.outlier_share));
    };
    if args.grids.wbits.is_some() || args.grids.scheme.is_some() || args.grids.groupsize.is_some() {
        return Err(Error::Misuse(
            "--target-bits chooses --wbits and --groupsize itself, and takes no --scheme".into(),
        ));
    }
    let (rounding, chosen, share) = for_target_bits(target)?;
    let groupsize = rounding.group_size().map_or(-1, |size| size as i64);
    let grids = Grids { wbits: Some(rounding.element.bits()), groupsize: Some(groupsize), ..args.grids.clone() };
    let mut recipe = recipe(method, None, &grids, Some(&args.spqr), &args.sweep)?;
    if let Some(spqr) = &mut recipe.spqr {
        let order = args.spqr.permutation_order.map(|_| spqr.permutation.clone());
        let Spqr { scale_bits, zero_bits, second_rows, permutation, .. } = chosen;
        let permutation = order.unwrap_or(permutation);
        *spqr = Spqr { scale_bits, zero_bits, second_rows, permutation, ..spqr.clone() };
    }
    recipe.check()?;
    Ok((recipe, Some(share)))
}

/// The recipe behind a method's name and options. Without a name it is gptq, spqr when one of its options is given, or
/// what is usual for the scheme.
pub fn recipe(
    method: Option<&str>,
    removal: Option<&Removal>,
    grids: &Grids,
    spqr: Option<&SpqrArgs>,
    sweep: &Sweep,
) -> Result<Recipe> {
    let asked = spqr.is_some_and(SpqrArgs::any);
    let preset = grids.scheme.as_deref().map(preset).transpose()?;
    let usual = match preset {
        _ if asked => &SPQR,
        Some(preset) => usual_method(preset),
        None => &GPTQ,
    };
    let info = method.map_or(Ok(usual), MethodInfo::named)?;
    let quantizes = grids.wbits.is_some() || preset.is_some();
    if !quantizes && (grids.groupsize.is_some() || [grids.sym, grids.mse, grids.static_groups].contains(&Some(true))) {
        return Err(Error::Misuse("--groupsize, --sym, --mse and --static-groups need --wbits or --scheme".into()));
    }
    if !info.spqr && grids.perchannel == Some(false) {
        return Err(Error::Misuse(format!("--perchannel=false: {} always has a grid per row", info.name)));
    }
    if let Some(preset) = preset.filter(|_| info.spqr) {
        return Err(Error::Misuse(format!(
            "--scheme {}: {info} keeps outliers and fractional zeros, which no scheme has; choose --wbits and --groupsize",
            preset.name
        )));
    }
    let weights = match preset {
        Some(Preset { name, weights: None, .. }) => {
            return Err(Error::Misuse(format!("--scheme {name} leaves the weights as they are")));
        }
        Some(preset) => preset.weights.as_ref().map(Rounding::of),
        None => grids.wbits.map(|bits| Rounding::int(bits, None)),
    };
    let refined = |rounding| refined(rounding, grids, preset.map(|p| p.name));
    let recipe = Recipe {
        method: info,
        pattern: removal.and_then(Removal::chosen),
        rounding: weights.map(refined).transpose()?,
        spqr: spqr.filter(|_| asked || info.spqr).map(|s| s.settings(grids.perchannel, Spqr::default())),
        input: preset.and_then(|preset| preset.input.clone()),
        percdamp: sweep.percdamp.unwrap_or(0.01),
        blocksize: sweep.blocksize.unwrap_or(128),
    };
    recipe.check()?;
    Ok(recipe)
}

/// The scheme of this name.
pub fn preset(name: &str) -> Result<&'static Preset> {
    Preset::find(name).ok_or_else(|| {
        let near = near(name, PRESETS.iter().map(|preset| preset.name));
        let near = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
        Error::Misuse(format!("--scheme {name}: unknown{near}; `paring schemes` lists them"))
    })
}

/// Those of `names` that are nearest to one that is none of them, if they are near enough to be meant.
fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // No name is that long, and distances take the time of both lengths.
    let plain = |name: &str| name.chars().take(32).filter(char::is_ascii_alphanumeric).collect::<String>();
    let typed = plain(name).to_ascii_uppercase();
    let apart: Vec<(usize, &str)> = names.map(|known| (distance(&typed, &plain(known)), known)).collect();
    let least = apart.iter().map(|(apart, _)| *apart).min().filter(|&least| least <= 2);
    apart.into_iter().filter(|(apart, _)| Some(*apart) == least).map(|(_, known)| known).collect()
}

/// Characters to insert, remove or replace, or neighbours to swap, until `a` is `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// How a scheme is made when nobody says: 8-bit floats lose little when they are only rounded, which needs no data; for
/// all others the errors are worth moving.
pub fn usual_method(preset: &Preset) -> &'static MethodInfo {
    match preset.weights.as_ref().map(|weights| weights.element) {
        Some(Element::E4m3) => &RTN,
        _ => &GPTQ,
    }
}

/// A rounding with the options that refine it. `scheme` is where it comes from, if from one.
pub fn refined(base: Rounding, grids: &Grids, scheme: Option<&str>) -> Result<Rounding> {
    let fail = |text: String| Err(Error::Misuse(text));
    let strategy = match grids.groupsize {
        None => base.strategy,
        Some(g) if base.element.int_bits().is_none() => {
            let of = scheme.map_or("floats".to_string(), |name| format!("--scheme {name}"));
            return fail(format!("--groupsize {g}: {of} has its own scales; groups can be chosen for integers"));
        }
        Some(-1) => Strategy::Channel,
        Some(g) => match usize::try_from(g) {
            Ok(g) => Strategy::Group(g),
            Err(_) => return fail(format!("--groupsize {g}: must be -1 or more than 0")),
        },
    };
    if grids.perchannel == Some(true) && matches!(strategy, Strategy::Tensor | Strategy::Block(..)) {
        let of = scheme.map_or("the others".to_string(), |name| format!("--scheme {name}"));
        return fail(format!("--perchannel: {of} has no grid per row"));
    }
    match (grids.sym, scheme) {
        (Some(sym), Some(name)) if sym != base.symmetric => {
            return fail(format!("--sym={sym}: --scheme {name} is {}symmetric", if sym { "a" } else { "" }));
        }
        (Some(false), None) if base.element.int_bits().is_none() => {
            return fail("--sym=false: floats have no zero points".into());
        }
        _ => {}
    }
    Ok(Rounding {
        strategy,
        symmetric: grids.sym.unwrap_or(base.symmetric),
        mse: grids.mse.unwrap_or(base.mse),
        static_groups: grids.static_groups.unwrap_or(base.static_groups),
        act_order: match grids.actorder {
            None => base.act_order,
            Some(ActOrderArg::None) => ActOrder::None,
            Some(ActOrderArg::Static) => ActOrder::Static,
            Some(ActOrderArg::Group) => ActOrder::Group,
        },
        ..base
    })
}

impl Removal {
    /// What is removed.
    pub fn chosen(&self) -> Option<Pattern> {
        self.pattern.or(self.sparsity.map(Pattern::Unstructured))
    }
}

/// Types of an attention's cache.
#[derive(Clone, Copy, ValueEnum)]
pub enum KvCacheArg {
    /// 8-bit floats, one scale for a layer's keys and one for its values
    Fp8,
}

impl KvCacheArg {
    /// The same as a config says it.
    pub fn args(self) -> QuantArgs {
        match self {
            KvCacheArg::Fp8 => QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::E4m3) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_those_of_schemes_are_told() {
        for (typed, expected) in [
            ("W4A61", "near it: W4A16;"),
            ("w4-a16", "near it: W4A16;"),
            ("FP8-DYNAMC", "near it: FP8_DYNAMIC;"),
            ("NVPF4", "near it: NVFP4;"),
            ("int9", "near it: INT8;"),
        ] {
            let error = preset(typed).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("`paring schemes`"), "{error}");
        }
        let error = preset("something else").unwrap_err().to_string();
        assert_eq!(error, "--scheme something else: unknown; `paring schemes` lists them");
        assert!(preset(&"W".repeat(100_000)).is_err());
        assert_eq!(preset("w4a16").unwrap().name, "W4A16");
    }
}
