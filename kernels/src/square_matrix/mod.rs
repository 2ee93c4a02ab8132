//! Square matrices that are large and used several times: Gram matrices and factors. They stay where they were made.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use std::borrow::Cow;

use candle_core::{Device, Result, Tensor};

/// A matrix `[n, n]` of f32, row-major, in host memory or on a GPU.
#[derive(Clone, Debug)]
pub struct SquareMatrix {
    n: usize,
    pub(crate) place: Place,
}

/// The memory of the elements.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Host(Vec<f32>),
    /// `[n, n]`, contiguous.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    Gpu(Tensor),
}

impl From<Vec<f32>> for SquareMatrix {
    /// In host memory.
    ///
    /// # Panics
    /// If the number of elements is no square.
    fn from(values: Vec<f32>) -> Self {
        let n = values.len().isqrt();
        assert_eq!(values.len(), n * n, "a square matrix");
        Self { n, place: Place::Host(values) }
    }
}

impl SquareMatrix {
    /// The elements of a square matrix, row-major, on a device. Errors when the device does.
    ///
    /// # Panics
    /// On the CPU, if the number of elements is no square; elsewhere that is an error.
    pub fn on_device(device: &Device, values: Vec<f32>) -> Result<Self> {
        if device.is_cpu() {
            return Ok(Self::from(values));
        }
        let n = values.len().isqrt();
        Ok(Self { n, place: Place::Gpu(Tensor::from_vec(values, (n, n), device)?) })
    }

    /// A matrix on a GPU, `[n, n]` f32 and contiguous. Errors on other shapes.
    #[cfg(feature = "cuda")]
    pub(crate) fn from_gpu(values: Tensor) -> Result<Self> {
        let (n, m) = values.dims2()?;
        if n != m || !values.is_contiguous() {
            candle_core::bail!("a square matrix of shape {:?}", values.shape());
        }
        Ok(Self { n, place: Place::Gpu(values) })
    }

    /// The tensor `[n, n]` on a GPU. Errors for a matrix in host memory.
    #[cfg(feature = "cuda")]
    pub(crate) fn gpu_tensor(&self) -> Result<&Tensor> {
        match &self.place {
            Place::Gpu(values) => Ok(values),
            Place::Host(_) => candle_core::bail!("a matrix in host memory where one on a GPU is needed"),
        }
    }

    /// Rows, and columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The device that it lies on.
    pub fn device(&self) -> Device {
        match &self.place {
            Place::Host(_) => Device::Cpu,
            Place::Gpu(values) => values.device().clone(),
        }
    }

    /// The elements in host memory, row-major: copied only from a GPU.
    pub fn to_host(&self) -> Result<Cow<'_, [f32]>> {
        match &self.place {
            Place::Host(values) => Ok(Cow::Borrowed(values)),
            Place::Gpu(values) => Ok(Cow::Owned(values.flatten_all()?.to_vec1::<f32>()?)),
        }
    }

    /// The diagonal, `[n]`.
    pub fn diagonal(&self) -> Result<Vec<f32>> {
        match &self.place {
            Place::Host(values) => Ok(values.iter().step_by(self.n + 1).copied().collect()),
            #[cfg(feature = "cuda")]
            Place::Gpu(values) => {
                crate::cuda::with_view::<f32, _>(values, |values, device| cuda::diagonal(device, &values, self.n))
            }
            #[cfg(not(feature = "cuda"))]
            Place::Gpu(values) => candle_core::bail!("a matrix on {:?}", values.device()),
        }
    }

    /// The row of the first element that is infinite or not a number.
    pub fn first_bad(&self) -> Result<Option<usize>> {
        if let Place::Gpu(values) = &self.place
            && crate::plain::all_finite(values)?
        {
            return Ok(None);
        }
        Ok(self.to_host()?.iter().position(|v| !v.is_finite()).map(|at| at / self.n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagonals_and_bad_rows() {
        let mut values: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let square = SquareMatrix::from(values.clone());
        assert_eq!((square.n(), square.diagonal().unwrap()), (3, vec![0.0, 4.0, 8.0]));
        assert_eq!(square.first_bad().unwrap(), None);
        assert_eq!(square.to_host().unwrap(), values);
        (values[5], values[8]) = (f32::NAN, f32::INFINITY);
        assert_eq!(SquareMatrix::from(values).first_bad().unwrap(), Some(1));
        assert!(SquareMatrix::from(Vec::new()).diagonal().unwrap().is_empty());
    }
}
