//! Falcon: layer norms, one matrix for queries, keys and values, exact GELU, rotary embeddings or alibi, attention and
//! MLP beside each other or one after the other. Also under its first name, RefinedWeb, with that config's names.

mod shape;

use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::{
    attention::{Scores, causal},
    gelu::gelu,
    matmul::Precision,
};

use self::shape::{Flow, Positions, Shape};
use super::Family;
use crate::activations::Cache;
use crate::config::Config;
use crate::fan::{pass, pass_onto};
use crate::parts::{embedding, head::Head, norm::LayerNorm};
use crate::source::{Source, config_file};
use crate::{Arithmetic, Block, Decoder, Fan, LinearInfo, Result, Sizes, Tap};

/// This family's row in [`super::FAMILIES`].
pub const FAMILY: Family = Family {
    name: "falcon",
    architectures: &["FalconForCausalLM", "RWForCausalLM", "FalconModel", "RWModel"],
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    open: |checkpoint, arithmetic| Ok(Box::new(Falcon::open(checkpoint, arithmetic)?)),
};

/// An opened Falcon.
pub struct Falcon {
    source: Source,
    shape: Shape,
    positions: Arc<Positions>,
    norm: LayerNorm,
    head: Head,
}

impl Falcon {
    /// Checks the config and that each tensor is stored with the shape it implies; reads only the final norm.
    pub fn open(checkpoint: Arc<Checkpoint>, arithmetic: Arithmetic) -> Result<Self> {
        let config = Config::new(config_file(&checkpoint), checkpoint.config());
        let shape = Shape::read(&config)?;
        let positions = Arc::new(Positions::read(&config, &shape)?);
        let source = Source::new(Arc::clone(&checkpoint), &["transformer.", ""], "word_embeddings.weight", arithmetic);
        let Shape { dim, vocab, .. } = shape;
        let table = source.name("word_embeddings");
        source.expect(&format!("{table}.weight"), &[vocab, dim], "vocab_size and the hidden size are right")?;
        let head = Head::open(&source, &table, vocab, dim, shape.tied)?;
        for i in 0..shape.blocks {
            for norm in shape.flow.norms() {
                for part in ["weight", "bias"] {
                    let hint = "the number of layers, parallel_attn, new_decoder_architecture and \
                                num_ln_in_parallel_attn are right";
                    source.expect(&block_name(&source, i, &format!("{norm}.{part}")), &[dim], hint)?;
                }
            }
            source.expect_cache(&block_name(&source, i, ATTENTION), shape.groups)?;
            for (local, rows, cols, _) in shape.linears() {
                let name = block_name(&source, i, local);
                source.expect_linear(&name, rows, cols, "the number of layers is right")?;
                if shape.bias {
                    source.expect(&format!("{name}.bias"), &[rows], "bias is right")?;
                }
            }
        }
        let norm = source.name("ln_f");
        for part in ["weight", "bias"] {
            source.expect(&format!("{norm}.{part}"), &[dim], "the hidden size is right")?;
        }
        source.complete()?;
        let norm = LayerNorm::read(&source, &norm, dim, shape.eps)?;
        Ok(Self { source, shape, positions, norm, head })
    }
}

fn block_name(source: &Source, i: usize, local: &str) -> String {
    source.name(&format!("h.{i}.{local}"))
}

impl Decoder for Falcon {
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
        let t = embedding::row_length(ids, batch)?;
        // Alibi has no last position.
        if let Positions::Rotary(rope) = &*self.positions {
            rope.check_length(t)?;
        }
        let name = self.source.name("word_embeddings.weight");
        embedding::embed(&self.source, &name, self.shape.vocab, self.shape.dim, ids, batch)
    }

    fn block(&self, i: usize) -> Result<Box<dyn Block>> {
        let mut fans: Vec<Fan> = self.shape.flow.fans().iter().map(|name| Fan { name, linears: Vec::new() }).collect();
        let linears: Vec<_> = self.linears(i).into_iter().map(|info| (info, self.shape.bias)).collect();
        self.source.fill(&mut fans, &linears)?;
        let norm = |local: &str| {
            LayerNorm::read(&self.source, &block_name(&self.source, i, local), self.shape.dim, self.shape.eps)
        };
        let norms = self.shape.flow.norms();
        Ok(Box::new(FalconBlock {
            fans,
            before: norm(norms[0])?,
            before_mlp: norms.get(1).map(|&local| norm(local)).transpose()?,
            parallel: self.shape.flow != Flow::Sequential,
            positions: Arc::clone(&self.positions),
            cache: self.source.cache(&self.attention(i), self.shape.groups)?,
            heads: self.shape.heads,
            groups: self.shape.groups,
            head_dim: self.shape.head_dim,
            precision: self.source.precision(),
        }))
    }

    fn linears(&self, i: usize) -> Vec<LinearInfo> {
        let info = |(local, rows, cols, fan)| LinearInfo { name: block_name(&self.source, i, local), rows, cols, fan };
        self.shape.linears().map(info).into()
    }

    fn attention(&self, i: usize) -> String {
        block_name(&self.source, i, ATTENTION)
    }

    fn rest_names(&self, i: usize) -> Vec<String> {
        self.shape.rest().iter().map(|local| block_name(&self.source, i, local)).collect()
    }

    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
        self.head.nll(&self.source, h, ids, |x| self.norm.forward(x))
    }

    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.source, h, |x| self.norm.forward(x))
    }

    fn notes(&self) -> Vec<String> {
        match &*self.positions {
            Positions::Alibi { times, .. } if *times > 1.0 => vec![format!(
                "alibi is added {times} times, as does the eager attention of the transformers release that wrote \
                config.json; with \"attn_implementation\": \"sdpa\" in it alibi is added once, as Falcon-RW was trained"
            )],
            _ => Vec::new(),
        }
    }

    fn outer_names(&self) -> Vec<String> {
        let mut names =
            ["word_embeddings.weight", "ln_f.weight", "ln_f.bias"].map(|local| self.source.name(local)).to_vec();
        names.extend(self.source.parts_of("lm_head"));
        names
    }
}

