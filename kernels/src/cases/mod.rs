//! Conformance cases of every operation, for every device: inputs, and the allowed deviation from the definition.
//!
//! They are part of the program and not only of its tests, so that anyone with a GPU can run them there.

pub(crate) mod attention;
mod cholesky;
mod elementwise;
mod gram;
mod likelihood;
mod matmul;
mod pack;
pub(crate) mod packed;
mod plain;
pub(crate) mod quantize;
mod select;
pub(crate) mod spqr;
mod square_matrix;
pub(crate) mod sweep;

use candle_core::{Device, Result, Tensor};

/// Runs an operation on a device and compares.
type Check = dyn Fn(&Device) -> Result<Deviation>;

/// One case of one operation.
pub struct Case {
    /// The operation, as its module is called, and what this case is about.
    pub name: String,
    check: Box<Check>,
}

/// Distance of a result from the definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// The largest difference, in units of what is allowed: up to 1 is right.
    pub ratio: f64,
    /// Elements that may fall either way (ties between equal scores, halves between codes) and fell the other way than on
    /// the CPU.
    pub ties: usize,
}

impl Deviation {
    /// A deviation of that ratio, without ties.
    pub fn ratio(ratio: f64) -> Self {
        Self { ratio, ties: 0 }
    }
}

impl Case {
    /// A case of that name; `check` runs the operation on the device.
    pub(crate) fn new(name: impl Into<String>, check: impl Fn(&Device) -> Result<Deviation> + 'static) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    /// Runs it. Errors when the operation does.
    pub fn run(&self, device: &Device) -> Result<Deviation> {
        (self.check)(device)
    }
}

/// All cases, in the order of the operations.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(plain::cases());
    cases.extend(elementwise::cases());
    cases.extend(matmul::cases());
    cases.extend(attention::cases());
    cases.extend(quantize::cases());
    cases.extend(likelihood::cases());
    cases.extend(gram::cases());
    cases.extend(square_matrix::cases());
    cases.extend(cholesky::cases());
    cases.extend(pack::cases());
    cases.extend(packed::cases());
    cases.extend(select::cases());
    cases.extend(spqr::cases());
    cases.extend(sweep::cases());
    cases
}

/// Pseudo-random f32 of that shape, about normal with standard deviation `scale`: the same on every run and device.
pub(crate) fn random(shape: &[usize], scale: f32, seed: u64, device: &Device) -> Result<Tensor> {
    Tensor::from_vec(values(shape.iter().product(), scale, seed), shape, device)
}

/// The elements of a tensor in host memory.
pub(crate) fn flat(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// The largest |got − want| over what `allowed` gives for an element; infinite where one of them is not finite and they
/// differ, or when their numbers differ.
pub(crate) fn largest(got: &[f32], want: &[f64], allowed: impl Fn(usize, f64) -> f64) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let off = |(i, (&got, &want)): (usize, (&f32, &f64))| match f64::from(got) {
        got if got == want || (got.is_nan() && want.is_nan()) => 0.0,
        got if got.is_finite() && want.is_finite() => (got - want).abs() / allowed(i, want),
        _ => f64::INFINITY,
    };
    got.iter().zip(want).enumerate().map(off).fold(0.0, f64::max)
}

/// `count` pseudo-random numbers, about normal, standard deviation `scale`.
pub(crate) fn values(count: usize, scale: f32, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    // The sum of twelve uniform numbers has variance one.
    (0..count).map(|_| scale * (0..12).map(|_| uniform()).sum::<f32>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Choice, open};
    use crate::matmul::Isa;

    #[test]
    fn every_case_holds_on_every_device() {
        let mut devices = vec![Device::Cpu];
        devices.extend(open(Choice::Cuda(0)));
        let mut failures = Vec::new();
        for device in &devices {
            for case in all() {
                match case.run(device) {
                    Ok(off) if off.ratio <= 1.0 => {}
                    Ok(off) => failures
                        .push(format!("{} on {device:?}: off by {:.3} of what is allowed", case.name, off.ratio)),
                    Err(e) => failures.push(format!("{} on {device:?}: {e}", case.name)),
                }
            }
        }
        // The processor's other instructions, for what is made of tiles.
        let of_tiles = ["matmul", "gram", "attention", "packed"];
        for isa in &Isa::available()[1..] {
            for case in all().iter().filter(|case| of_tiles.iter().any(|name| case.name.starts_with(name))) {
                match isa.used_in(|| case.run(&Device::Cpu)) {
                    Ok(off) if off.ratio <= 1.0 => {}
                    other => failures.push(format!("{} with {isa:?}: {other:?}", case.name)),
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn differences_are_measured_in_what_is_allowed() {
        assert_eq!(largest(&[1.0, 2.5], &[1.0, 2.0], |_, want| 0.25 * want), 1.0);
        assert_eq!(largest(&[f32::NAN], &[f64::NAN], |_, _| 1.0), 0.0);
        assert_eq!(largest(&[f32::NAN], &[1.0], |_, _| 1.0), f64::INFINITY);
        assert_eq!(largest(&[], &[1.0], |_, _| 1.0), f64::INFINITY);
    }
}
