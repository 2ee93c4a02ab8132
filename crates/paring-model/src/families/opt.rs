//! OPT: learned positions, layer norms before each half of a block or after it (350M), ReLU, biases. Embeddings may be
//! narrower than the blocks (350M again), between two projections. Galactica is an OPT with GELU.

use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::attention::{Scores, causal};
use paring_kernels::gelu::gelu;
use paring_kernels::matmul::Precision;
use paring_kernels::plain::relu;

use super::Family;
use crate::activations::Cache;
use crate::config::Config;
use crate::fan::{pass, pass_onto};
use crate::parts::{embedding, head::Head, norm::LayerNorm, positions::Positions};
use crate::source::{Source, config_file};
use crate::{Arithmetic, Block, Decoder, Fan, LinearInfo, Result, Sizes, Tap, Weight};

/// This family's row in [`super::FAMILIES`].
pub const FAMILY: Family = Family {
    name: "opt",
    architectures: &["OPTForCausalLM", "OPTModel"],
    model_types: &["opt"],
    open: |checkpoint, arithmetic| Ok(Box::new(Opt::open(checkpoint, arithmetic)?)),
};

const QKV: usize = 0;
const OUT: usize = 1;
const FC1: usize = 2;
const FC2: usize = 3;
const FANS: [&str; 4] = ["qkv", "out", "fc1", "fc2"];
const ATTENTION: &str = "self_attn";

/// The norms of a block, by local module name.
const NORMS: [&str; 2] = ["self_attn_layer_norm", "final_layer_norm"];
/// No config has a key for it: it is torch's default.
const EPS: f32 = 1e-5;
/// The first rows of the table of positions belong to no position.
const OFFSET: usize = 2;

/// What comes between the two linears of the MLP.
type Activation = fn(&Tensor) -> candle_core::Result<Tensor>;

/// An opened OPT.
pub struct Opt {
    source: Source,
    shape: Shape,
    positions: Positions,
    project_in: Option<Arc<dyn Weight>>,
    project_out: Option<Arc<dyn Weight>>,
    norm: Option<LayerNorm>,
    head: Head,
}

/// The config's numbers, checked.
#[derive(Clone, Debug)]
struct Shape {
    blocks: usize,
    vocab: usize,
    dim: usize,
    /// Width of the embedding and of the head's input.
    word: usize,
    inner: usize,
    heads: usize,
    max_positions: usize,
    norm_before: bool,
    final_norm: bool,
    activation: Activation,
    /// Whether linears have biases.
    bias: bool,
    /// Whether norms have weights and biases.
    affine: bool,
    tied: bool,
}