struct FalconBlock {
    /// As [`Flow::fans`] names them.
    fans: Vec<Fan>,
    before: LayerNorm,
    /// The MLP's own norm, where it has one.
    before_mlp: Option<LayerNorm>,
    /// Whether the MLP reads the block's input.
    parallel: bool,
    positions: Arc<Positions>,
    cache: Cache,
    heads: usize,
    groups: usize,
    head_dim: usize,
    /// How the products of the attention round their inputs.
    precision: Precision,
}

const ATTENTION: &str = "self_attention";
const O: usize = 1;
/// The first linear of the MLP, where it is a fan of its own.
const UP: usize = 2;

impl FalconBlock {
    /// The block's output, or the input of fan `stop` (shown to the tap) where `stop` is one of the fans.
    fn run(&self, h: &Tensor, tap: &mut dyn Tap, stop: usize) -> Result<Tensor> {
        let x = self.before.forward(h)?;
        let Some(mut first) = pass(&self.fans, 0, stop, &x, tap)? else { return Ok(x) };
        let x = self.attend(&first.swap_remove(0), tap)?;
        // Where the MLP reads the block's input, the sum waits for the end.
        let Some(sum) = pass_onto(&self.fans, O, stop, &x, h, tap)? else { return Ok(x) };
        let h = if self.parallel { h } else { &sum };
        let up = match &self.before_mlp {
            // Shared norm: the first fan has multiplied the MLP's matrix too.
            None => first.swap_remove(0),
            Some(norm) => {
                let x = norm.forward(h)?;
                let Some(mut up) = pass(&self.fans, UP, stop, &x, tap)? else { return Ok(x) };
                up.swap_remove(0)
            }
        };
        let x = gelu(&up)?;
        let Some(h) = pass_onto(&self.fans, self.fans.len() - 1, stop, &x, &sum, tap)? else { return Ok(x) };
        Ok(h)
    }

    /// The attention's output before its last linear. `qkv [b, t, (heads + 2 · groups) · head_dim]` holds, group by
    /// group, the group's queries, its key and its value. That is each of Falcon's three layouts: the new
    /// architecture's; multi-query, with one group; and heads with keys of their own, with a group each.
    fn attend(&self, qkv: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let (b, t, _) = qkv.dims3()?;
        let &Self { heads, groups, head_dim, precision, .. } = self;
        let each = heads / groups;
        let x = qkv.reshape((b, t, groups, each + 2, head_dim))?;
        let part = |from: usize, count: usize| x.narrow(3, from, count)?.reshape((b, t, groups * count, head_dim));
        let (mut q, mut k, v) = (part(0, each)?, part(each, 1)?, part(each + 1, 1)?);
        if let Positions::Rotary(rope) = &*self.positions {
            (q, k) = (rope.forward(&q)?, rope.forward(&k)?);
        }
        let [k, v] = self.cache.pass(k, v, tap)?;
        let root = (head_dim as f32).sqrt();
        let scores = Scores::scaled(root.recip());
        Ok(match &*self.positions {
            Positions::Rotary(_) => causal(&q, &k, &v, &scores, precision)?,
            Positions::Alibi { alibi, times } => {
                let bias = alibi.bias(t, root / times, qkv.device())?;
                causal(&q, &k, &v, &Scores { bias: Some(&bias), ..scores }, precision)?
            }
        })
    }
}

impl Block for FalconBlock {
    fn forward(&self, h: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.run(h, tap, self.fans.len())
    }

    fn tap_only(&self, h: &Tensor, tap: &mut dyn Tap, upto: Option<usize>) -> Result<()> {
        let last = self.fans.len() - 1;
        self.run(h, tap, upto.unwrap_or(last).min(last)).map(drop)
    }

    fn fans(&mut self) -> Vec<&mut Fan> {
        self.fans.iter_mut().collect()
    }
}
