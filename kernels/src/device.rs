//! Where a run computes: the CPU, or one of the GPUs of a build with the feature `cuda`.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What was asked for.
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

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The build has no CUDA.
    #[error("--device cuda:{0}: this build has no CUDA; build with --features cuda, or use --device cpu")]
    NotBuilt(usize),
    /// The driver refused.
    #[error("--device cuda:{ordinal}: {reason}; nvidia-smi lists the GPUs that there are, and --device cpu needs none")]
    Driver {
        /// The GPU's number.
        ordinal: usize,
        /// What the driver said.
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

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> Result<Device, Unavailable> {
    // A stream of its own: the driver's default stream waits for all others.
    Device::new_cuda_with_stream(ordinal)
        .map_err(|e| Unavailable::Driver { ordinal, reason: e.to_string().lines().next().unwrap_or("").to_string() })
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize) -> Result<Device, Unavailable> {
    Err(Unavailable::NotBuilt(ordinal))
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
    fn a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = open(Choice::Cuda(4095)).err().unwrap().to_string();
        assert!(error.starts_with("--device cuda:4095: ") && error.contains("--device cpu"), "{error}");
        assert!(open(Choice::Auto).is_ok());
        assert_eq!(memory(&open(Choice::Cpu).unwrap()).unwrap(), None);
    }
}