impl Shape {
    fn read(config: &Config) -> Result<Self> {
        let dim = config.size("hidden_size", 1..=1 << 20)?;
        let heads = config.size("num_attention_heads", 1..=1 << 16)?;
        if dim % heads != 0 {
            return Err(config.bad("hidden_size", format!("a multiple of num_attention_heads ({heads})")));
        }
        let activation: Activation = match config.text_if("activation_function")? {
            None | Some("relu") => relu,
            Some("gelu") => gelu,
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

    /// Local module name, rows, cols, fan of each linear of a block.
    fn linears(&self) -> [(&'static str, usize, usize, usize); 6] {
        let (dim, inner) = (self.dim, self.inner);
        [
            ("self_attn.q_proj", dim, dim, QKV),
            ("self_attn.k_proj", dim, dim, QKV),
            ("self_attn.v_proj", dim, dim, QKV),
            ("self_attn.out_proj", dim, dim, OUT),
            ("fc1", inner, dim, FC1),
            ("fc2", dim, inner, FC2),
        ]
    }

    /// Names of what the norm of this full module name has stored.
    fn norm_names(&self, module: &str) -> Vec<String> {
        let parts: &[&str] = if self.affine { &["weight", "bias"] } else { &[] };
        parts.iter().map(|part| format!("{module}.{part}")).collect()
    }

    fn expect_norm(&self, source: &Source, module: &str, hint: &str) -> Result<()> {
        self.norm_names(module).iter().try_for_each(|name| source.expect(name, &[self.dim], hint))
    }

    fn norm(&self, source: &Source, module: &str) -> Result<LayerNorm> {
        match self.affine {
            true => LayerNorm::read(source, module, self.dim, EPS),
            false => LayerNorm::plain(self.dim, EPS, source.device()),
        }
    }
}

impl Opt {
    /// Checks the config and that each tensor is stored with the shape it implies; reads only the final norm and the
    /// projections around the blocks.
    pub fn open(checkpoint: Arc<Checkpoint>, arithmetic: Arithmetic) -> Result<Self> {
        let config = Config::new(config_file(&checkpoint), checkpoint.config());
        let shape = Shape::read(&config)?;
        let prefixes = &["model.decoder.", "decoder.", ""];
        let source = Source::new(Arc::clone(&checkpoint), prefixes, "embed_tokens.weight", arithmetic);
        let Shape { dim, word, vocab, .. } = shape;
        let hint = "vocab_size and word_embed_proj_dim are right";
        source.expect(&source.name("embed_tokens.weight"), &[vocab, word], hint)?;
        let table = source.name("embed_positions.weight");
        let positions = Positions::open(&source, table, OFFSET, shape.max_positions, dim)?;
        let head = Head::open(&source, &source.name("embed_tokens"), vocab, word, shape.tied)?;
        for i in 0..shape.blocks {
            for local in NORMS {
                let hint = "num_hidden_layers and layer_norm_elementwise_affine are right";
                shape.expect_norm(&source, &block_name(&source, i, local), hint)?;
            }
            source.expect_cache(&block_name(&source, i, ATTENTION), shape.heads)?;
            for (local, rows, cols, _) in shape.linears() {
                let name = block_name(&source, i, local);
                source.expect_linear(&name, rows, cols, "num_hidden_layers is right")?;
                if shape.bias {
                    source.expect(&format!("{name}.bias"), &[rows], "enable_bias is right")?;
                }
            }
        }
        let (input, output) = (source.name("project_in"), source.name("project_out"));
        let narrow = word != dim;
        if narrow {
            source.expect_linear(&input, dim, word, "word_embed_proj_dim is right")?;
            source.expect_linear(&output, word, dim, "word_embed_proj_dim is right")?;
        }
        let norm = source.name("final_layer_norm");
        if shape.final_norm {
            shape.expect_norm(&source, &norm, "do_layer_norm_before and _remove_final_layer_norm are right")?;
        }
        source.complete()?;

        let project_in = narrow.then(|| source.weight(&input, dim, word)).transpose()?;
        let project_out = narrow.then(|| source.weight(&output, word, dim)).transpose()?;
        let norm = shape.final_norm.then(|| shape.norm(&source, &norm)).transpose()?;
        Ok(Self { source, shape, positions, project_in, project_out, norm, head })
    }

    /// What comes between the last block and the head: `[n, dim]` → `[n, word]`.
    fn before_head(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        match &self.project_out {
            Some(projection) => projection.matmul(&x),
            None => Ok(x),
        }
    }
}

fn block_name(source: &Source, i: usize, local: &str) -> String {
    source.name(&format!("layers.{i}.{local}"))
}

impl Decoder for Opt {
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
        self.positions.check_length(embedding::row_length(ids, batch)?)?;
        let name = self.source.name("embed_tokens.weight");
        let x = embedding::embed(&self.source, &name, self.shape.vocab, self.shape.word, ids, batch)?;
        let x = match &self.project_in {
            Some(projection) => projection.matmul(&x)?,
            None => x,
        };
        self.positions.add(&self.source, &x)
    }

    fn block(&self, i: usize) -> Result<Box<dyn Block>> {
        let mut fans = FANS.map(|name| Fan { name, linears: Vec::new() });
        let linears: Vec<_> = self.linears(i).into_iter().map(|info| (info, self.shape.bias)).collect();
        self.source.fill(&mut fans, &linears)?;
        let [attention, mlp] = NORMS.map(|local| self.shape.norm(&self.source, &block_name(&self.source, i, local)));
        Ok(Box::new(OptBlock {
            fans,
            attention_norm: attention?,
            mlp_norm: mlp?,
            norm_before: self.shape.norm_before,
            cache: self.source.cache(&self.attention(i), self.shape.heads)?,
            heads: self.shape.heads,
            activation: self.shape.activation,
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
        let norms = NORMS.iter().flat_map(|local| self.shape.norm_names(&block_name(&self.source, i, local)));
        let biased = self.linears(i).into_iter().filter(|_| self.shape.bias);
        norms.chain(biased.map(|info| format!("{}.bias", info.name))).collect()
    }

    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
        self.head.nll(&self.source, h, ids, |x| self.before_head(x))
    }

    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.source, h, |x| self.before_head(x))
    }

    fn outer_names(&self) -> Vec<String> {
        let mut names = vec![self.source.name("embed_tokens.weight"), self.positions.name().to_string()];
        if self.norm.is_some() {
            names.extend(self.shape.norm_names(&self.source.name("final_layer_norm")));
        }
        names.extend(self.outer_linears().iter().flat_map(|module| self.source.parts_of(module)));
        names
    }

    fn outer_linears(&self) -> Vec<String> {
        let projections: &[&str] = if self.project_in.is_some() { &["project_in", "project_out"] } else { &[] };
        let projections = projections.iter().map(|local| self.source.name(local));
        projections.chain(["lm_head".to_string()]).collect()
    }
}

struct OptBlock {
    fans: [Fan; 4],
    attention_norm: LayerNorm,
    mlp_norm: LayerNorm,
    /// Whether a norm is applied to what enters its half of the block, or to the sum that leaves it.
    norm_before: bool,
    cache: Cache,
    heads: usize,
    activation: Activation,
    /// How the products of the attention round their inputs.
    precision: Precision,
}

impl OptBlock {
    /// The block's output, or the input of fan `stop` (shown to the tap) where `stop` is one of the fans.
    fn run(&self, h: &Tensor, tap: &mut dyn Tap, stop: usize) -> Result<Tensor> {
        let (b, t, dim) = h.dims3()?;
        let head_dim = dim / self.heads;
        let norm = |norm: &LayerNorm, x: Tensor, here: bool| if here { norm.forward(&x) } else { Ok(x) };
        let (before, after) = (self.norm_before, !self.norm_before);

        let x = norm(&self.attention_norm, h.clone(), before)?;
        let Some(qkv) = pass(&self.fans, QKV, stop, &x, tap)? else { return Ok(x) };
        let split = |x: &Tensor| x.reshape((b, t, self.heads, head_dim));
        let (q, k, v) = (split(&qkv[0])?, split(&qkv[1])?, split(&qkv[2])?);
        let [k, v] = self.cache.pass(k, v, tap)?;
        let scores = Scores::scaled((head_dim as f32).sqrt().recip());
        let x = causal(&q, &k, &v, &scores, self.precision)?;
        let Some(h) = pass_onto(&self.fans, OUT, stop, &x, h, tap)? else { return Ok(x) };
        let h = norm(&self.attention_norm, h, after)?;

        let x = norm(&self.mlp_norm, h.clone(), before)?;
        let Some(fc1) = pass(&self.fans, FC1, stop, &x, tap)? else { return Ok(x) };
        let x = (self.activation)(&fc1[0])?;
        let Some(h) = pass_onto(&self.fans, FC2, stop, &x, &h, tap)? else { return Ok(x) };
        norm(&self.mlp_norm, h, after)
    }
}

impl Block for OptBlock {
    fn forward(&self, h: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.run(h, tap, FANS.len())
    }

    fn tap_only(&self, h: &Tensor, tap: &mut dyn Tap, upto: Option<usize>) -> Result<()> {
        self.run(h, tap, upto.unwrap_or(FC2).min(FC2)).map(drop)
    }

    fn fans(&mut self) -> Vec<&mut Fan> {
        self.fans.iter_mut().collect()
    }
}
