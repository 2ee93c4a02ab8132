//! The sizes of steps.

/// The rate of the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// The same for all numbers that train.
    Absolute(f64),
    /// A share of what trains: of the root mean square of a matrix's weights that are left, or of a vector, and of each scale itself.
    Relative(f64),
}

impl Rate {
    /// The rate.
    pub fn value(self) -> f64 {
        match self {
            Self::Absolute(rate) | Self::Relative(rate) => rate,
        }
    }

    /// The size of a step of rate 1 for these numbers, without those that are 0; 0 if all are.
    pub(super) fn unit(self, values: &[f32]) -> f64 {
        match self {
            Self::Absolute(_) => 1.0,
            Self::Relative(_) => {
                let kept = || values.iter().filter(|v| **v != 0.0).map(|&v| f64::from(v));
                let count = kept().count().max(1) as f64;
                (kept().map(|v| v * v).sum::<f64>() / count).sqrt()
            }
        }
    }
}

/// The course of the rate over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The same in all steps.
    Constant,
    /// From the whole rate in the first step to what would be 0 in the one after the last.
    Linear,
}

impl Schedule {
    /// The share of the rate in step `step` of `steps`, counted from 0.
    pub(super) fn share(self, step: usize, steps: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => (steps - step) as f64 / steps as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_to_zero_and_steps_are_as_large_as_what_they_change() {
        let shares: Vec<f64> = (0..4).map(|step| Schedule::Linear.share(step, 4)).collect();
        assert_eq!(shares, [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(Schedule::Constant.share(3, 4), 1.0);
        let relative = Rate::Relative(0.01);
        assert_eq!(relative.unit(&[3.0, 0.0, 0.0, -3.0]), 3.0);
        assert_eq!((relative.unit(&[0.0; 3]), relative.unit(&[])), (0.0, 0.0));
        assert_eq!(Rate::Absolute(0.01).unit(&[5.0]), 1.0);
    }
}
