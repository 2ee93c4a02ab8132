//! The numbers of a unit that train, and their way into a block and out of its gradients.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::{Checkpoint, Dtype};
use paring_model::weight::Dense;
use paring_model::{Adapted, Block, BlockInfo, Decoder, Ending, Gradients, LinearGradient};

use super::head::VOCAB_CHUNK;
use super::kept::Kept;
use super::pair::{Pair, targeted};
use super::settings::{Settings, Subject};
use crate::{Error, Precision, Result};

/// The place of a parameter in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The matrix of a linear of a block.
    Matrix { fan: usize, at: usize },
    /// Its bias.
    Bias { fan: usize, at: usize },
    /// A stored tensor of a norm of a block, or of the norm before the head (norm 0 of its unit).
    Norm { norm: usize, at: usize },
    /// Both matrices of a pair beside a linear of a block.
    Pair { fan: usize, at: usize },
    /// Rows of a head, from this one on.
    Rows { first: usize },
}

/// A tensor that trains, or a part of one.
pub(super) struct Parameter {
    /// Name of the tensor; of a pair the module of its linear.
    pub name: String,
    pub role: Role,
    /// Numbers in the store.
    pub count: usize,
    /// The entries that train, where not all of the matrix's do.
    pub kept: Option<Kept>,
    /// The type in the file.
    pub dtype: Dtype,
    /// The sizes and the base's mask, of a pair.
    pub pair: Option<Pair>,
}

impl Parameter {
    /// True if Adam's decay applies.
    pub fn decays(&self) -> bool {
        !matches!(self.role, Role::Bias { .. } | Role::Norm { .. })
    }

    /// All entries of the tensor, for its stored numbers.
    fn expand(&self, values: &[f32]) -> Vec<f32> {
        self.kept.as_ref().map_or_else(|| values.to_vec(), |kept| kept.expand(values))
    }

    /// All entries as a file holds them.
    pub fn rounded(&self, values: &[f32]) -> Vec<f32> {
        self.expand(values).into_iter().map(|v| self.dtype.round(v)).collect()
    }

    /// The numbers that train, of all entries of the tensor.
    fn select(&self, dense: Vec<f32>) -> Vec<f32> {
        match &self.kept {
            Some(kept) => kept.select(&dense),
            None => dense,
        }
    }
}

/// The parameters of a unit, in the order of the store.
pub(super) struct Unit {
    pub parameters: Vec<Parameter>,
}

