//! What a Falcon's config says, checked.

use crate::Result;
use crate::config::Config;
use crate::parts::{alibi::Alibi, rope::Rope};

/// Positions where the config does not say: transformers' default, and what the first models were trained with.
const POSITIONS: usize = 2048;

/// How a block learns where its tokens stand.
pub(super) enum Positions {
    Rotary(Rope),
    Alibi {
        alibi: Alibi,
        /// How often it is added to the scores.
        times: f32,
    },
}

/// How the attention and the MLP of a block stand to each other, and what their norms are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The MLP follows the attention (Falcon-RW).
    Sequential,
    /// Both read the output of one norm (7B, 11B): the fused matrix and the first of the MLP are one fan.
    Shared,
    /// Both read the block's input, each through a norm of its own (40B, 180B).
    TwoNorms,
}

impl Flow {
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
    pub inner: usize,
    pub heads: usize,
    /// Heads of keys, and of values.
    pub groups: usize,
    pub head_dim: usize,
    pub max_positions: usize,
    pub eps: f32,
    pub flow: Flow,
    pub bias: bool,
    pub alibi: bool,
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
        let (flow, groups) = Self::flow(config, heads)?;
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
            flow,
            bias: config.flag("bias", false)?,
            alibi,
            tied: config.flag("tie_word_embeddings", true)?,
        })
    }

    /// The order of a block and its heads of keys. RefinedWeb configs say less than later ones: the code of the 40B
    /// knew the new architecture alone and no `multi_query`, that of the smaller models had everything off by default.
    fn flow(config: &Config, heads: usize) -> Result<(Flow, usize)> {
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
            return Ok((if norms == Some(1) { Flow::Shared } else { Flow::TwoNorms }, stored));
        }
        if parallel && norms == Some(2) {
            return Err(config.bad("num_ln_in_parallel_attn", "1 or absent without new_decoder_architecture"));
        }
        // Multi-query attention has one head of keys, whatever the number says.
        if !multi_query && stored.is_some_and(|stored| stored != heads) {
            let expected = format!("the number of heads ({heads}) without multi_query and new_decoder_architecture");
            return Err(config.bad(groups, expected));
        }
        Ok((if parallel { Flow::Shared } else { Flow::Sequential }, if multi_query { 1 } else { heads }))
    }

    /// Local module name, rows, cols, fan of each linear of a block, fan by fan.
    pub fn linears(&self) -> [(&'static str, usize, usize, usize); 4] {
        let &Self { dim, inner, heads, groups, head_dim, flow, .. } = self;
        let last = flow.fans().len() - 1;
        let qkv = ("self_attention.query_key_value", (heads + 2 * groups) * head_dim, dim, 0);
        let o = ("self_attention.dense", dim, dim, 1);
        let up = |fan| ("mlp.dense_h_to_4h", inner, dim, fan);
        let down = ("mlp.dense_4h_to_h", dim, inner, last);
        match flow {
            Flow::Shared => [qkv, up(0), o, down],
            Flow::Sequential | Flow::TwoNorms => [qkv, o, up(2), down],
        }
    }

    /// Names inside a block of what is no weight of a linear: norms and biases.
    pub fn rest(&self) -> Vec<String> {
        let norms = self.flow.norms().iter().flat_map(|norm| [format!("{norm}.weight"), format!("{norm}.bias")]);
        let biases = self.linears().into_iter().filter(|_| self.bias).map(|(local, ..)| format!("{local}.bias"));
        norms.chain(biases).collect()
    }
}

impl Positions {
    /// Rotary embeddings and their settings, or alibi, which goes with none.
    pub fn read(config: &Config, shape: &Shape) -> Result<Self> {
        let rope = Rope::from_config(config, shape.head_dim, shape.max_positions)?;
        if !shape.alibi {
            return Ok(Self::Rotary(rope));
        }
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(section) = config.section(key)? else { continue };
            let kind = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
            if section.text_if(kind)?.is_some_and(|name| name != "default") {
                return Err(section.bad(kind, "default or absent with alibi"));
            }
        }
        Ok(Self::Alibi { alibi: Alibi::new(shape.heads), times: Self::times(config)? })
    }

    /// How often alibi is added: once, as Falcon-RW was trained, unless the config is of transformers 4.45 or later,
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
}
