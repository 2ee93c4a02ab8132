//! Sums over the linears of a block.

use std::collections::BTreeMap;

use paring_model::decoder::LinearInfo;

/// The linears of one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fan {
    /// Outputs of all of them together.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl Fan {
    /// Weights.
    pub fn weights(self) -> usize {
        self.rows * self.cols
    }
}

/// The fans of a block in the order the data meets them.
pub(crate) fn fans(linears: &[LinearInfo]) -> Vec<Fan> {
    let mut fans: BTreeMap<usize, Fan> = BTreeMap::new();
    for linear in linears {
        let fan = fans.entry(linear.fan).or_default();
        *fan = Fan { rows: fan.rows + linear.rows, cols: linear.cols };
    }
    fans.into_values().collect()
}

/// Whether positions turn what this linear makes into a copy: queries and keys.
pub(crate) fn is_turned(name: &str) -> bool {
    ["q_proj", "k_proj"].iter().any(|local| name.ends_with(local))
}

/// Whether what this linear makes is the gate of another one's.
pub(crate) fn is_gate(name: &str) -> bool {
    name.ends_with("gate_proj")
}

/// Numbers for each token that a block on a GPU holds at most in its forward pass: the input and the outputs of each fan,
/// queries and keys once more as their positions turn them, and the sums after the attention and at the end.
pub(crate) fn activations(linears: &[LinearInfo], dim: usize) -> usize {
    let turned: usize = linears.iter().filter(|l| is_turned(&l.name)).map(|l| l.rows).sum();
    fans(linears).iter().map(|fan| fan.cols + fan.rows).sum::<usize>() + turned + 2 * dim
}