impl Unit {
    /// Numbers in the store.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.count).sum()
    }

    /// The parameters with their parts of what the store has.
    pub fn parts<'a>(&'a self, values: &'a [f32]) -> impl Iterator<Item = (&'a Parameter, &'a [f32])> {
        let mut rest = values;
        self.parameters.iter().map(move |parameter| {
            let (own, others) = rest.split_at(parameter.count);
            rest = others;
            (parameter, own)
        })
    }

    /// Entries of matrices that are 0.
    pub fn zeros(&self, values: &[f32]) -> usize {
        let matrices = self.parts(values).filter(|(parameter, _)| matches!(parameter.role, Role::Matrix { .. }));
        matrices.map(|(parameter, own)| parameter.rounded(own).iter().filter(|v| **v == 0.0).count()).sum()
    }

    /// All that trains of a block, and its first values: matrices, norms and biases. With `masked`, entries that are 0 do not.
    pub fn of_block(
        checkpoint: &Checkpoint,
        (info, block): (&BlockInfo, &mut dyn Block),
        masked: bool,
    ) -> Result<(Self, Vec<f32>)> {
        let dtype = |name: &str| checkpoint.info(name).map_or(Dtype::F32, |info| info.dtype);
        let (mut parameters, mut values) = (Vec::new(), Vec::new());
        let mut add = |name: String, role: Role, kept: Option<Kept>, own: Vec<f32>, dtype: Dtype| {
            parameters.push(Parameter { name, role, count: own.len(), kept, dtype, pair: None });
            values.extend(own);
        };
        let mut linears = info.linears.iter();
        for (fan, of_fan) in block.fans().into_iter().enumerate() {
            for at in 0..of_fan.linears.len() {
                let linear = linears
                    .next()
                    .ok_or_else(|| Error::Plan(format!("a linear of {} that is not known", of_fan.name)))?;
                let matrix = checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
                let (stored, dense) = (matrix.dtype, matrix.into_dense());
                let kept = masked.then(|| Kept::of(&dense)).filter(|kept| kept.count() < dense.len());
                let own = kept.as_ref().map_or_else(|| dense.clone(), |kept| kept.select(&dense));
                add(format!("{}.weight", linear.name), Role::Matrix { fan, at }, kept, own, stored);
                if let Some(bias) = &of_fan.linears[at].bias {
                    let name = format!("{}.bias", linear.name);
                    let (own, dtype) = (checkpoint.read_f32(&name, bias.dims())?, dtype(&name));
                    add(name, Role::Bias { fan, at }, None, own, dtype);
                }
            }
        }
        for (norm, info) in info.norms.iter().enumerate() {
            for (at, name) in info.tensors.iter().enumerate() {
                let own = checkpoint.read_f32(name, &[info.dim])?;
                add(name.clone(), Role::Norm { norm, at }, None, own, dtype(name));
            }
        }
        Ok((Self { parameters }, values))
    }

    /// Puts values into a block: weights rounded to the types of their file where `rounded` says so, or as they train. Pairs
    /// are added to the weights that are there.
    pub fn install(
        &self,
        values: &[f32],
        block: &mut dyn Block,
        (rounded, precision): (bool, Precision),
    ) -> Result<()> {
        let seen = |parameter: &Parameter, own: &[f32]| match rounded {
            true => parameter.rounded(own),
            false => parameter.expand(own),
        };
        for (parameter, own) in self.parts(values) {
            match parameter.role {
                Role::Matrix { fan, at } => {
                    let mut fans = block.fans();
                    let linear = &mut fans[fan].linears[at];
                    let weight = Dense::on(&Device::Cpu, linear.rows, linear.cols, seen(parameter, own), precision)?;
                    linear.weight = Arc::new(weight);
                }
                Role::Bias { fan, at } => {
                    let (values, mut fans) = (seen(parameter, own), block.fans());
                    fans[fan].linears[at].bias = Some(vector(values)?);
                }
                Role::Norm { norm, at } => {
                    let (values, mut norms) = (seen(parameter, own), block.norms());
                    *norms[norm].tensors()[at] = vector(values)?;
                }
                Role::Pair { fan, at } => {
                    let Some(pair) = &parameter.pair else { continue };
                    let mut fans = block.fans();
                    let linear = &mut fans[fan].linears[at];
                    linear.weight = match pair.kept {
                        None => Arc::new(Adapted::new(Arc::clone(&linear.weight), &pair.factors(own)?, &Device::Cpu)?),
                        Some(_) => {
                            let base = linear.weight.dense()?.flatten_all()?.to_vec1::<f32>()?;
                            let weight = pair.added(base, own);
                            Arc::new(Dense::on(&Device::Cpu, linear.rows, linear.cols, weight, precision)?)
                        }
                    };
                }
                Role::Rows { .. } => {}
            }
        }
        Ok(())
    }

    /// The gradients of the parameters of a block, in the order of the store, for those of all of the block. `values` are those of the
    /// pass.
    pub fn gradients(&self, values: &[f32], gradients: Gradients) -> Result<Vec<f32>> {
        let Gradients { fans, norms } = gradients;
        let mut fans: Vec<Vec<Option<LinearGradient>>> =
            fans.into_iter().map(|fan| fan.into_iter().map(Some).collect()).collect();
        let mut all = Vec::with_capacity(values.len());
        // A matrix's gradient is taken first, and with it that of the bias.
        let mut biases: Vec<((usize, usize), Vec<f32>)> = Vec::new();
        let gone = || Error::Plan("gradients of another block".into());
        for (parameter, own) in self.parts(values) {
            match parameter.role {
                Role::Matrix { fan, at } => {
                    let taken = fans[fan][at].take().ok_or_else(gone)?;
                    biases.extend(taken.bias.map(|bias| ((fan, at), bias)));
                    all.extend(parameter.select(taken.weight.finish(1.0)));
                }
                Role::Bias { fan, at } => {
                    let bias = biases.iter_mut().find(|(of, _)| *of == (fan, at)).ok_or_else(gone)?;
                    all.append(&mut bias.1);
                }
                Role::Norm { norm, at } => all.extend_from_slice(&norms[norm][at]),
                Role::Pair { fan, at } => {
                    let pair = parameter.pair.as_ref().ok_or_else(gone)?;
                    let taken = fans[fan][at].take().ok_or_else(gone)?;
                    all.extend(pair.gradients(own, taken.weight.finish(1.0))?);
                }
                Role::Rows { .. } => return Err(gone()),
            }
        }
        Ok(all)
    }
}

