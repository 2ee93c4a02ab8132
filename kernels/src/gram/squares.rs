//! Sums of x² of each feature.

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{D, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use crate::with_f32;

/// The running sum Σ x² over tokens, a number for each feature, in f64 where the inputs lie.
pub struct Squares {
    dim: usize,
    sums: Sums,
}

enum Sums {
    Host(Vec<f64>),
    #[cfg(feature = "cuda")]
    Gpu(CudaSlice<f64>, candle_core::CudaDevice),
}

impl Squares {
    /// An empty sum for inputs of `dim` features on a device. Errors when the device does.
    pub fn on_device(device: &Device, dim: usize) -> Result<Self> {
        let sums = match device {
            Device::Cpu => Sums::Host(vec![0.0; dim]),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Sums::Gpu(cuda.alloc_zeros(dim.max(1))?, cuda.clone()),
            _ => candle_core::bail!("sums of squares on {device:?}"),
        };
        Ok(Self { dim, sums })
    }

    /// Adds every token of `x` `[.., dim]` f32, which lies on the device. Errors on other shapes and devices.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        if x.dim(D::Minus1)? != self.dim {
            candle_core::bail!("sums of squares of {} features were given an input of shape {:?}", self.dim, x.shape());
        }
        match &mut self.sums {
            Sums::Host(sums) => with_f32(x, |x| {
                for token in x.chunks_exact(sums.len().max(1)) {
                    for (s, &v) in sums.iter_mut().zip(token) {
                        *s += f64::from(v) * f64::from(v);
                    }
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Sums::Gpu(sums, _) => cuda::add_squares(sums, x, self.dim),
        }
    }

    /// The sums, `[dim]`.
    pub fn finish(self) -> Result<Vec<f64>> {
        match self.sums {
            Sums::Host(sums) => Ok(sums),
            #[cfg(feature = "cuda")]
            Sums::Gpu(sums, device) => {
                let mut sums = device.clone_dtoh(&sums)?;
                sums.truncate(self.dim);
                Ok(sums)
            }
        }
    }
}
