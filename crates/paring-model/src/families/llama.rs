//! Llama: RMS norms, rotary embeddings, grouped queries, SwiGLU. The same architecture serves several models under the
//! same name (Llama 1 to 3, TinyLlama, SmolLM2 and others), and with small differences Mistral, Qwen2 and Qwen3.

mod shape;

use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::{
    attention::{Scores, causal},
    matmul::Precision,
};

use self::shape::{Local, Member, Shape};
use super::Family;
use crate::activations::Cache;
use crate::config::Config;
use crate::fan::{pass, pass_gated, pass_onto};
use crate::parts::{embedding, head::Head, norm::RmsNorm, rope::Rope};
use crate::source::{Source, config_file};
use crate::{Arithmetic, Block, Decoder, Fan, LinearInfo, Result, Sizes, Tap};

/// Llama's row in [`super::FAMILIES`].
pub const LLAMA: Family = Family {
    name: "llama",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"],
    model_types: &["llama"],
    open: |checkpoint, arithmetic| Ok(Box::new(Llama::open(checkpoint, arithmetic, &shape::LLAMA)?)),
};

/// Mistral's row in [`super::FAMILIES`]: attention in a sliding window.
pub const MISTRAL: Family = Family {
    name: "mistral",
    architectures: &["MistralForCausalLM", "MistralModel"],
    model_types: &["mistral"],
    open: |checkpoint, arithmetic| Ok(Box::new(Llama::open(checkpoint, arithmetic, &shape::MISTRAL)?)),
};

/// Qwen2's row in [`super::FAMILIES`]: biases of queries, keys and values, a sliding window in some blocks.
pub const QWEN2: Family = Family {
    name: "qwen2",
    architectures: &["Qwen2ForCausalLM", "Qwen2Model"],
    model_types: &["qwen2"],
    open: |checkpoint, arithmetic| Ok(Box::new(Llama::open(checkpoint, arithmetic, &shape::QWEN2)?)),
};

/// Qwen3's row in [`super::FAMILIES`]: norms of each head of queries and keys, a sliding window in some blocks.
pub const QWEN3: Family = Family {
    name: "qwen3",
    architectures: &["Qwen3ForCausalLM", "Qwen3Model"],
    model_types: &["qwen3"],
    open: |checkpoint, arithmetic| Ok(Box::new(Llama::open(checkpoint, arithmetic, &shape::QWEN3)?)),
};

const QKV: usize = 0;
const O: usize = 1;
const GATE_UP: usize = 2;
const DOWN: usize = 3;
const FANS: [&str; 4] = ["qkv", "o", "gate_up", "down"];
const ATTENTION: &str = "self_attn";

/// An opened Llama or relative.
pub struct Llama {
    source: Source,
    shape: Shape,
    rope: Arc<Rope>,
    norm: RmsNorm,
    head: Head,
}

impl Llama {
    /// Checks the config and that each tensor is stored with the shape it implies; reads only the final norm.
    fn open(checkpoint: Arc<Checkpoint>, arithmetic: Arithmetic, member: &Member) -> Result<Self> {
        let config = Config::new(config_file(&checkpoint), checkpoint.config());
        let shape = Shape::read(&config, member)?;
        let rope = Arc::new(Rope::from_config(&config, shape.head_dim, shape.max_positions)?);
        let source = Source::new(Arc::clone(&checkpoint), &["model.", ""], "embed_tokens.weight", arithmetic);
        let Shape { dim, vocab, .. } = shape;
        source.expect(&source.name("embed_tokens.weight"), &[vocab, dim], "vocab_size and hidden_size are right")?;
        let head = Head::open(&source, &source.name("embed_tokens"), vocab, dim, shape.tied)?;
        for i in 0..shape.blocks {
            for (local, size) in shape.norms() {
                let of_heads = local.starts_with("self_attn.");
                let hint = if of_heads { "architectures is right" } else { "num_hidden_layers is right" };
                source.expect(&block_name(&source, i, local), &[size], hint)?;
            }
            source.expect_cache(&block_name(&source, i, ATTENTION), shape.groups)?;
            for Local { name, rows, cols, bias, .. } in shape.linears() {
                let name = block_name(&source, i, name);
                source.expect_linear(&name, rows, cols, "num_hidden_layers is right")?;
                if bias {
                    source.expect(&format!("{name}.bias"), &[rows], shape.bias_hint)?;
                }
            }
        }
        let norm = source.name("norm.weight");
        source.expect(&norm, &[dim], "hidden_size is right")?;
        source.complete()?;
        let norm = RmsNorm::read(&source, &norm, dim, shape.eps)?;
        Ok(Self { source, shape, rope, norm, head })
    }
}

fn block_name(source: &Source, i: usize, local: &str) -> String {
    source.name(&format!("layers.{i}.{local}"))
}