/// A vector on the CPU.
pub(super) fn vector(values: Vec<f32>) -> Result<Tensor> {
    let len = values.len();
    Ok(Tensor::from_vec(values, len, &Device::Cpu)?)
}

/// A matrix `[rows, cols]` on the CPU.
pub(super) fn matrix(values: Vec<f32>, rows: usize, cols: usize) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, (rows, cols), &Device::Cpu)?)
}

/// Takes the weights of all linears out of a block.
pub(super) fn empty(block: &mut dyn Block, precision: Precision) -> Result<()> {
    for fan in block.fans() {
        for linear in &mut fan.linears {
            linear.weight = Arc::new(Dense::on(&Device::Cpu, 0, 0, Vec::new(), precision)?);
        }
    }
    Ok(())
}

/// The pairs beside the linears of block `i`, and their first values.
pub(super) fn pairs((i, block): (usize, &mut dyn Block), settings: &Settings) -> Result<(Unit, Vec<f32>)> {
    let Subject::Adapter { rank, alpha, targets, masked } = &settings.subject else {
        return Ok((Unit { parameters: Vec::new() }, Vec::new()));
    };
    let (mut parameters, mut values) = (Vec::new(), Vec::new());
    for (fan, of_fan) in block.fans().into_iter().enumerate() {
        for (at, linear) in of_fan.linears.iter().enumerate() {
            if !targeted(targets, &linear.name) {
                continue;
            }
            let kept = match masked {
                true => Some(Kept::of(&linear.weight.dense()?.flatten_all()?.to_vec1::<f32>()?)),
                false => None,
            };
            let scale = (alpha / *rank as f64) as f32;
            let pair = Pair { rows: linear.rows, cols: linear.cols, rank: *rank, scale, kept };
            let number = (i as u64) << 32 | (fan as u64) << 16 | at as u64;
            values.extend(pair.start(settings.seed, number));
            let (name, count, pair) = (linear.name.clone(), pair.count(), Some(pair));
            parameters.push(Parameter {
                name,
                role: Role::Pair { fan, at },
                count,
                kept: None,
                dtype: Dtype::F32,
                pair,
            });
        }
    }
    Ok((Unit { parameters }, values))
}

/// The units after the blocks: the norm before the head, and the head in pieces where it is a matrix of its own.
pub(super) fn of_ending(student: &dyn Decoder, ending: &Ending<'_>) -> Result<Vec<(Unit, Vec<f32>)>> {
    let (outer, checkpoint) = (student.outer(), student.checkpoint());
    let dtype = |name: &str| checkpoint.info(name).map_or(Dtype::F32, |info| info.dtype);
    let (mut parameters, mut values) = (Vec::new(), Vec::new());
    for (at, name) in outer.norms.iter().enumerate() {
        let shape = checkpoint.info(name).map(|info| info.shape.clone()).unwrap_or_default();
        let own = checkpoint.read_f32(name, &shape)?;
        let role = Role::Norm { norm: 0, at };
        parameters.push(Parameter {
            name: name.clone(),
            role,
            count: own.len(),
            kept: None,
            dtype: dtype(name),
            pair: None,
        });
        values.extend(own);
    }
    let mut units = vec![(Unit { parameters }, values)];
    let head = format!("{}.weight", outer.head);
    if !ending.has_own_head() {
        return Ok(units);
    }
    let (vocab, _) = ending.sizes();
    for first in (0..vocab).step_by(VOCAB_CHUNK) {
        let own = ending.rows(first, VOCAB_CHUNK.min(vocab - first))?;
        let (name, role) = (head.clone(), Role::Rows { first });
        let parameter = Parameter { name, role, count: own.len(), kept: None, dtype: dtype(&head), pair: None };
        units.push((Unit { parameters: vec![parameter] }, own));
    }
    if units.len() == 1 {
        return Err(Error::Plan("a head without rows".into()));
    }
    Ok(units)
}
