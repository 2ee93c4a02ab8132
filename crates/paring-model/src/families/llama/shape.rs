//! What the configs of Llama and its relatives say, and what they leave to be known.

use serde_json::Value;

use super::{DOWN, GATE_UP, O, QKV};
use crate::{Result, config::Config};

/// What a member of the family is beside what its config says, and what it takes an absent key to mean.
pub(super) struct Member {
    pub biases: Biases,
    /// Whether each head of queries and keys goes through a norm before it is turned.
    pub head_norms: bool,
    /// `head_dim`, where it is not `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// `num_key_value_heads`, where it is not `num_attention_heads`.
    pub groups: Option<usize>,
    pub windows: Windows,
}

/// Which linears have biases.
pub(super) enum Biases {
    /// None.
    None,
    /// Those of queries, keys and values.
    Qkv,
    /// All four of the attention, if `attention_bias` says so.
    Attention,
    /// As [`Biases::Attention`], and those of the MLP if `mlp_bias` says so.
    AttentionAndMlp,
}

/// Which blocks attend in a sliding window.
pub(super) enum Windows {
    /// None.
    None,
    /// All, if there is a `sliding_window`.
    All,
    /// If `use_sliding_window` says so, those of `layer_types`, or else those from number `max_window_layers` on.
    Some,
}

pub(super) const LLAMA: Member =
    Member { biases: Biases::AttentionAndMlp, head_norms: false, head_dim: None, groups: None, windows: Windows::None };

pub(super) const MISTRAL: Member = Member { biases: Biases::None, groups: Some(8), windows: Windows::All, ..LLAMA };

pub(super) const QWEN2: Member = Member { biases: Biases::Qkv, groups: Some(32), windows: Windows::Some, ..LLAMA };

pub(super) const QWEN3: Member = Member { biases: Biases::Attention, head_norms: true, head_dim: Some(128), ..QWEN2 };

/// The config's numbers, checked.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub blocks: usize,
    pub vocab: usize,
    pub dim: usize,
    pub inner: usize,
    pub heads: usize,
    pub groups: usize,
    pub head_dim: usize,
    pub max_positions: usize,
    pub eps: f32,
    pub head_norms: bool,
    /// Of each block: how many keys a query sees, if not all before it.
    pub windows: Vec<Option<usize>>,
    pub tied: bool,
    /// What to look at where a bias is missing.
    pub bias_hint: &'static str,
    qkv_bias: bool,
    o_bias: bool,
    mlp_bias: bool,
}

/// A linear of a block.
pub(super) struct Local {
    /// Module name within the block.
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
    pub fan: usize,
    pub bias: bool,
}

impl Shape {
    pub fn read(config: &Config, member: &Member) -> Result<Self> {
        let dim = config.size("hidden_size", 1..=1 << 20)?;
        let heads = config.size("num_attention_heads", 1..=1 << 16)?;
        let groups = match (config.size_if("num_key_value_heads", 1..=1 << 16)?, member.groups) {
            (Some(groups), _) => groups,
            (None, Some(groups)) if !config.has("num_key_value_heads") => groups,
            (None, _) => heads,
        };
        if heads % groups != 0 {
            return Err(config.bad("num_key_value_heads", format!("a divisor of num_attention_heads ({heads})")));
        }
        let head_dim = match config.size_if("head_dim", 1..=1 << 16)?.or(member.head_dim) {
            Some(head_dim) => head_dim,
            None if dim % heads == 0 => dim / heads,
            None => return Err(config.bad("hidden_size", format!("a multiple of num_attention_heads ({heads})"))),
        };
        if head_dim % 2 != 0 {
            let key = if config.get("head_dim").is_some() { "head_dim" } else { "hidden_size" };
            return Err(config.bad(key, "such that each head has an even number of elements"));
        }
        match config.text_if("hidden_act")? {
            None | Some("silu" | "swish") => {}
            Some(_) => return Err(config.bad("hidden_act", "silu")),
        }
        let attention = || config.flag("attention_bias", false);
        let (qkv_bias, o_bias, mlp_bias, bias_hint) = match member.biases {
            Biases::None => (false, false, false, ""),
            Biases::Qkv => (true, false, false, "architectures is right"),
            Biases::Attention => (attention()?, attention()?, false, "attention_bias is right"),
            Biases::AttentionAndMlp => {
                let mlp = config.flag("mlp_bias", false)?;
                (attention()?, attention()?, mlp, "attention_bias and mlp_bias are right")
            }
        };
        let blocks = config.size("num_hidden_layers", 1..=10_000)?;
        Ok(Self {
            blocks,
            vocab: config.size("vocab_size", 1..=1 << 24)?,
            dim,
            inner: config.size("intermediate_size", 1..=1 << 22)?,
            heads,
            groups,
            head_dim,
            max_positions: config.size("max_position_embeddings", 1..=1 << 30)?,
            eps: config.number("rms_norm_eps", 0.0..=1.0)? as f32,
            head_norms: member.head_norms,
            windows: windows(config, &member.windows, blocks)?,
            tied: config.flag("tie_word_embeddings", false)?,
            bias_hint,
            qkv_bias,
            o_bias,
            mlp_bias,
        })
    }