impl Decoder for Llama {
    fn sizes(&self) -> Sizes {
        let Shape { blocks, dim, vocab, max_positions, .. } = self.shape;
        Sizes { blocks, dim, vocab, max_positions }
    }

    fn checkpoint(&self) -> &Checkpoint {
        self.source.checkpoint()
    }

    fn arithmetic(&self) -> &Arithmetic {
        self.source.arithmetic()
    }

    fn embed(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        self.rope.check_length(embedding::row_length(ids, batch)?)?;
        let name = self.source.name("embed_tokens.weight");
        embedding::embed(&self.source, &name, self.shape.vocab, self.shape.dim, ids, batch)
    }

    fn block(&self, i: usize) -> Result<Box<dyn Block>> {
        let mut fans = FANS.map(|name| Fan { name, linears: Vec::new() });
        let biases = self.shape.linears().into_iter().map(|local| local.bias);
        let linears: Vec<_> = self.linears(i).into_iter().zip(biases).collect();
        self.source.fill(&mut fans, &linears)?;
        let norm = |local: &str, size: usize| {
            RmsNorm::read(&self.source, &block_name(&self.source, i, local), size, self.shape.eps)
        };
        let Shape { dim, head_dim, .. } = self.shape;
        let head_norms = if self.shape.head_norms {
            Some([norm("self_attn.q_norm.weight", head_dim)?, norm("self_attn.k_norm.weight", head_dim)?])
        } else {
            None
        };
        Ok(Box::new(LlamaBlock {
            fans,
            before_attention: norm("input_layernorm.weight", dim)?,
            before_mlp: norm("post_attention_layernorm.weight", dim)?,
            head_norms,
            rope: Arc::clone(&self.rope),
            cache: self.source.cache(&self.attention(i), self.shape.groups)?,
            heads: self.shape.heads,
            groups: self.shape.groups,
            head_dim,
            window: self.shape.windows[i],
            precision: self.source.precision(),
        }))
    }

    fn linears(&self, i: usize) -> Vec<LinearInfo> {
        let info = |Local { name, rows, cols, fan, .. }: Local| LinearInfo {
            name: block_name(&self.source, i, name),
            rows,
            cols,
            fan,
        };
        self.shape.linears().map(info).into()
    }

    fn attention(&self, i: usize) -> String {
        block_name(&self.source, i, ATTENTION)
    }

    fn rest_names(&self, i: usize) -> Vec<String> {
        let norms = self.shape.norms().into_iter().map(|(local, _)| local.to_string());
        let biased = self.shape.linears().into_iter().filter(|local| local.bias);
        let biases = biased.map(|local| format!("{}.bias", local.name));
        norms.chain(biases).map(|local| block_name(&self.source, i, &local)).collect()
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
    /// Of the heads of queries and of keys.
    head_norms: Option<[RmsNorm; 2]>,
    rope: Arc<Rope>,
    cache: Cache,
    heads: usize,
    groups: usize,
    head_dim: usize,
    /// How many keys a query sees, if not all before it.
    window: Option<usize>,
    /// How the products of the attention round their inputs.
    precision: Precision,
}

impl LlamaBlock {
    /// The block's output, or the input of fan `stop` (shown to the tap) where `stop` is one of the fans.
    fn run(&self, h: &Tensor, tap: &mut dyn Tap, stop: usize) -> Result<Tensor> {
        let (b, t, _) = h.dims3()?;
        let x = self.before_attention.forward(h)?;
        let x = {
            let Some(qkv) = pass(&self.fans, QKV, stop, &x, tap)? else { return Ok(x) };
            drop(x);
            let split = |x: &Tensor, heads: usize| x.reshape((b, t, heads, self.head_dim));
            let (mut q, mut k) = (split(&qkv[0], self.heads)?, split(&qkv[1], self.groups)?);
            if let Some([of_queries, of_keys]) = &self.head_norms {
                (q, k) = (of_queries.forward(&q)?, of_keys.forward(&k)?);
            }
            let (q, k, v) = (self.rope.forward(&q)?, self.rope.forward(&k)?, split(&qkv[2], self.groups)?);
            let [k, v] = self.cache.pass(k, v, tap)?;
            let scores = Scores { window: self.window, ..Scores::scaled((self.head_dim as f32).sqrt().recip()) };
            causal(&q, &k, &v, &scores, self.precision)?
        };
        let Some(h) = pass_onto(&self.fans, O, stop, &x, h, tap)? else { return Ok(x) };
        let x = self.before_mlp.forward(&h)?;
        let Some(x) = pass_gated(&self.fans, GATE_UP, stop, &x, tap)? else { return Ok(x) };
        let Some(h) = pass_onto(&self.fans, DOWN, stop, &x, &h, tap)? else { return Ok(x) };
        Ok(h)
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
