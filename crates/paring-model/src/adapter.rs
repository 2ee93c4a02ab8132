//! Adapters of rank r on the linears of a model: what a weight multiplies with, plus s · B (A x) (Hu et al. 2021, section 4.1).

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::{Adapter, Pair, near};
use paring_kernels::low_rank;
use paring_kernels::matmul::InputGradient;
use paring_kernels::plain::add;

use crate::weight::one_by_one;
use crate::{Dense, Error, LinearInfo, OuterInfo, Precision, Result, Weight};

/// A weight of any kind with the change of an adapter, which is kept apart: sums of its products are f32, of inputs that are not
/// rounded.
pub struct Adapted {
    base: Arc<dyn Weight>,
    /// `None` for a linear that only shares its input with one that is adapted.
    change: Option<Change>,
}

/// The factors, as matrices.
struct Change {
    /// `[rank, cols]`.
    a: Dense,
    /// `[rows, rank]`, with the scale in it.
    b: Dense,
}

impl Adapted {
    /// `base` with the change of `pair`, for activations on `device`. Errors when the device does; products err where `pair` is of
    /// another shape than `base`.
    pub fn new(base: Arc<dyn Weight>, pair: &Pair, device: &Device) -> Result<Self> {
        let Pair { rank, rows, cols, ref a, ref b, scale } = *pair;
        let scaled = b.iter().map(|&value| scale * value).collect();
        let change = Change {
            a: Dense::on(device, rank, cols, a.clone(), Precision::F32)?,
            b: Dense::on(device, rows, rank, scaled, Precision::F32)?,
        };
        Ok(Self { base, change: Some(change) })
    }

    /// `base` as it is, so that it can be multiplied together with adapted weights of its fan.
    pub(crate) fn beside(base: Arc<dyn Weight>) -> Self {
        Self { base, change: None }
    }

    /// A weight of this kind.
    pub(crate) fn of(weight: &dyn Weight) -> Option<&Adapted> {
        (weight as &dyn Any).downcast_ref()
    }

    /// `y [.., rows]` plus the change's product with `x [.., cols]`.
    fn add_change(&self, x: &Tensor, y: Tensor) -> Result<Tensor> {
        match &self.change {
            Some(Change { a, b }) => b.matmul_onto(&a.matmul(x)?, None, &y),
            None => Ok(y),
        }
    }
}

impl Weight for Adapted {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        self.add_change(x, self.base.matmul(x)?)
    }

    fn dense(&self) -> Result<Tensor> {
        let base = self.base.dense()?;
        let Some(Change { a, b }) = &self.change else { return Ok(base) };
        let [rank, cols] = dims(&a.dense()?)?;
        let change = low_rank::change(&flat(a)?, &flat(b)?, 1.0, (rank, cols));
        Ok(add(&base, &Tensor::from_vec(change, base.shape(), base.device())?)?)
    }

    fn matmul_each(&self, others: &[&dyn Weight], x: &Tensor) -> Result<Vec<Tensor>> {
        let rest: Option<Vec<&Adapted>> = others.iter().map(|&other| Self::of(other)).collect();
        let Some(rest) = rest else { return one_by_one(self, others, x) };
        let bases: Vec<&dyn Weight> = rest.iter().map(|adapted| &*adapted.base).collect();
        let products = self.base.matmul_each(&bases, x)?;
        let adapted = std::iter::once(self).chain(rest);
        adapted.zip(products).map(|(adapted, y)| adapted.add_change(x, y)).collect()
    }

    fn matmul_onto(&self, x: &Tensor, bias: Option<&Tensor>, onto: &Tensor) -> Result<Tensor> {
        self.add_change(x, self.base.matmul_onto(x, bias, onto)?)
    }

    fn add_input_gradient(&self, dy: &Tensor, sum: &mut InputGradient) -> Result<()> {
        self.base.add_input_gradient(dy, sum)?;
        let Some(Change { a, b }) = &self.change else { return Ok(()) };
        let [rank, _] = dims(&a.dense()?)?;
        let mut shape = dy.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = rank;
        }
        let mut between = InputGradient::new(&shape);
        between.add(dy, &flat(b)?)?;
        Ok(sum.add(&between.finish()?, &flat(a)?)?)
    }
}

