//! Falcon configuration: validated values.

use super::super::family::LinearShape;
use super::{FIRST, O, UP};
use crate::Result;
use crate::config::Config;
use crate::parts::{alibi::Alibi, encoding::PositionEncoding, rope::Rope};

/// Positions where the config does not say: transformers' default, and what the first models were trained with.
const POSITIONS: usize = 2048;

/// The order of the attention and the MLP of a block, which decides their norms and fans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The MLP follows the attention (Falcon-RW).
    Sequential,
    /// Both read the output of one norm (7B, 11B): the fused matrix and the first of the MLP are one fan.
    Shared,
    /// Both read the block's input, each through a norm of its own (40B, 180B).
    TwoNorms,
}

impl Order {
    pub fn norms(self) -> &'static [&'static str] {
        match self {
            Self::Sequential => &["input_layernorm", "post_attention_layernorm"],
            Self::Shared => &["input_layernorm"],
            Self::TwoNorms => &["ln_attn", "ln_mlp"],
        }
    }

    pub fn fans(self) -> &'static [&'static str] {
        match self {
            Self::Shared => &["qkv_up", "o", "down"],
            Self::Sequential | Self::TwoNorms => &["qkv", "o", "up", "down"],
        }
    }
}

/// The config's numbers, checked.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub blocks: usize,
    pub vocab: usize,
    pub dim: usize,
    inner: usize,
    pub heads: usize,
    /// Heads of keys, and of values.
    pub groups: usize,
    pub head_dim: usize,
    pub max_positions: usize,
    pub eps: f32,
    pub order: Order,
    bias: bool,
    alibi: bool,
    pub tied: bool,
}

