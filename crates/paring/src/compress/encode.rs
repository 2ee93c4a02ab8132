//! Linears as the tensors of their shard: layout, float type and digest. Writes nothing itself.

use paring_format::compressed::digest;
use paring_format::layouts::{self, Layout};
use paring_format::message;
use paring_format::writer::NamedTensor;
use paring_format::{Compressed, Dtype, QuantMethod, Scheme, Values};

use super::schemes::{self, Kind};
use crate::output::digests::Made;
use crate::plan::{Opt, Plan};
use crate::{Error, Result};

/// The layout of each choice of a plan.
pub(super) struct Encoder {
    /// By number of the choice; `None` for those of overrides that leave linears alone.
    kinds: Vec<Option<Kind>>,
}

/// A linear as it will lie in its shard.
pub(super) struct Encoded {
    pub module: String,
    pub tensors: Vec<NamedTensor>,
    pub made: Made,
}

impl Encoded {
    /// `digest` is that of the weight that `c` must read back as.
    fn new(module: &str, c: &Compressed, digest: u64, layout: &dyn Layout, scheme: &Scheme) -> Result<Self> {
        let parts = layout.encode(scheme, c).map_err(|e| e.in_module(module, ""))?;
        let tensors = NamedTensor::of_module(module, parts);
        let made = Made { digest, shape: Some((c.rows, c.cols)) };
        Ok(Self { module: module.to_string(), tensors, made })
    }

    /// Bits on disk for each of its weights.
    pub(super) fn bits(&self) -> f64 {
        let bytes: usize = self.tensors.iter().map(|t| t.bytes.len()).sum();
        bytes as f64 * 8.0 / self.made.shape.map_or(1, |(rows, cols)| rows * cols) as f64
    }
}

impl Encoder {
    /// Errors when one checkpoint cannot hold all that the plan makes.
    pub fn new(plan: &Plan) -> Result<Self> {
        Ok(Self { kinds: schemes::kinds(plan)? })
    }

    /// Layout and scheme of each choice, by its number.
    pub fn kinds(&self) -> &[Option<Kind>] {
        &self.kinds
    }

    /// Layout and scheme of a choice. Errors when the plan has none of this number.
    pub fn kind(&self, choice: usize) -> Result<&Kind> {
        let kind = self.kinds.get(choice).and_then(|kind| kind.as_ref());
        kind.ok_or_else(|| Error::Plan(format!("the plan has no choice {choice}")))
    }

    /// The layouts of the compressed linears.
    pub fn layouts(&self) -> impl Iterator<Item = &'static dyn Layout> {
        self.kinds.iter().flatten().map(|kind| kind.layout)
    }

    /// The type that all floats are written in, where the layout asks for one.
    pub fn float_type(&self) -> Option<Dtype> {
        self.layouts().find_map(|layout| layout.float_type())
    }

    /// The type that numbers of this type are written in.
    pub fn written(&self, dtype: Dtype) -> Dtype {
        self.float_type().filter(|_| dtype.is_float()).unwrap_or(dtype)
    }

    /// Tells whether the config lists the lengths of one-dimensional tensors.
    pub fn lists_lengths(&self) -> bool {
        self.layouts().any(|layout| layout.method() == QuantMethod::Spqr)
    }

    /// A linear of that choice. What is read back at the end must be `dense`, the weight as the sweep left it.
    pub fn compressed(&self, choice: usize, module: &str, c: &Compressed, dense: &[f32]) -> Result<Encoded> {
        let Kind { layout, scheme } = self.kind(choice)?;
        let stored = if layout.name() == layouts::DENSE.name() { densified(c) } else { None };
        let unsigned = if layout.keeps_zero_signs() { None } else { c.without_zero_signs(dense) };
        let (c, dense) = unsigned.as_ref().map_or((c, dense), |(c, dense)| (c, &dense[..]));
        let scheme = scheme.clone().unwrap_or_else(Scheme::dense);
        Encoded::new(module, stored.as_ref().unwrap_or(c), digest(c.rows, c.cols, dense), *layout, &scheme)
    }

    /// A linear that is not compressed, in the float type that the layout asks for. Errors on a number that becomes
    /// infinite there.
    pub fn kept(&self, module: &str, c: Compressed) -> Result<Encoded> {
        let (rows, cols, dtype) = (c.rows, c.cols, self.written(c.dtype));
        let is_cast = dtype != c.dtype;
        let mut dense = c.into_dense();
        if is_cast {
            dense = cast(dense, dtype, module)?;
        }
        let digest = digest(rows, cols, &dense);
        let c = Compressed { rows, cols, dtype, values: Values::Dense(dense) };
        Encoded::new(module, &c, digest, layouts::DENSE, &Scheme::dense())
    }
}

/// Floats as a type that may not reach as far. Errors on a number that becomes infinite.
pub(super) fn cast(mut values: Vec<f32>, dtype: Dtype, tensor: &str) -> Result<Vec<f32>> {
    for (at, value) in values.iter_mut().enumerate() {
        let from = std::mem::replace(value, dtype.round(*value));
        if from.is_finite() && !value.is_finite() {
            let problem = format!("{tensor}: {from} (element {at}) is beyond the range of {dtype}, which ");
            return Err(Opt::Format.misfit(message![problem, Opt::Format, " needs; choose another format"]));
        }
    }
    Ok(values)
}

/// The plain form of a matrix that holds codes.
fn densified(c: &Compressed) -> Option<Compressed> {
    match c.values {
        Values::Dense(_) => None,
        Values::Codes { .. } | Values::Spqr(_) => Some(Compressed { values: Values::Dense(c.to_dense()), ..*c }),
    }
}
