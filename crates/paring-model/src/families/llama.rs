//! Llama: RMS norms, rotary embeddings, grouped queries, SwiGLU. The same architecture serves several models under the
//! same name (Llama 1 to 3, TinyLlama, SmolLM2 and others).

use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::{
    attention::{Scores, causal},
    matmul::Precision,
    plain::add,
    swiglu::swiglu,
};

use super::Family;
use crate::config::Config;
use crate::fan::pass;
use crate::parts::{embedding, head::Head, norm::RmsNorm, rope::Rope};
use crate::source::{Source, config_file};
use crate::{Block, Decoder, Fan, LinearInfo, Result, Tap};

/// This family's row in [`super::FAMILIES`].
pub const FAMILY: Family = Family {
    name: "llama",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"],
    model_types: &["llama"],
    open: |checkpoint, precision| Ok(Box::new(Llama::open(checkpoint, precision)?)),
};

const QKV: usize = 0;
const O: usize = 1;
const GATE_UP: usize = 2;
const DOWN: usize = 3;
const FANS: [&str; 4] = ["qkv", "o", "gate_up", "down"];

/// An opened Llama.
pub struct Llama {
    source: Source,
    shape: Shape,
    rope: Arc<Rope>,
    norm: RmsNorm,
    head: Head,
}

/// The config's numbers, checked.
#[derive(Clone, Debug)]
struct Shape {
    blocks: usize,
    vocab: usize,
    dim: usize,
    inner: usize,
    heads: usize,
    groups: usize,
    head_dim: usize,
    max_positions: usize,
    eps: f32,
    attention_bias: bool,
    mlp_bias: bool,
    tied: bool,
}

impl Shape {
    fn read(config: &Config) -> Result<Self> {
        let dim = config.size("hidden_size", 1..=1 << 20)?;
        let heads = config.size("num_attention_heads", 1..=1 << 16)?;
        let groups = config.size_if("num_key_value_heads", 1..=1 << 16)?.unwrap_or(heads);
        if heads % groups != 0 {
            return Err(config.bad("num_key_value_heads", format!("a divisor of num_attention_heads ({heads})")));
        }
        let head_dim = match config.size_if("head_dim", 1..=1 << 16)? {
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
        Ok(Self {
            blocks: config.size("num_hidden_layers", 1..=10_000)?,
            vocab: config.size("vocab_size", 1..=1 << 24)?,
            dim,
            inner: config.size("intermediate_size", 1..=1 << 22)?,
            heads,
            groups,
            head_dim,
            max_positions: config.size("max_position_embeddings", 1..=1 << 30)?,
            eps: config.number("rms_norm_eps", 0.0..=1.0)? as f32,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
            tied: config.flag("tie_word_embeddings", false)?,
        })
    }

    /// Local module name, rows, cols, fan, bias of each linear of a block.
    fn linears(&self) -> [(&'static str, usize, usize, usize, bool); 7] {
        let (q, kv) = (self.heads * self.head_dim, self.groups * self.head_dim);
        let (dim, inner, attention, mlp) = (self.dim, self.inner, self.attention_bias, self.mlp_bias);
        [
            ("self_attn.q_proj", q, dim, QKV, attention),
            ("self_attn.k_proj", kv, dim, QKV, attention),
            ("self_attn.v_proj", kv, dim, QKV, attention),
            ("self_attn.o_proj", dim, q, O, attention),
            ("mlp.gate_proj", inner, dim, GATE_UP, mlp),
            ("mlp.up_proj", inner, dim, GATE_UP, mlp),
            ("mlp.down_proj", dim, inner, DOWN, mlp),
        ]
    }
}

impl Llama {
    /// Checks the config and that each tensor is stored with the shape it implies; reads only the final norm.
    pub fn open(checkpoint: Arc<Checkpoint>, precision: Precision) -> Result<Self> {
        let config = Config::new(config_file(&checkpoint), checkpoint.config());
        let shape = Shape::read(&config)?;
        let rope = Arc::new(Rope::from_config(&config, shape.head_dim, shape.max_positions)?);
        let source = Source::new(Arc::clone(&checkpoint), &["model.", ""], "embed_tokens.weight", precision);
        let Shape { dim, vocab, .. } = shape;
        source.expect(&source.name("embed_tokens.weight"), &[vocab, dim], "vocab_size and hidden_size are right")?;
        let head = Head::open(&source, &source.name("embed_tokens"), vocab, dim, shape.tied)?;
        for i in 0..shape.blocks {
            for local in ["input_layernorm.weight", "post_attention_layernorm.weight"] {
                source.expect(&block_name(&source, i, local), &[dim], "num_hidden_layers is right")?;
            }
            for (local, rows, cols, _, bias) in shape.linears() {
                let name = block_name(&source, i, local);
                source.expect_linear(&name, rows, cols, "num_hidden_layers is right")?;
                if bias {
                    source.expect(&format!("{name}.bias"), &[rows], "attention_bias and mlp_bias are right")?;
                }
            }
        }
        let norm = source.name("norm.weight");
        source.expect(&norm, &[dim], "hidden_size is right")?;
        let norm = RmsNorm::read(&source, &norm, dim, shape.eps)?;
        Ok(Self { source, shape, rope, norm, head })
    }
}

fn block_name(source: &Source, i: usize, local: &str) -> String {
    source.name(&format!("layers.{i}.{local}"))
}

impl Decoder for Llama {
    fn blocks(&self) -> usize {
        self.shape.blocks
    }

    fn hidden_size(&self) -> usize {
        self.shape.dim
    }

    fn vocab_size(&self) -> usize {
        self.shape.vocab
    }

    fn max_positions(&self) -> usize {
        self.shape.max_positions
    }

    fn embed(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        self.rope.check_length(embedding::row_length(ids, batch)?)?;
        let name = self.source.name("embed_tokens.weight");
        embedding::embed(&self.source, &name, self.shape.vocab, self.shape.dim, ids, batch)
    }

    fn block(&self, i: usize) -> Result<Box<dyn Block>> {
        let mut fans = FANS.map(|name| Fan { name, linears: Vec::new() });
        for (info, (.., bias)) in self.linears(i).iter().zip(self.shape.linears()) {
            fans[info.fan].linears.push(self.source.linear(info, bias)?);
        }
        let norm =
            |local| RmsNorm::read(&self.source, &block_name(&self.source, i, local), self.shape.dim, self.shape.eps);
        Ok(Box::new(LlamaBlock {
            fans,
            before_attention: norm("input_layernorm.weight")?,
            before_mlp: norm("post_attention_layernorm.weight")?,
            rope: Arc::clone(&self.rope),
            heads: self.shape.heads,
            groups: self.shape.groups,
            head_dim: self.shape.head_dim,
            precision: self.source.precision(),
        }))
    }

    fn linears(&self, i: usize) -> Vec<LinearInfo> {
        let info =
            |(local, rows, cols, fan, _)| LinearInfo { name: block_name(&self.source, i, local), rows, cols, fan };
        self.shape.linears().map(info).into()
    }

    fn rest_names(&self, i: usize) -> Vec<String> {
        let biased = self.shape.linears().into_iter().filter(|(.., bias)| *bias);
        let norms = ["input_layernorm.weight", "post_attention_layernorm.weight"].map(String::from);
        norms
            .into_iter()
            .chain(biased.map(|(local, ..)| format!("{local}.bias")))
            .map(|local| block_name(&self.source, i, &local))
            .collect()
    }

    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
        self.head.nll(&self.source, h, ids, |x| self.norm.forward(x))
    }

    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.source, h, |x| self.norm.forward(x))
    }

    fn outer_names(&self) -> Vec<String> {
        let mut names = vec![self.source.name("embed_tokens.weight"), self.source.name("norm.weight")];
        names.extend(self.source.parts_of("lm_head"));
        names
    }
}