    /// The linears of a block.
    pub fn linears(&self) -> [Local; 7] {
        let (q, kv) = (self.heads * self.head_dim, self.groups * self.head_dim);
        let (dim, inner, qkv_bias, mlp_bias) = (self.dim, self.inner, self.qkv_bias, self.mlp_bias);
        let local = |name, rows, cols, fan, bias| Local { name, rows, cols, fan, bias };
        [
            local("self_attn.q_proj", q, dim, QKV, qkv_bias),
            local("self_attn.k_proj", kv, dim, QKV, qkv_bias),
            local("self_attn.v_proj", kv, dim, QKV, qkv_bias),
            local("self_attn.o_proj", dim, q, O, self.o_bias),
            local("mlp.gate_proj", inner, dim, GATE_UP, mlp_bias),
            local("mlp.up_proj", inner, dim, GATE_UP, mlp_bias),
            local("mlp.down_proj", dim, inner, DOWN, mlp_bias),
        ]
    }

    /// Names within a block, and sizes, of the weights of norms.
    pub fn norms(&self) -> Vec<(&'static str, usize)> {
        let mut norms = vec![("input_layernorm.weight", self.dim), ("post_attention_layernorm.weight", self.dim)];
        if self.head_norms {
            norms.extend([("self_attn.q_norm.weight", self.head_dim), ("self_attn.k_norm.weight", self.head_dim)]);
        }
        norms
    }
}

/// The sliding window of each block.
fn windows(config: &Config, windows: &Windows, blocks: usize) -> Result<Vec<Option<usize>>> {
    let (used, first) = match windows {
        Windows::None => return Ok(vec![None; blocks]),
        Windows::All => (true, 0),
        Windows::Some => {
            let first = config.size_if("max_window_layers", 0..=1 << 30)?.unwrap_or(28);
            (config.flag("use_sliding_window", false)?, first)
        }
    };
    let window = match config.has("sliding_window") {
        _ if !used => None,
        true => config.size_if("sliding_window", 1..=1 << 30)?,
        false => Some(4096),
    };
    let slides = match config.get("layer_types") {
        None => (0..blocks).map(|i| window.is_some() && i >= first).collect(),
        Some(types) => layer_types(types, blocks)
            .ok_or_else(|| config.bad("layer_types", format!("{blocks} names, full_attention or sliding_attention")))?,
    };
    if matches!(windows, Windows::All) && slides.iter().any(|&slides| slides != window.is_some()) {
        return Err(config.bad("layer_types", "absent or the same for all layers, as sliding_window says"));
    }
    if window.is_none() && slides.contains(&true) {
        return Err(config.bad("layer_types", "full_attention throughout where no sliding_window is used"));
    }
    Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

/// Of each of `blocks` blocks: whether it slides. Nothing where the names are others or not as many.
fn layer_types(types: &Value, blocks: usize) -> Option<Vec<bool>> {
    let types = types.as_array().filter(|types| types.len() == blocks)?;
    types
        .iter()
        .map(|name| match name.as_str() {
            Some("full_attention") => Some(false),
            Some("sliding_attention") => Some(true),
            _ => None,
        })
        .collect()
}
