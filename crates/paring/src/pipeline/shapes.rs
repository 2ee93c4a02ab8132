//! Sizes of a block that several estimates are made of.

use std::collections::BTreeMap;

use paring_model::{AttentionInfo, BlockInfo, LinearInfo, MlpInfo, PositionKind};

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

/// Numbers for each token that a block on a GPU holds at most in its forward pass: the input and the outputs of each fan,
/// queries and keys once more where positions rotate them, and the sums after the attention and at the end.
pub(crate) fn activations(block: &BlockInfo, dim: usize) -> usize {
    let of_fans = fans(&block.linears).iter().map(|fan| fan.cols + fan.rows).sum::<usize>();
    of_fans + block.attention.rotated() + 2 * dim
}

/// A Llama's block, by the width of its activations, of its keys and between its MLP's matrices. Heads have 128 numbers, or
/// as many as there are keys.
pub(crate) fn llama(dim: usize, keys: usize, inner: usize) -> BlockInfo {
    let linear = |name: &str, rows, cols, fan, fused| LinearInfo { name: name.to_string(), rows, cols, fan, fused };
    let head_dim = keys.min(128);
    BlockInfo {
        linears: vec![
            linear("self_attn.q_proj", dim, dim, 0, Some(0)),
            linear("self_attn.k_proj", keys, dim, 0, Some(0)),
            linear("self_attn.v_proj", keys, dim, 0, Some(0)),
            linear("self_attn.o_proj", dim, dim, 1, None),
            linear("mlp.gate_proj", inner, dim, 2, Some(1)),
            linear("mlp.up_proj", inner, dim, 2, Some(1)),
            linear("mlp.down_proj", dim, inner, 3, None),
        ],
        attention: AttentionInfo {
            module: "self_attn".to_string(),
            after_fan: 0,
            output_fan: 1,
            heads: dim / head_dim,
            kv_heads: keys / head_dim,
            head_dim,
            window: None,
            positions: PositionKind::Rotary,
            cache_module: Some("self_attn".to_string()),
        },
        mlp: MlpInfo::Gated { fan: 2, down: 3 },
        norms: Vec::new(),
    }
}
