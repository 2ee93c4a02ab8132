//! Llama-family configuration: validated values and per-model defaults.

use serde_json::Value;

use super::super::family::LinearShape;
use super::{DOWN, GATE_UP, O, QKV};
use crate::{Result, config::Config};

/// The traits of a family member that its config does not state, and its defaults for absent keys.
pub(super) struct Member {
    pub biases: Biases,
    /// True if each head of queries and keys goes through a norm before it is rotated.
    pub head_norms: bool,
    /// `head_dim`, where it is not `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// `num_key_value_heads`, where it is not `num_attention_heads`.
    pub groups: Option<usize>,
    pub windows: Windows,
}

/// Linears that have biases.
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

/// Blocks that attend in a sliding window.
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
    /// The config keys that ask for biases.
    bias_hint: &'static str,
    qkv_bias: bool,
    o_bias: bool,
    mlp_bias: bool,
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
    pub fn linears(&self) -> [LinearShape; 7] {
        let (q, kv) = (self.heads * self.head_dim, self.groups * self.head_dim);
        let (dim, inner, qkv_bias, mlp_bias) = (self.dim, self.inner, self.qkv_bias, self.mlp_bias);
        let local = |name, rows, cols, fan, bias: bool| LinearShape {
            name,
            rows,
            cols,
            fan,
            bias: bias.then_some(self.bias_hint),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A config of four blocks and four heads, with changes; the key `absent` lists keys to leave out.
    fn read(member: &Member, changes: Value) -> Result<Shape> {
        let mut config = json!({"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 4, "vocab_size": 9,
            "intermediate_size": 40, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_key_value_heads": 2});
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        for key in changes["absent"].as_array().into_iter().flatten() {
            config.as_object_mut().unwrap().remove(key.as_str().unwrap());
        }
        Shape::read(&Config::new("config.json", &config), member)
    }

    fn windows_of(member: &Member, changes: Value) -> std::result::Result<Vec<usize>, String> {
        let shape = read(member, changes).map_err(|e| e.to_string())?;
        Ok(shape.windows.iter().map(|window| window.unwrap_or(0)).collect())
    }

    #[test]
    fn windows_of_mistral() {
        let check = |changes: Value, expected: &[usize]| {
            assert_eq!(windows_of(&MISTRAL, changes.clone()), Ok(expected.to_vec()), "{changes}");
        };
        // Without the key there is one, with null there is none.
        check(json!({}), &[4096; 4]);
        check(json!({"sliding_window": null}), &[0; 4]);
        check(json!({"sliding_window": 7}), &[7; 4]);
        check(json!({"sliding_window": 7, "layer_types": vec!["sliding_attention"; 4]}), &[7; 4]);
        check(json!({"sliding_window": null, "layer_types": vec!["full_attention"; 4]}), &[0; 4]);
        let mixed = json!({"sliding_window": 7,
            "layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"]});
        let error = windows_of(&MISTRAL, mixed).unwrap_err();
        let start =
            "config.json: layer_types should be absent or the same for all layers, as sliding_window says, got [";
        assert!(error.starts_with(start), "{error}");
        for bad in [json!(0), json!("7"), json!(-1), json!(1.5)] {
            assert_eq!(
                windows_of(&MISTRAL, json!({"sliding_window": bad})),
                Err(format!("config.json: sliding_window should be a whole number from 1 to 1073741824, got {bad}"))
            );
        }
        // Llama has none, whatever a config says.
        assert_eq!(windows_of(&LLAMA, json!({"sliding_window": 7})), Ok(vec![0; 4]));
    }

    #[test]
    fn windows_of_qwen() {
        for member in [QWEN2, QWEN3] {
            let check = |changes: Value, expected: &[usize]| {
                assert_eq!(windows_of(&member, changes.clone()), Ok(expected.to_vec()), "{changes}");
            };
            check(json!({}), &[0; 4]);
            check(json!({"sliding_window": 7, "max_window_layers": 2}), &[0; 4]);
            check(json!({"use_sliding_window": true, "sliding_window": 7}), &[0; 4]);
            check(json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 3}), &[0, 0, 0, 7]);
            check(json!({"use_sliding_window": true, "max_window_layers": 0}), &[4096; 4]);
            check(json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}), &[0; 4]);
            let types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"];
            check(json!({"use_sliding_window": true, "sliding_window": 7, "layer_types": types}), &[7, 0, 0, 7]);

            let error = windows_of(&member, json!({"sliding_window": 7, "layer_types": types})).unwrap_err();
            let start =
                "config.json: layer_types should be full_attention throughout where no sliding_window is used, got";
            assert!(error.starts_with(start), "{error}");
            for bad in [
                json!(vec!["full_attention"; 3]),
                json!(vec!["chunked_attention"; 4]),
                json!("full_attention"),
                json!([1]),
            ] {
                let error = windows_of(&member, json!({"layer_types": bad})).unwrap_err();
                let start = "config.json: layer_types should be 4 names, full_attention or sliding_attention, got ";
                assert!(error.starts_with(start), "{error}");
            }
            let flag = windows_of(&member, json!({"use_sliding_window": 1})).unwrap_err();
            assert_eq!(flag, "config.json: use_sliding_window should be true or false, got 1");
        }
    }

    #[test]
    fn absent_keys() {
        let groups = |member: &Member, changes: Value| read(member, changes).unwrap().groups;
        for (member, expected) in [(&LLAMA, 32), (&MISTRAL, 8), (&QWEN2, 32), (&QWEN3, 32)] {
            let absent = json!({"absent": ["num_key_value_heads"], "num_attention_heads": 32, "head_dim": 8});
            assert_eq!(groups(member, absent), expected);
            let none = json!({"num_key_value_heads": null, "num_attention_heads": 16});
            assert_eq!(groups(member, none), 16);
        }
        let head_dim = |member: &Member, changes: Value| read(member, changes).unwrap().head_dim;
        for member in [&LLAMA, &MISTRAL, &QWEN2] {
            assert_eq!(head_dim(member, json!({})), 8);
        }
        assert_eq!((head_dim(&QWEN3, json!({})), head_dim(&QWEN3, json!({"head_dim": 16}))), (128, 16));
    }

    #[test]
    fn biases() {
        let biased = |member: &Member, changes: Value| -> Vec<bool> {
            read(member, changes).unwrap().linears().iter().map(|linear| linear.bias.is_some()).collect()
        };
        let both = || json!({"attention_bias": true, "mlp_bias": true});
        let (yes, no) = (true, false);
        assert_eq!(biased(&LLAMA, both()), [yes; 7]);
        assert_eq!(biased(&LLAMA, json!({})), [no; 7]);
        assert_eq!(biased(&MISTRAL, both()), [no; 7]);
        assert_eq!(biased(&QWEN2, json!({})), [yes, yes, yes, no, no, no, no]);
        assert_eq!(biased(&QWEN3, json!({})), [no; 7]);
        assert_eq!(biased(&QWEN3, both()), [yes, yes, yes, yes, no, no, no]);
    }
}
