//! OPT configuration: validated values.

use super::super::family::{LinearShape, NormKind, NormShape};
use super::{FC1, FC2, OUT, QKV};
use crate::Result;
use crate::config::Config;
use crate::parts::activation::Activation;

/// No config has a key for it: it is torch's default.
const EPS: f32 = 1e-5;

/// The config's numbers, checked.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub blocks: usize,
    pub vocab: usize,
    pub dim: usize,
    /// Width of the embedding and of the head's input.
    pub word: usize,
    inner: usize,
    pub heads: usize,
    pub max_positions: usize,
    /// True if a norm is applied to the input of its half of the block, false if to the sum at its end.
    pub norm_before: bool,
    pub final_norm: bool,
    pub activation: Activation,
    /// True if linears have biases.
    bias: bool,
    /// True if norms have weights and biases.
    affine: bool,
    pub tied: bool,
}

impl Shape {
    pub fn read(config: &Config) -> Result<Self> {
        let dim = config.size("hidden_size", 1..=1 << 20)?;
        let heads = config.size("num_attention_heads", 1..=1 << 16)?;
        if dim % heads != 0 {
            return Err(config.bad("hidden_size", format!("a multiple of num_attention_heads ({heads})")));
        }
        let activation = match config.text_if("activation_function")? {
            None | Some("relu") => Activation::Relu,
            Some("gelu") => Activation::Gelu,
            Some(_) => return Err(config.bad("activation_function", "relu or gelu")),
        };
        let norm_before = config.flag("do_layer_norm_before", true)?;
        let removed = config.flag("_remove_final_layer_norm", false)?;
        Ok(Self {
            blocks: config.size("num_hidden_layers", 1..=10_000)?,
            vocab: config.size("vocab_size", 1..=1 << 24)?,
            dim,
            word: config.size_if("word_embed_proj_dim", 1..=1 << 20)?.unwrap_or(dim),
            inner: config.size("ffn_dim", 1..=1 << 22)?,
            heads,
            max_positions: config.size("max_position_embeddings", 1..=1 << 30)?,
            norm_before,
            final_norm: norm_before && !removed,
            activation,
            bias: config.flag("enable_bias", true)?,
            affine: config.flag("layer_norm_elementwise_affine", true)?,
            tied: config.flag("tie_word_embeddings", true)?,
        })
    }

    /// The linears of a block.
    pub fn linears(&self) -> [LinearShape; 6] {
        let (dim, inner) = (self.dim, self.inner);
        let bias = self.bias.then_some("enable_bias is right");
        let local = |name, rows, cols, fan| LinearShape { name, rows, cols, fan, bias };
        [
            local("self_attn.q_proj", dim, dim, QKV),
            local("self_attn.k_proj", dim, dim, QKV),
            local("self_attn.v_proj", dim, dim, QKV),
            local("self_attn.out_proj", dim, dim, OUT),
            local("fc1", inner, dim, FC1),
            local("fc2", dim, inner, FC2),
        ]
    }

    /// A norm of this module.
    pub fn norm(&self, name: &'static str, hint: &'static str) -> NormShape {
        let kind = if self.affine { NormKind::Layer } else { NormKind::BareLayer };
        NormShape { name, kind, dim: self.dim, eps: EPS, hint }
    }
}