fn flat(weight: &Dense) -> Result<Vec<f32>> {
    Ok(weight.dense()?.flatten_all()?.to_vec1()?)
}

fn dims(matrix: &Tensor) -> Result<[usize; 2]> {
    Ok(matrix.dims2().map(|(rows, cols)| [rows, cols])?)
}

/// The pair that an adapter has for a model's linear, and the path under which it has it. Paths of the same linear may begin with
/// more or less of the model around it: of PEFT's path and ours, one ends in the other.
pub fn pair_of<'a>(adapter: &'a Adapter, module: &str) -> Option<(&'a str, &'a Pair)> {
    let named = |(path, pair): (&'a String, &'a Pair)| (path.as_str(), pair);
    let exact = adapter.pairs.get_key_value(module).map(named);
    exact.or_else(|| adapter.pairs.iter().find(|(path, _)| is_end(path, module) || is_end(module, path)).map(named))
}

/// True if a path ends in a dot and `end`.
fn is_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.ends_with('.'))
}

/// Checks that each pair of an adapter belongs to one of the `linears` and is of its shape. Returns a remark on linears that its
/// settings mean and that it has no factors for.
///
/// # Errors
/// In one line that names the module: on one that is no linear of a block, with the nearest that there are; on another shape; on two
/// pairs for one linear.
pub fn check(adapter: &Adapter, linears: &[LinearInfo], outer: &OuterInfo) -> Result<Option<String>> {
    let place = adapter.place.display().to_string();
    let mut taken: BTreeMap<&str, &LinearInfo> = BTreeMap::new();
    let mut bare = Vec::new();
    for linear in linears {
        match pair_of(adapter, &linear.name) {
            Some((path, pair)) => {
                let (expected, got) = ([linear.rows, linear.cols], [pair.rows, pair.cols]);
                if expected != got {
                    return Err(Error::AdapterShape { place, module: path.to_string(), expected, got });
                }
                if let Some(other) = taken.insert(path, linear) {
                    let hint =
                        format!("it means {} and {}; use the base model it was trained on", other.name, linear.name);
                    return Err(Error::AdapterModule { place, module: path.to_string(), hint });
                }
            }
            None if adapter.config.modules.cover(&linear.name)? => bare.push(linear.name.as_str()),
            None => {}
        }
    }
    if let Some(module) = adapter.pairs.keys().find(|path| !taken.contains_key(path.as_str())) {
        return Err(Error::AdapterModule { place, module: module.clone(), hint: hint(module, linears, outer) });
    }
    let remark = || {
        let first = bare.first().copied().unwrap_or_default();
        format!(
            "{place}: its target_modules mean {} linear(s) without factors, such as {first}: they stay as they are",
            bare.len()
        )
    };
    Ok((!bare.is_empty()).then(remark))
}

/// Advice on a module that is none of the linears.
fn hint(module: &str, linears: &[LinearInfo], outer: &OuterInfo) -> String {
    let around =
        outer.embeddings.iter().map(|name| name.strip_suffix(".weight").unwrap_or(name)).chain([outer.head.as_str()]);
    if around.clone().any(|name| name == module || is_end(module, name) || is_end(name, module)) {
        return "adapters of embeddings and heads are not applied: merge it with PEFT, and use the merged model".into();
    }
    let known = linears.iter().map(|linear| linear.name.as_str());
    if let Some(meant) = near::did_you_mean(module, known) {
        return format!("{meant} Use the base model it was trained on");
    }
    let kinds: BTreeSet<&str> = linears.iter().filter_map(|linear| linear.name.rsplit('.').next()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    format!("its linears are called {}; use the base model it was trained on", kinds.join(", "))
}
