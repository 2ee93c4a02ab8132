//! The memory of a device that a run may fill, and the errors of one that is used up.

use candle_core::Device;
use paring_format::message;
use paring_format::message::Message;
use paring_kernels::device;

use crate::plan::Opt;
use crate::report::DeviceReport;
use crate::{Error, Result};

/// The default budget is a number of these shares of a GPU's memory, so that runs beside which a little more or less is in
/// use do the same. One share that would be free stays so, for the libraries and for gaps.
const SHARES: u64 = 16;

/// A device and how much of its memory a run may fill.
#[derive(Clone, Debug)]
pub struct DeviceBudget {
    device: Device,
    /// In bytes; `None` on the CPU, where nothing is limited.
    bytes: Option<u64>,
    /// The options that help when that was not enough.
    options: Message,
}

/// Options of all commands that run a model.
fn usual_options() -> Message {
    message!["a smaller ", Opt::MaxVram, ", a shorter ", Opt::Seqlen, ", or ", Opt::Device.with("cpu")]
}

impl DeviceBudget {
    /// Of a GPU `asked` bytes, by default what is free now less a sixteenth of the whole.
    ///
    /// # Errors
    /// When more is asked for than is free, or something of the CPU; when the driver does not answer.
    pub fn new(device: &Device, asked: Option<u64>) -> Result<Self> {
        let bytes = match (device::memory(device)?, asked) {
            (None, None) => None,
            (None, Some(_)) => {
                let hint = message!["leave it out, or choose a ", Opt::Device.with("cuda:N")];
                return Err(Opt::MaxVram.misuse(message![Opt::MaxVram, ": this run uses the CPU"]).hint(hint));
            }
            (Some(memory), None) => Some(default_of(memory.free as u64, memory.total as u64)),
            (Some(memory), Some(asked)) if asked > memory.free as u64 => {
                let problem = format!(
                    ": {} is more than the {} that are free of the {} of {}",
                    gib(asked),
                    gib(memory.free as u64),
                    gib(memory.total as u64),
                    device::label(device)
                );
                let error = Opt::MaxVram.misfit(message![Opt::MaxVram, problem]);
                return Err(error.hint("allow less, or leave it out"));
            }
            (Some(_), asked) => asked,
        };
        Ok(Self { device: device.clone(), bytes, options: usual_options() })
    }

    /// The same for a command with other options that help when memory is used up, in words.
    pub(crate) fn with_hint(&self, options: Message) -> Self {
        Self { options, ..self.clone() }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes that may be filled; `None` on the CPU.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// An error of the device, with what was being done; of memory that is used up, with what to change. Other errors, and
    /// all on the CPU, are as they were.
    pub(crate) fn with_context(&self, error: Error, doing: impl std::fmt::Display) -> Error {
        if matches!(&error, Error::Option { option: Opt::Device, .. }) && self.bytes.is_some() {
            let place = DeviceReport::new(&self.device).map_or(device::label(&self.device), |place| place.words());
            return error.at(format!("{place}: {doing}"));
        }
        let (Error::Tensor(reason) | Error::Model(paring_model::Error::Tensor(reason))) = &error else { return error };
        let Some(allowed) = self.bytes else { return error };
        let label = device::label(&self.device);
        // A driver that failed may not answer any more.
        let place = DeviceReport::new(&self.device).map_or(label, |place| place.words());
        if !device::is_out_of_memory(reason) {
            // With RUST_BACKTRACE the lines below the first are a backtrace.
            let reason = reason.to_string().lines().next().unwrap_or_default().to_string();
            return Error::Device { place, doing: doing.to_string(), reason };
        }
        let peak = device::peak(&self.device).ok().flatten();
        let taken = peak.map_or(String::new(), |peak| format!(", its tensors took {} at most", gib(peak as u64)));
        let free = device::memory(&self.device).ok().flatten();
        let free = free.map_or(String::new(), |memory| {
            format!(", {} of {} are free", gib(memory.free as u64), gib(memory.total as u64))
        });
        let options = self.options.clone();
        Error::DeviceMemory {
            place,
            doing: doing.to_string(),
            state: format!("{} were allowed{taken}{free}", gib(allowed)),
            options,
        }
    }
}

/// The default budget on a GPU with so many bytes.
fn default_of(free: u64, total: u64) -> u64 {
    let share = (total / SHARES).max(1);
    (free / share).saturating_sub(1) * share
}

/// Bytes as GPUs are sold.
fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1u32 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_cpu_nothing_is_limited_and_errors_stay_as_they_are() {
        let budget = DeviceBudget::new(&Device::Cpu, None).unwrap();
        assert_eq!(budget.bytes(), None);
        let error = DeviceBudget::new(&Device::Cpu, Some(1)).unwrap_err().to_string();
        assert!(error.starts_with("max-vram: ") && error.contains("device cuda:N"), "{error}");
        let error = budget.with_context(candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into()).into(), "sweep");
        assert!(matches!(error, Error::Tensor(_)), "{error}");
    }

    #[test]
    fn what_may_be_filled_by_default_depends_little_on_what_is_free() {
        let gib = |n: u64| n << 30;
        assert_eq!(default_of(gib(80), gib(80)), gib(75));
        assert_eq!(default_of(gib(79), gib(80)), gib(70));
        assert_eq!(default_of(gib(76), gib(80)), gib(70));
        assert_eq!(default_of(gib(1), gib(80)), 0);
        assert_eq!(default_of(0, 0), 0);
    }

    #[test]
    fn memory_that_is_used_up_says_what_to_change() {
        // A device is only asked for what it does not say here.
        let budget = DeviceBudget { device: Device::Cpu, bytes: Some(3 << 30), options: usual_options() }
            .with_hint(message![Opt::Offload.with("activations")]);
        let out = || candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        for error in [Error::from(out()), paring_model::Error::from(out()).into()] {
            let text = budget.with_context(error, "block 3: sweep").to_string();
            let words = ["cpu: block 3: sweep: out of memory", "3.00 GiB were allowed", "; choose offload activations"];
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        let other = budget.with_context(candle_core::Error::Msg("an illegal address".into()).into(), "block 3: sweep");
        assert_eq!(other.to_string(), "cpu: block 3: sweep: an illegal address");
        // Named once, by who knew it best.
        assert_eq!(budget.with_context(other, "block 3").to_string(), "cpu: block 3: sweep: an illegal address");
        assert!(matches!(budget.with_context(Error::Plan("no".into()), "block 3"), Error::Plan(_)));
    }
}
