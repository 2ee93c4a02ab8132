//! The device of a run: the CPU, or one of the GPUs of a build with the feature `cuda`.

mod copies;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub use candle_core::Device;
use candle_core::{DeviceLocation, Shape, Tensor};
pub use copies::{Coming, Copies, Waiting};

pub use crate::PAGE_LOCKED;

/// A device as it is requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, from 0.
    Cuda(usize),
}

/// The reason why a device is not available.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The build has no CUDA.
    #[error("cuda:{0}: this build has no CUDA")]
    NotBuilt(usize),
    /// The driver refused.
    #[error("cuda:{ordinal}: {reason}")]
    Driver {
        /// The GPU's number.
        ordinal: usize,
        /// The driver's message.
        reason: String,
    },
}

impl FromStr for Choice {
    type Err = String;

    /// `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cpu, cuda or cuda:N with the number of a GPU".to_string()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Bytes of a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Not in use by anyone.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

/// Opens the device. [`Choice::Auto`] never errors: without a GPU that answers it is the CPU.
pub fn open(choice: Choice) -> Result<Device, Unavailable> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Auto => Ok(gpu(0).unwrap_or(Device::Cpu)),
        Choice::Cuda(ordinal) => gpu(ordinal),
    }
}

/// The CPU, and the first GPU if there is one: what operations and models are held to the same results on.
pub fn present() -> Vec<Device> {
    [Device::Cpu].into_iter().chain(gpu(0)).collect()
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> Result<Device, Unavailable> {
    // A stream of its own: the driver's default stream waits for all others.
    let opened = Device::new_cuda_with_stream(ordinal).and_then(|device| {
        crate::cuda::memory::keep_freed(device.as_cuda_device()?)?;
        Ok(device)
    });
    opened.map_err(|e| Unavailable::Driver { ordinal, reason: e.to_string().lines().next().unwrap_or("").to_string() })
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize) -> Result<Device, Unavailable> {
    Err(Unavailable::NotBuilt(ordinal))
}

/// A tensor on the device, row-major. To a GPU it is copied beside the work that it has: what uses the tensor first waits
/// for the copy, and nothing else does. Errors when the values are not as many as the shape has, and when the device does.
pub fn upload<'a>(
    values: impl Into<Cow<'a, [f32]>>,
    shape: impl Into<Shape>,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let (values, shape) = (values.into(), shape.into());
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device
        && values.len() == shape.elem_count()
    {
        let copy = |at: usize, out: &mut [f32]| out.copy_from_slice(&values[at..][..out.len()]);
        return Ok(crate::cuda::tensor(crate::cuda::staging::send(cuda, values.len(), copy)?, cuda, shape));
    }
    Tensor::from_vec(values.into_owned(), shape, device)
}

/// The values of an f32 tensor, row-major, in host memory: once the work of its device is done, through page-locked memory
/// where that is a GPU.
pub fn download(x: &Tensor) -> candle_core::Result<Vec<f32>> {
    on_gpu!(x => crate::cuda::with_view::<f32, _>(x, |values, device| crate::cuda::staging::down(device, &values)));
    crate::with_f32(x, |values| Ok(values.to_vec()))
}

/// The memory of a GPU at this moment; `None` for the CPU.
pub fn memory(device: &Device) -> candle_core::Result<Option<Memory>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        use candle_core::cuda_backend::WrapErr;
        let (free, total) = cuda.cuda_stream().context().mem_get_info().w()?;
        return Ok(Some(Memory { free, total }));
    }
    let _ = device;
    Ok(None)
}

/// Most bytes that tensors took on a GPU at once since the process began; `None` for the CPU, and for a driver that
/// does not count them.
pub fn peak(device: &Device) -> candle_core::Result<Option<usize>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        return crate::cuda::memory::peak(cuda);
    }
    let _ = device;
    Ok(None)
}

/// True if an operation failed because a GPU's memory, or the part that its libraries may take, is used up.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    // The driver and each library have error types of their own, which arrive wrapped in others; their names are in all.
    let text = format!("{error:?}");
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED"]
        .iter()
        .any(|name| text.contains(name))
}

/// The device as a [`Choice`] is written: `cpu`, or `cuda:N`.
pub fn label(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => Choice::Cpu.to_string(),
        DeviceLocation::Cuda { gpu_id } => Choice::Cuda(gpu_id).to_string(),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The GPU's name as its driver gives it; `cpu` for the CPU.
pub fn name(device: &Device) -> candle_core::Result<String> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        use candle_core::cuda_backend::WrapErr;
        return cuda.cuda_stream().context().name().w();
    }
    let _ = device;
    Ok("cpu".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, want) in [("auto", Choice::Auto), ("cpu", Choice::Cpu), ("cuda:3", Choice::Cuda(3))] {
            let got: Choice = text.parse().unwrap();
            assert_eq!((got, got.to_string().as_str()), (want, text));
        }
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }

    #[test]
    fn tensors_come_back_as_they_were_sent() {
        for device in &present() {
            let values: Vec<f32> = (0..600).map(|i| i as f32 - 0.25).collect();
            let x = upload(&values, (20, 30), device).unwrap();
            assert!(x.device().same_device(device) && x.dims() == [20, 30]);
            assert_eq!(download(&x).unwrap(), values);
            // As candle and as an operation of ours see it before anything waited for it.
            let sum = crate::plain::add(&upload(&values, 600, device).unwrap(), &x.reshape(600).unwrap()).unwrap();
            assert!(download(&sum).unwrap().iter().zip(&values).all(|(sum, value)| *sum == 2.0 * value));
            let joined = Tensor::cat(&[&upload(&values, (20, 30), device).unwrap(), &x], 1).unwrap();
            assert_eq!(download(&joined.narrow(1, 0, 30).unwrap()).unwrap(), values);
            assert!(upload(values, (20, 31), device).is_err());
        }
    }

    #[test]
    fn memory_that_is_used_up_is_told_from_other_errors() {
        for (text, full) in [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", true),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", true),
            ("CUSOLVER_STATUS_ALLOC_FAILED", true),
            ("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")", false),
        ] {
            let error = candle_core::Error::Msg(text.into());
            assert_eq!(is_out_of_memory(&error), full, "{text}");
            assert_eq!(is_out_of_memory(&error.context("the sweep")), full, "{text}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_names_it() {
        let error = open(Choice::Cuda(4095)).err().unwrap().to_string();
        assert!(error.starts_with("cuda:4095: "), "{error}");
        assert!(open(Choice::Auto).is_ok());
        let cpu = open(Choice::Cpu).unwrap();
        assert_eq!((memory(&cpu).unwrap(), name(&cpu).unwrap().as_str(), label(&cpu).as_str()), (None, "cpu", "cpu"));
    }
}
