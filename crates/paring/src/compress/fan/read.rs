//! The first stage: a fan's linears as the checkpoint has them.

use paring_model::LinearInfo;
use rayon::prelude::*;

use super::super::encode::Encoded;
use super::super::given::removed;
use super::Context;
use crate::Result;
use crate::methods::{Matrix, Stored, shared_amax};
use crate::plan::Recipe;

/// The linears of a fan that was read.
pub(in crate::compress) struct Read<'a> {
    /// Linears that are not compressed, as they go into the shard.
    pub kept: Vec<Encoded>,
    /// The others.
    pub linears: Vec<Loaded<'a>>,
}

/// A linear with its weight and what is chosen for it.
pub(in crate::compress) struct Loaded<'a> {
    pub info: LinearInfo,
    /// The number of its choice.
    pub choice: usize,
    pub recipe: &'a Recipe,
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// Weights that are exactly zero.
    pub zeros: usize,
    pub stored: Stored,
    /// The mask that is given, a 1 for each weight that goes.
    pub given: Option<Vec<u8>>,
}

impl Loaded<'_> {
    /// The matrix to compress.
    pub fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.weight, self.stored, &self.info.name).under(self.given.as_deref())
    }
}

/// Reads the linears of a fan, all at once.
pub(super) fn read<'a>(context: Context<'a>, linears: &[LinearInfo]) -> Result<Read<'a>> {
    let chosen = |linear: &&LinearInfo| context.selection.contains(&linear.name);
    let kept = linears.iter().filter(|linear| !chosen(linear)).map(|linear| keep(context, linear));
    let kept = kept.collect::<Result<_>>()?;
    let chosen: Vec<&LinearInfo> = linears.iter().filter(chosen).collect();
    let mut linears: Vec<Loaded<'a>> =
        chosen.into_par_iter().map(|linear| load(context, linear)).collect::<Result<_>>()?;
    let weights: Vec<(&LinearInfo, &Recipe, &[f32])> =
        linears.iter().map(|linear| (&linear.info, linear.recipe, linear.weight.as_slice())).collect();
    let shared = shared_amax(&weights);
    linears.iter_mut().zip(shared).for_each(|(linear, amax)| linear.stored.amax = amax);
    Ok(Read { kept, linears })
}

/// A linear that is not compressed.
fn keep(context: Context<'_>, linear: &LinearInfo) -> Result<Encoded> {
    let stored = context.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
    context.encoder.kept(&linear.name, stored)
}

fn load<'a>(context: Context<'a>, linear: &LinearInfo) -> Result<Loaded<'a>> {
    let (choice, recipe) = context.choice(&linear.name)?;
    let stored = context.checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
    let dtype = stored.dtype;
    let weight = stored.into_dense();
    Ok(Loaded {
        info: linear.clone(),
        choice,
        recipe,
        stored: context.encoder.kind(choice)?.stored(dtype),
        zeros: zeros(&weight),
        given: context.masks.map(|masks| removed(masks, linear)).transpose()?,
        weight,
    })
}

/// Weights that are exactly zero.
pub(in crate::compress) fn zeros(weight: &[f32]) -> usize {
    weight.iter().filter(|&&v| v == 0.0).count()
}