struct LlamaBlock {
    fans: [Fan; 4],
    before_attention: RmsNorm,
    before_mlp: RmsNorm,
    rope: Arc<Rope>,
    heads: usize,
    groups: usize,
    head_dim: usize,
    /// How the products of the attention round their inputs.
    precision: Precision,
}

impl LlamaBlock {
    /// The block's output, or the input of fan `stop` (shown to the tap) where `stop` is one of the fans.
    fn run(&self, h: &Tensor, tap: &mut dyn Tap, stop: usize) -> Result<Tensor> {
        let (b, t, _) = h.dims3()?;
        let x = self.before_attention.forward(h)?;
        let Some(qkv) = pass(&self.fans, QKV, stop, &x, tap)? else { return Ok(x) };
        let split = |x: &Tensor, heads: usize| x.reshape((b, t, heads, self.head_dim));
        let q = self.rope.forward(&split(&qkv[0], self.heads)?)?;
        let k = self.rope.forward(&split(&qkv[1], self.groups)?)?;
        let v = split(&qkv[2], self.groups)?;
        let scores = Scores::scaled((self.head_dim as f32).sqrt().recip());
        let x = causal(&q, &k, &v, &scores, self.precision)?;
        let Some(o) = pass(&self.fans, O, stop, &x, tap)? else { return Ok(x) };
        let h = add(h, &o[0])?;
        let x = self.before_mlp.forward(&h)?;
        let Some(gate_up) = pass(&self.fans, GATE_UP, stop, &x, tap)? else { return Ok(x) };
        let x = swiglu(&gate_up[0], &gate_up[1])?;
        let Some(down) = pass(&self.fans, DOWN, stop, &x, tap)? else { return Ok(x) };
        Ok(add(&h, &down[0])?)
    }
}

impl Block for LlamaBlock {
    fn forward(&self, h: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.run(h, tap, FANS.len())
    }

    fn tap_only(&self, h: &Tensor, tap: &mut dyn Tap, upto: Option<usize>) -> Result<()> {
        self.run(h, tap, upto.unwrap_or(DOWN).min(DOWN)).map(drop)
    }

    fn fans(&mut self) -> Vec<&mut Fan> {
        self.fans.iter_mut().collect()
    }
}
