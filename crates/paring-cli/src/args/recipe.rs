//! Options → a [`Recipe`].

use clap::{Args, ValueEnum};
use paring::methods::METHODS;
use paring::plan::{ActOrder, Pattern, Permutation, Recipe, Rounding, Spqr, for_target_bits};
use paring::{Error, Result};

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
    #[arg(long)]
    pub qq_zero_sym: bool,
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
    #[arg(long)]
    pub simplified_outliers: bool,
    /// Round zeros to whole numbers
    #[arg(long)]
    pub round_zero: bool,
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
            || self.qq_zero_sym
            || self.outlier_threshold.is_some()
            || self.outlier_share.is_some()
            || self.target_bits.is_some()
            || self.permutation_order.is_some()
            || self.simplified_outliers
            || self.round_zero
            || self.keep_last_columns.is_some()
    }

    fn settings(&self, per_channel: bool) -> Spqr {
        Spqr {
            scale_bits: self.qq_scale_bits,
            zero_bits: self.qq_zero_bits,
            second_rows: self.qq_groupsize.unwrap_or(Spqr::default().second_rows),
            zero_symmetric: self.qq_zero_sym,
            outlier_threshold: self.outlier_threshold.filter(|t| *t != f64::INFINITY),
            permutation: match self.permutation_order {
                None | Some(PermutationArg::Identity) => Permutation::Identity,
                Some(PermutationArg::ActOrder) => Permutation::ActOrder,
                Some(PermutationArg::Spearman) => Permutation::Spearman,
            },
            simplified_outliers: self.simplified_outliers,
            round_zero: self.round_zero,
            per_channel,
            keep_last_columns: self.keep_last_columns.unwrap_or(0),
        }
    }
}

/// The recipe of quantize, and the share of outliers when a threshold must be found for it.
pub fn quantizing(args: &super::QuantizeArgs) -> Result<(Recipe, Option<f64>)> {
    let method = args.method.as_deref();
    let Some(target) = args.spqr.target_bits else {
        if args.grids.wbits.is_none() {
            return Err(Error::Misuse("quantize needs --wbits B, or --target-bits BITS".into()));
        }
        let recipe = recipe(method, None, &args.grids, Some(&args.spqr), &args.sweep)?;
        return Ok((recipe, args.spqr.outlier_share));
    };
    if args.grids.wbits.is_some() || args.grids.groupsize != -1 {
        return Err(Error::Misuse("--target-bits chooses --wbits and --groupsize itself".into()));
    }
    let (rounding, chosen, share) = for_target_bits(target)?;
    let groupsize = rounding.group_size().map_or(-1, |size| size as i64);
    let grids = Grids { wbits: Some(rounding.element.bits()), groupsize, ..args.grids.clone() };
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

/// The recipe behind a method's name and options. Without a name it is gptq, or spqr when one of its options is given.
pub fn recipe(
    method: Option<&str>,
    removal: Option<&Removal>,
    grids: &Grids,
    spqr: Option<&SpqrArgs>,
    sweep: &Sweep,
) -> Result<Recipe> {
    let asked = spqr.is_some_and(SpqrArgs::any);
    let method = method.unwrap_or(if asked { "spqr" } else { "gptq" });
    let info = METHODS.iter().find(|m| m.name == method);
    let info = info.ok_or_else(|| Error::Misuse(format!("unknown method {method}")))?;
    let group_size = match grids.groupsize {
        -1 => None,
        g => {
            Some(usize::try_from(g).map_err(|_| Error::Misuse(format!("--groupsize {g}: must be -1 or more than 0")))?)
        }
    };
    if grids.wbits.is_none() && (group_size.is_some() || grids.sym || grids.mse || grids.static_groups) {
        return Err(Error::Misuse("--groupsize, --sym, --mse and --static-groups need --wbits".into()));
    }
    if method != "spqr" && !grids.perchannel {
        return Err(Error::Misuse(format!("--perchannel=false: {method} always has a grid per row")));
    }
    let act_order = match grids.actorder {
        ActOrderArg::None => ActOrder::None,
        ActOrderArg::Static => ActOrder::Static,
        ActOrderArg::Group => ActOrder::Group,
    };
    let rounding = grids.wbits.map(|bits| Rounding {
        symmetric: grids.sym,
        mse: grids.mse,
        static_groups: grids.static_groups,
        act_order,
        ..Rounding::int(bits, group_size)
    });
    let recipe = Recipe {
        method: info.name,
        pattern: removal.and_then(|r| r.pattern.or(r.sparsity.map(Pattern::Unstructured))),
        rounding,
        spqr: spqr.filter(|_| asked || method == "spqr").map(|s| s.settings(grids.perchannel)),
        input: None,
        percdamp: sweep.percdamp,
        blocksize: sweep.blocksize,
    };
    recipe.check()?;
    Ok(recipe)
}
