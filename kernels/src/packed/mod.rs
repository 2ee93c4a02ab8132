//! Products with weights that stay packed: codes, small floats, bitmasks and halves are decoded in registers, on their way
//! into sums (a few rows of inputs), or into panels for the tiles or cuBLAS (many rows).
//!
//! A weight is what its grid says it is, with every rounding of it: products differ from those of the dense weight by the
//! order of sums alone.

mod coded;
mod codes;
#[cfg(feature = "cuda")]
mod cuda;
mod few;
mod field;
mod floats;
mod grid;
mod host;
mod instructions;
mod kind;
mod many;
mod numbers;
mod outliers;
mod pair_tables;
mod pairs;
pub mod reference;
mod strip;
#[cfg(test)]
mod tests;
mod uneven;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_pairs;

use candle_core::{D, Device, Result, Tensor, bail};

pub use codes::Code;
pub use grid::{Grid, Statistic};

use crate::matmul::Precision;
use crate::with_f32;
use few::FEW;
use host::Host;

/// Rows of inputs up to which weights are decoded on their way into sums.
const MOST: usize = 2 * FEW;

/// A weight `[rows, cols]` = `[out, in]` in packed form, in host memory or on a GPU.
pub struct Packed(Place);

enum Place {
    Host(Host),
    #[cfg(feature = "cuda")]
    Gpu(cuda::Weight),
}

impl Packed {
    /// Takes dense weights, row-major `[rows, cols]`, that `weight` holds exactly; products round them to `product`. Weights of
    /// which a quarter or more are zero are stored without these. Errors on another number of weights.
    pub fn dense(rows: usize, cols: usize, values: &[f32], weight: Precision, product: Precision) -> Result<Self> {
        Host::dense(rows, cols, values, weight, product).map(Self::from)
    }

    /// Takes dense weights as [`Packed::dense`] does, in pieces of whole rows, and stores all of them. Errors on another number
    /// of weights, and with the first error of the pieces.
    pub fn pieces<V: AsRef<[f32]>, E: From<candle_core::Error>>(
        shape: (usize, usize),
        pieces: impl IntoIterator<Item = std::result::Result<V, E>>,
        weight: Precision,
        product: Precision,
    ) -> std::result::Result<Self, E> {
        Host::pieces(shape, pieces, weight, product).map(Self::from)
    }

    /// Takes codes on a grid. Errors when its parts are not those of a `[rows, cols]` matrix.
    pub fn codes(rows: usize, cols: usize, grid: &Grid<'_>, product: Precision) -> Result<Self> {
        Host::codes(rows, cols, grid, product).map(Self::from)
    }

    /// The same on a device, for inputs that lie there: to a GPU it is copied as it is, in one piece and beside the work of the
    /// device, and host memory is freed. Errors when the device does, and for a weight that is on a GPU already.
    pub fn on_device(self, device: &Device) -> Result<Self> {
        match (self.0, device) {
            (Place::Host(host), Device::Cpu) => Ok(host.into()),
            #[cfg(feature = "cuda")]
            (Place::Host(host), Device::Cuda(device)) => Ok(Self(Place::Gpu(cuda::Weight::upload(host, device)?))),
            _ => {
                bail!("a packed weight for {device:?} that is not in host memory, or that this build cannot compute on")
            }
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match &self.0 {
            Place::Host(host) => (host.rows, host.cols),
            #[cfg(feature = "cuda")]
            Place::Gpu(weight) => weight.shape(),
        }
    }

    /// Bytes that the weight takes of the memory where it lies.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Place::Host(host) => host.bytes(),
            #[cfg(feature = "cuda")]
            Place::Gpu(weight) => weight.bytes(),
        }
    }

    /// The weight as products see it, f32 `[rows, cols]`, in host memory.
    pub fn to_dense(&self) -> Result<Tensor> {
        let values = match &self.0 {
            Place::Host(host) => host.to_dense(),
            #[cfg(feature = "cuda")]
            Place::Gpu(weight) => weight.to_dense()?,
        };
        Tensor::from_vec(values, self.shape(), &Device::Cpu)
    }

    /// `x [.., cols]` f32, where the weight lies, → `x Wᵀ [.., rows]` f32; 2 · tokens · rows · cols operations. On a GPU, where
    /// there are more than eight rows, a workspace of some weights that are decoded and of the inputs rounded: 128 MiB at most.
    pub fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        let mut made = matmul_each(&[self], x)?;
        match made.pop() {
            Some(made) => Ok(made),
            None => bail!("a product of no weight"),
        }
    }

    fn host(&self) -> Option<&Host> {
        match &self.0 {
            Place::Host(host) => Some(host),
            #[cfg(feature = "cuda")]
            Place::Gpu(_) => None,
        }
    }
}

impl From<Host> for Packed {
    fn from(host: Host) -> Self {
        Self(Place::Host(host))
    }
}

/// [`Packed::matmul`] of one input with several weights of as many columns, in one go. Errors when the last dimension of `x` is
/// not that, and when not all of them lie where `x` does.
pub fn matmul_each(weights: &[&Packed], x: &Tensor) -> Result<Vec<Tensor>> {
    let cols = x.dim(D::Minus1)?;
    if let Some(weight) = weights.iter().find(|weight| weight.shape().1 != cols) {
        bail!("a weight of {} columns was given an input of shape {:?}", weight.shape().1, x.shape());
    }
    on_gpu!(x => cuda::multiply_each(&on_gpus(weights)?, x));
    let Some(hosts) = weights.iter().map(|weight| weight.host()).collect::<Option<Vec<_>>>() else {
        bail!("inputs in host memory of a packed weight on a GPU");
    };
    let tokens = x.elem_count() / cols;
    let made = with_f32(x, |x| Ok(host::multiply_each(&hosts, x, tokens)))?;
    weights
        .iter()
        .zip(made)
        .map(|(weight, made)| Tensor::from_vec(made, shape(x, weight.shape().0), x.device()))
        .collect()
}

/// The shape of a product with `rows` rows of a weight.
fn shape(x: &Tensor, rows: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = rows;
    }
    shape
}

#[cfg(feature = "cuda")]
fn on_gpus<'a>(weights: &[&'a Packed]) -> Result<Vec<&'a cuda::Weight>> {
    let of = |weight: &&'a Packed| match &weight.0 {
        Place::Gpu(weight) => Ok(weight),
        Place::Host(_) => bail!("inputs on a GPU of a packed weight in host memory"),
    };
    weights.iter().map(of).collect()
}
