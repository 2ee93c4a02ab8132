//! The definition.

use super::Adam;

/// A parameter and its moments.
pub(crate) struct Parameter {
    pub value: f64,
    first: f64,
    second: f64,
}

impl Parameter {
    /// Before the first step.
    pub fn new(value: f64) -> Self {
        Self { value, first: 0.0, second: 0.0 }
    }
}

/// One step, `number` from 1 on.
pub(crate) fn step(adam: &Adam, number: usize, rate: f64, gradient: f64, parameter: &mut Parameter) {
    let number = number as i32;
    parameter.value *= 1.0 - rate * adam.decay;
    parameter.first = adam.beta1 * parameter.first + (1.0 - adam.beta1) * gradient;
    parameter.second = adam.beta2 * parameter.second + (1.0 - adam.beta2) * gradient * gradient;
    let first = parameter.first / (1.0 - adam.beta1.powi(number));
    let second = parameter.second / (1.0 - adam.beta2.powi(number));
    parameter.value -= rate * first / (second.sqrt() + adam.eps);
}
