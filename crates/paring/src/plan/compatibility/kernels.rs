//! The kernels of vLLM for packed integers.

use paring_format::{Dtype, QuantArgs, Strategy};

use super::{Linears, Verdict};

/// Hardware that vLLM runs on, in the order in which it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Platform {
    Nvidia,
    Amd,
    Intel,
    Cpu,
}

/// Sizes of groups, 0 for whole rows.
enum Groups {
    Of(&'static [usize]),
    MultiplesOf(usize),
    /// Whole rows, and groups of at least so many columns.
    AtLeast(usize),
    /// Groups of any size, but not whole rows.
    Any,
}

/// A kernel of vLLM for packed integers with activations in floats.
struct Kernel {
    platform: Platform,
    /// Its name, where a platform has several.
    name: &'static str,
    bits: &'static [u32],
    /// True if it takes zero points.
    zeros: bool,
    groups: Groups,
    /// True if it takes f16 and no other.
    f16: bool,
    /// Divisors of rows and columns.
    multiples: (usize, usize),
    /// True if it is in every build for its platform, and runs on all devices from sm75 on.
    common: bool,
}

const fn kernel(
    platform: Platform,
    name: &'static str,
    bits: &'static [u32],
    zeros: bool,
    groups: Groups,
    multiples: (usize, usize),
) -> Kernel {
    Kernel { platform, name, bits, zeros, groups, f16: false, multiples, common: false }
}

const TRITON: Groups = Groups::Of(&[0, 32, 64, 128, 256]);
const MARLIN: Groups = Groups::Of(&[0, 32, 64, 128]);

/// Every kernel that comes with vLLM. The package Conch, which does not, has none of their groups that these lack.
const KERNELS: [Kernel; 10] = [
    Kernel { common: true, ..kernel(Platform::Nvidia, "Marlin", &[4], true, MARLIN, (1, 1)) },
    Kernel { common: true, ..kernel(Platform::Nvidia, "Marlin", &[8], false, MARLIN, (1, 1)) },
    kernel(Platform::Nvidia, "Machete on sm90", &[4, 8], true, Groups::Of(&[0, 64, 128]), (128, 64)),
    Kernel { common: true, ..kernel(Platform::Nvidia, "Triton", &[4], true, TRITON, (8, 1)) },
    Kernel { f16: true, ..kernel(Platform::Nvidia, "Exllama for f16", &[4, 8], false, Groups::Any, (8, 1)) },
    kernel(Platform::Nvidia, HUMMING, &[2, 3, 4, 5, 6, 7, 8], true, Groups::AtLeast(16), (1, 1)),
    kernel(Platform::Amd, "Triton", &[4], true, TRITON, (8, 1)),
    Kernel { f16: true, ..kernel(Platform::Amd, "Exllama", &[4, 8], false, Groups::Any, (8, 1)) },
    kernel(Platform::Intel, "", &[4], true, Groups::MultiplesOf(32), (1, 32)),
    kernel(Platform::Cpu, "", &[4], true, Groups::MultiplesOf(2), (32, 32)),
];

/// The kernel that a vLLM for CUDA 13 always has, and others do not.
const HUMMING: &str = "Humming with CUDA 13";

/// The places where Humming alone runs a scheme.
pub(super) const HUMMING_ALONE: &str = "NVIDIA GPUs from sm75 (Humming with CUDA 13)";

/// Tells whether Humming multiplies inputs of so many bits with integers that share scales like this.
pub(super) fn humming_takes(weights: &QuantArgs, input_bits: u32) -> bool {
    let least = match input_bits {
        16.. => 16,
        8.. => 32,
        _ => 64,
    };
    // Zero points need codes of another width than the inputs.
    let zeros = weights.symmetric || weights.element.bits() != input_bits;
    let bits = weights.element.int_bits().is_some_and(|bits| (2..=8).contains(&bits));
    bits && zeros && group(weights).is_some_and(|size| size == 0 || size >= least)
}

/// Columns that share a scale, 0 for whole rows; `None` where weights are not grouped by columns.
fn group(weights: &QuantArgs) -> Option<usize> {
    match weights.strategy {
        Strategy::Channel => Some(0),
        Strategy::Group(size) => Some(size),
        _ => None,
    }
}

impl Kernel {
    fn takes(&self, weights: &QuantArgs, linears: &Linears) -> bool {
        let Some(size) = group(weights) else { return false };
        let (rows, cols) = self.multiples;
        let group = match self.groups {
            Groups::Of(sizes) => sizes.contains(&size),
            Groups::MultiplesOf(step) => size.is_multiple_of(step),
            Groups::AtLeast(least) => size == 0 || size >= least,
            Groups::Any => size > 0,
        };
        weights.element.int_bits().is_some_and(|bits| self.bits.contains(&bits))
            && (weights.symmetric || self.zeros)
            && group
            && (!self.f16 || linears.dtype.is_none_or(|dtype| dtype == Dtype::F16))
            && linears.shapes.iter().all(|(r, c)| r.is_multiple_of(rows) && c.is_multiple_of(cols))
    }
}

/// A platform with its kernels, of which the first has several.
fn place(platform: Platform, taking: &[&Kernel]) -> String {
    let names: Vec<&str> = taking.iter().filter(|k| k.platform == platform).map(|kernel| kernel.name).collect();
    match platform {
        Platform::Nvidia => format!("NVIDIA GPUs from sm75 ({})", names.join(", ")),
        Platform::Amd => "AMD GPUs".into(),
        Platform::Intel => "Intel GPUs".into(),
        Platform::Cpu => "CPUs".into(),
    }
}

/// Verdict on packed integers with activations in floats: run where all builds for NVIDIA GPUs have a kernel, or several
/// kinds of hardware do.
pub(super) fn packed(weights: &QuantArgs, linears: &Linears) -> Verdict {
    if group(weights).is_none() {
        return Verdict::Refused("packed integers need a scale for each row or group".into());
    }
    let taking: Vec<&Kernel> = KERNELS.iter().filter(|kernel| kernel.takes(weights, linears)).collect();
    let mut platforms: Vec<Platform> = taking.iter().map(|kernel| kernel.platform).collect();
    platforms.dedup();
    let on = platforms.iter().map(|&platform| place(platform, &taking)).collect::<Vec<_>>().join(", ");
    match platforms.len() {
        0 => Verdict::Refused(format!("it has no kernel for {} in {}", weights.element, weights.strategy)),
        1 if !taking.iter().any(|kernel| kernel.common) => Verdict::Limited(format!("on {on}")),
        _ => Verdict::Runs(on),
    }
}
