//! The kernels of vLLM for packed integers.

use paring_format::{Dtype, QuantArgs, Strategy};

use super::{Linears, Verdict};

/// Sizes of groups, 0 for whole rows.
enum Groups {
    Of(&'static [usize]),
    MultiplesOf(usize),
    /// These multiples, but not whole rows.
    Only(usize),
}

/// A kernel of vLLM for packed integers with activations in floats.
struct Kernel {
    name: &'static str,
    bits: &'static [u32],
    /// True if it takes zero points.
    zeros: bool,
    groups: Groups,
    /// True if it takes f16 and no other.
    f16: bool,
    /// Divisors of rows and columns.
    multiples: (usize, usize),
    /// True if every such device has it.
    common: bool,
}

const fn kernel(name: &'static str, bits: &'static [u32], zeros: bool, groups: Groups) -> Kernel {
    Kernel { name, bits, zeros, groups, f16: false, multiples: (1, 1), common: true }
}

const KERNELS: [Kernel; 10] = [
    kernel("Marlin (sm75+)", &[4], true, Groups::Of(&[0, 32, 64, 128])),
    kernel("Marlin (sm75+)", &[8], false, Groups::Of(&[0, 32, 64, 128])),
    Kernel {
        multiples: (128, 64),
        common: false,
        ..kernel("Machete (sm90)", &[4, 8], true, Groups::Of(&[0, 64, 128]))
    },
    Kernel { multiples: (8, 1), ..kernel("Triton", &[4], true, Groups::Of(&[0, 32, 64, 128, 256])) },
    Kernel {
        multiples: (8, 1),
        f16: true,
        common: false,
        ..kernel("Exllama (f16)", &[4, 8], false, Groups::MultiplesOf(1))
    },
    Kernel { common: false, ..kernel("ROCm", &[4], true, Groups::Only(32)) },
    Kernel { multiples: (32, 32), common: false, ..kernel("CPU", &[4], true, Groups::MultiplesOf(2)) },
    Kernel { common: false, ..kernel("XPU", &[4], true, Groups::MultiplesOf(32)) },
    Kernel { common: false, ..kernel("Conch (a package)", &[4, 8], true, Groups::Of(&[0, 128])) },
    Kernel {
        common: false,
        ..kernel("Humming (a package, sm75+)", &[2, 3, 4, 5, 6, 7, 8], true, Groups::MultiplesOf(1))
    },
];

impl Kernel {
    fn takes(&self, weights: &QuantArgs, linears: &Linears) -> bool {
        let size = match weights.strategy {
            Strategy::Channel => 0,
            Strategy::Group(size) => size,
            _ => return false,
        };
        let (rows, cols) = self.multiples;
        let group = match self.groups {
            Groups::Of(sizes) => sizes.contains(&size),
            Groups::MultiplesOf(step) => size.is_multiple_of(step),
            Groups::Only(step) => size > 0 && size.is_multiple_of(step),
        };
        weights.element.int_bits().is_some_and(|bits| self.bits.contains(&bits))
            && (weights.symmetric || self.zeros)
            && group
            && (!self.f16 || linears.dtype.is_none_or(|dtype| dtype == Dtype::F16))
            && linears.shapes.iter().all(|(r, c)| r.is_multiple_of(rows) && c.is_multiple_of(cols))
    }
}

/// Verdict on packed integers with activations in floats.
pub(super) fn packed(weights: &QuantArgs, linears: &Linears) -> Verdict {
    if weights.strategy == Strategy::Tensor {
        return Verdict::Refused("packed integers have a scale a row or a group there".into());
    }
    let taking: Vec<&Kernel> = KERNELS.iter().filter(|kernel| kernel.takes(weights, linears)).collect();
    let names = taking.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ");
    match taking.iter().any(|kernel| kernel.common) {
        true => Verdict::Runs(names),
        false => Verdict::Limited(names),
    }
}