/// The first of a value's names that the config has, or else the current one, which comes first.
fn named(config: &Config, names: [&'static str; 2]) -> &'static str {
    names.into_iter().find(|name| config.get(name).is_some()).unwrap_or(names[0])
}

impl Shape {
    pub fn read(config: &Config) -> Result<Self> {
        let hidden = named(config, ["hidden_size", "n_embed"]);
        let dim = config.size(hidden, 1..=1 << 20)?;
        let heads = config.size(named(config, ["num_attention_heads", "n_head"]), 1..=1 << 16)?;
        if !dim.is_multiple_of(heads) {
            return Err(config.bad(hidden, format!("a multiple of the number of heads ({heads})")));
        }
        let head_dim = dim / heads;
        let alibi = config.flag("alibi", false)?;
        if !alibi && !head_dim.is_multiple_of(2) {
            return Err(config.bad(hidden, "such that each head has an even number of elements"));
        }
        match config.text_if("activation")? {
            None | Some("gelu") => {}
            Some(_) => return Err(config.bad("activation", "gelu")),
        }
        if config.flag("apply_residual_connection_post_layernorm", false)? {
            return Err(config.bad("apply_residual_connection_post_layernorm", "false or absent"));
        }
        let (order, groups) = Self::order(config, heads)?;
        Ok(Self {
            blocks: config.size(named(config, ["num_hidden_layers", "n_layer"]), 1..=10_000)?,
            vocab: config.size("vocab_size", 1..=1 << 24)?,
            dim,
            inner: config.size_if("ffn_hidden_size", 1..=1 << 22)?.unwrap_or(4 * dim),
            heads,
            groups,
            head_dim,
            max_positions: config.size_if("max_position_embeddings", 1..=1 << 30)?.unwrap_or(POSITIONS),
            eps: config.number_if("layer_norm_epsilon", 0.0..=1.0)?.unwrap_or(1e-5) as f32,
            order,
            bias: config.flag("bias", false)?,
            alibi,
            tied: config.flag("tie_word_embeddings", true)?,
        })
    }

    /// The order of a block and its heads of keys. RefinedWeb configs say less than later ones: the code of the 40B
    /// knew the new architecture alone and no `multi_query`, that of the smaller models had everything off by default.
    fn order(config: &Config, heads: usize) -> Result<(Order, usize)> {
        let old = config.text_if("model_type")?.filter(|name| name.starts_with("RefinedWeb"));
        let large = old == Some("RefinedWeb") && config.get("multi_query").is_none();
        let new = config.flag("new_decoder_architecture", large)?;
        let multi_query = config.flag("multi_query", old.is_none())?;
        let parallel = config.flag("parallel_attn", old.is_none() || new)?;
        let groups = named(config, ["num_kv_heads", "n_head_kv"]);
        let norms = config.size_if("num_ln_in_parallel_attn", 1..=2)?;
        let stored = config.size_if(groups, 1..=1 << 16)?;
        if new {
            if !parallel {
                return Err(config.bad("parallel_attn", "true or absent with new_decoder_architecture"));
            }
            let stored = stored.unwrap_or(heads);
            if !heads.is_multiple_of(stored) {
                return Err(config.bad(groups, format!("a divisor of the number of heads ({heads})")));
            }
            return Ok((if norms == Some(1) { Order::Shared } else { Order::TwoNorms }, stored));
        }
        if parallel && norms == Some(2) {
            return Err(config.bad("num_ln_in_parallel_attn", "1 or absent without new_decoder_architecture"));
        }
        // Multi-query attention has one head of keys, whatever the number says.
        if !multi_query && stored.is_some_and(|stored| stored != heads) {
            let expected = format!("the number of heads ({heads}) without multi_query and new_decoder_architecture");
            return Err(config.bad(groups, expected));
        }
        Ok((if parallel { Order::Shared } else { Order::Sequential }, if multi_query { 1 } else { heads }))
    }

    /// The linears of a block, fan by fan.
    pub fn linears(&self) -> [LinearShape; 4] {
        let &Self { dim, inner, heads, groups, head_dim, order, .. } = self;
        let last = order.fans().len() - 1;
        let bias = self.bias.then_some("bias is right");
        let local = |name, rows, cols, fan| LinearShape { name, rows, cols, fan, bias };
        let qkv = local("self_attention.query_key_value", (heads + 2 * groups) * head_dim, dim, FIRST);
        let o = local("self_attention.dense", dim, dim, O);
        let up = |fan| local("mlp.dense_h_to_4h", inner, dim, fan);
        let down = local("mlp.dense_4h_to_h", dim, inner, last);
        match order {
            Order::Shared => [qkv, up(FIRST), o, down],
            Order::Sequential | Order::TwoNorms => [qkv, o, up(UP), down],
        }
    }
}

/// Rotary embeddings and their settings, or alibi, which goes with none.
pub(super) fn positions(config: &Config, shape: &Shape) -> Result<PositionEncoding> {
    let rope = Rope::from_config(config, shape.head_dim, shape.max_positions)?;
    if !shape.alibi {
        return Ok(PositionEncoding::Rotary(rope));
    }
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(section) = config.section(key)? else { continue };
        let kind = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
        if section.text_if(kind)?.is_some_and(|name| name != "default") {
            return Err(section.bad(kind, "default or absent with alibi"));
        }
    }
    Ok(PositionEncoding::Alibi(Alibi::new(shape.heads, times(config)?)))
}

/// The number of times that alibi is added: once, as Falcon-RW was trained, unless the config is of transformers 4.45 or later,
/// whose eager attention adds it with the mask and again by itself: published results made with that attention have
/// it twice. Its sdpa attention adds alibi once; `attn_implementation`, which transformers takes from a config too,
/// asks for that.
fn times(config: &Config) -> Result<f32> {
    let key = "transformers_version";
    let later = match config.text_if(key)? {
        None => false,
        Some(version) => {
            let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
            let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
                return Err(config.bad(key, "a version, such as 4.45.0"));
            };
            (major, minor) >= (4, 45)
        }
    };
    match config.text_if("attn_implementation")? {
        None | Some("eager") => Ok(if later { 2.0 } else { 1.0 }),
        Some("sdpa") => Ok(1.0),
        Some(_) => Err(config.bad("attn_implementation", "eager, sdpa or absent with alibi")),
    }
}
