//! The decoder of every family: checks, reads and runs what the family's shape says.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::attention::{CacheType, KeyValues};
use paring_kernels::element::Element;
use paring_kernels::likelihood::Likely;

use super::block::{BlockParts, LoadedBlock};
use super::family::{BlockShape, Family, LinearShape, OuterShape};
use super::names;
use crate::anatomy::{AttentionInfo, BlockInfo, LinearInfo, OuterInfo};
use crate::config::Config;
use crate::parts::{embedding, head::Head, norm::Norm, positions::LearnedPositions};
use crate::pass::check_tokens;
use crate::source::{Source, config_file};
use crate::{Arithmetic, Block, Decoder, Ending, Fan, Result, Sizes, Weight, adapter};

/// An opened model.
pub(super) struct Model<F> {
    source: Source,
    family: Arc<F>,
    outer: OuterShape,
    learned: Option<LearnedPositions>,
    /// From the embedding to the blocks, and from there to the head.
    projections: Option<[Arc<dyn Weight>; 2]>,
    norm: Option<Norm>,
    head: Head,
    /// A remark about the adapter.
    remark: Option<String>,
}

impl<F: Family> Model<F> {
    /// Checks the config with `read`, and that each tensor is stored with the shape it implies; reads only the final norm
    /// and the projections around the blocks.
    pub fn open(
        checkpoint: Arc<Checkpoint>,
        arithmetic: Arithmetic,
        read: impl FnOnce(&Config) -> Result<F>,
    ) -> Result<Self> {
        let family = read(&Config::new(config_file(&checkpoint), checkpoint.config()))?;
        let (outer, Sizes { blocks, dim, vocab, max_positions }) = (family.outer(), family.sizes());
        let marker = outer.marker();
        let prefix = names::prefix_of(&checkpoint, &outer);
        names::refuse_codes(&checkpoint, &outer, prefix)?;
        names::share_head(&checkpoint, &outer, prefix);
        let source = Source::new(Arc::clone(&checkpoint), prefix, arithmetic);
        let hint = names::embedding_hint(&checkpoint, &outer);
        source.require(&source.name(&marker), &[vocab, outer.width], hint)?;
        let learned = outer.learned.map(|(module, offset)| {
            let table = source.name(&format!("{module}.weight"));
            LearnedPositions::open(&source, table, offset, max_positions, dim)
        });
        let learned = learned.transpose()?;
        let head = Head::open(&source, &source.name(outer.embedding), vocab, outer.width, outer.tied)?;
        for i in 0..blocks {
            require_block(&source, &block_module(&source, &outer, i), &family.block(i))?;
        }
        let projections = outer.projections.map(|locals| locals.map(|local| source.name(local)));
        if let Some([input, output]) = &projections {
            source.require_linear(input, dim, outer.width, outer.projections_hint)?;
            source.require_linear(output, outer.width, dim, outer.projections_hint)?;
        }
        if let Some(norm) = &outer.norm {
            norm.require(&source, &source.name(norm.name))?;
        }
        source.complete()?;
        let remark = check_adapter(&source, &outer, &family)?;

        let projections = match &projections {
            Some([input, output]) => {
                Some([source.weight(input, dim, outer.width)?, source.weight(output, outer.width, dim)?])
            }
            None => None,
        };
        let norm = outer.norm.as_ref().map(|norm| norm.read(&source, &source.name(norm.name))).transpose()?;
        Ok(Self { source, family: Arc::new(family), outer, learned, projections, norm, head, remark })
    }

    fn module(&self, i: usize) -> String {
        block_module(&self.source, &self.outer, i)
    }

    /// The embeddings of tokens, without positions: `[batch, t, dim]`.
    fn embed_tokens(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        let name = self.source.name(&self.outer.marker());
        let vocab = self.family.sizes().vocab;
        let x = embedding::embed(&self.source, &name, vocab, self.outer.width, ids, batch)?;
        match &self.projections {
            Some([input, _]) => input.matmul(&x),
            None => Ok(x),
        }
    }

    /// The head's input: `[n, dim]` → `[n, width]`.
    fn before_head(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        match &self.projections {
            Some([_, output]) => output.matmul(&x),
            None => Ok(x),
        }
    }
}

/// Full module path of block `i`.
fn block_module(source: &Source, outer: &OuterShape, i: usize) -> String {
    source.name(&format!("{}.{i}", outer.blocks))
}

/// Checks that the adapter belongs to the model, if there is one. Returns a remark about it.
fn check_adapter(source: &Source, outer: &OuterShape, family: &impl Family) -> Result<Option<String>> {
    let Some(adapter) = &source.arithmetic().adapter else { return Ok(None) };
    let Sizes { blocks, dim, .. } = family.sizes();
    let of_block = |i| family.block(i).info(&block_module(source, outer, i)).linears;
    let mut linears: Vec<LinearInfo> = (0..blocks).flat_map(of_block).collect();
    if let Some([input, output]) = outer.projections {
        let around = [(input, dim, outer.width), (output, outer.width, dim)];
        let info = |(local, rows, cols)| LinearInfo { name: source.name(local), rows, cols, fan: 0, fused: None };
        linears.extend(around.map(info));
    }
    adapter::check(adapter, &linears, &outer.info(|local| source.name(local)))
}

/// Requires all tensors of the block with this module path.
fn require_block(source: &Source, module: &str, shape: &BlockShape) -> Result<()> {
    shape.check(module)?;
    for norm in &shape.norms {
        norm.require(source, &format!("{module}.{}", norm.name))?;
    }
    source.require_cache(&format!("{module}.{}", shape.attention.module), shape.attention.kv_heads)?;
    for &LinearShape { name, rows, cols, bias, .. } in &shape.linears {
        let name = format!("{module}.{name}");
        // A head may be dense where a config forgot to say so: it is read as it is. These would be read as codes.
        source.checkpoint().check_float_weight(&name)?;
        source.require_linear(&name, rows, cols, shape.linears_hint)?;
        if let Some(hint) = bias {
            source.require(&format!("{name}.bias"), &[rows], hint)?;
        }
    }
    Ok(())
}

impl<F: Family> Decoder for Model<F> {
    fn sizes(&self) -> Sizes {
        self.family.sizes()
    }

    fn longest(&self) -> Option<usize> {
        match &self.learned {
            Some(learned) => Some(learned.count()),
            None => self.family.positions().longest(),
        }
    }

    fn checkpoint(&self) -> &Checkpoint {
        self.source.checkpoint()
    }

    fn arithmetic(&self) -> &Arithmetic {
        self.source.arithmetic()
    }

    fn embed(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        let t = embedding::row_length(ids, batch)?;
        self.family.positions().check_length(t)?;
        if let Some(learned) = &self.learned {
            learned.check_length(t)?;
        }
        let x = self.embed_tokens(ids, batch)?;
        match &self.learned {
            Some(learned) => learned.add(&self.source, &x),
            None => Ok(x),
        }
    }

    fn embed_next(&self, ids: &[u32], spans: &[Range<usize>]) -> Result<Tensor> {
        check_tokens(ids.len(), spans)?;
        spans.iter().try_for_each(|span| self.family.positions().check_length(span.end))?;
        let x = self.embed_tokens(ids, 1)?;
        match &self.learned {
            Some(learned) => learned.add_at(&self.source, &x, spans),
            None => Ok(x),
        }
    }

    fn key_values(&self, i: usize, cache_type: CacheType) -> Result<KeyValues> {
        let AttentionInfo { module, kv_heads, head_dim, .. } = self.block_info(i).attention;
        let stored = self.source.cache(&module, kv_heads)?.scales(Element::E4m3)?;
        let [keys, values] = stored.unwrap_or([vec![1.0], vec![1.0]]);
        Ok(KeyValues::new(cache_type, kv_heads, head_dim, [&keys, &values], self.device())?)
    }

    fn block(&self, i: usize) -> Result<Box<dyn Block>> {
        let (module, shape) = (self.module(i), self.family.block(i));
        let BlockInfo { linears, attention, .. } = shape.info(&module);
        let mut fans: Vec<Fan> = shape.fans.iter().map(|name| Fan { name, linears: Vec::new() }).collect();
        let biases = shape.linears.iter().map(|linear| linear.bias.is_some());
        let linears: Vec<(LinearInfo, bool)> = linears.into_iter().zip(biases).collect();
        self.source.fill(&mut fans, &linears)?;
        let read = shape.norms.iter().map(|norm| norm.read(&self.source, &format!("{module}.{}", norm.name)));
        let norms = read.collect::<Result<_>>()?;
        let rounding = self.source.cache(&attention.module, attention.kv_heads)?;
        let parts = BlockParts { fans, norms, attention, mlp: shape.mlp, rounding, precision: self.source.precision() };
        Ok(Box::new(LoadedBlock { family: Arc::clone(&self.family), parts }))
    }

    fn block_info(&self, i: usize) -> BlockInfo {
        self.family.block(i).info(&self.module(i))
    }

    fn rest_names(&self, i: usize) -> Vec<String> {
        let (module, shape) = (self.module(i), self.family.block(i));
        let norms = shape.norms.iter().flat_map(|norm| norm.tensors(&format!("{module}.{}", norm.name)));
        let biased = shape.linears.iter().filter(|linear| linear.bias.is_some());
        norms.chain(biased.map(|linear| format!("{module}.{}.bias", linear.name))).collect()
    }

    fn nll(&self, h: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
        self.head.nll(&self.source, h, ids, |x| self.before_head(x))
    }

    fn likelihoods(&self, h: &Tensor, targets: &[u32]) -> Result<Vec<Likely>> {
        self.head.likelihoods(&self.source, h, targets, |x| self.before_head(x))
    }

    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.source, h, |x| self.before_head(x))
    }

    fn ending(&self) -> Result<Ending<'_>> {
        let norm = self.outer.norm.as_ref();
        let norm = norm.map(|norm| norm.read(&self.source, &self.source.name(norm.name))).transpose()?;
        let projection = self.projections.as_ref().map(|[_, output]| Arc::clone(output));
        Ok(Ending { norm, projection, head: self.head.rows(&self.source)?, source: &self.source })
    }

    fn load_head(&self) -> Result<()> {
        self.head.load(&self.source)
    }

    fn notes(&self) -> Vec<String> {
        let left_out = self.source.complete().ok().flatten().map(String::from);
        let own = self.family.notes().into_iter().chain(self.checkpoint().notes().to_vec());
        own.chain(left_out).chain(self.remark.clone()).collect()
    }

    fn outer(&self) -> OuterInfo {
        self.outer.info(|local| self.source.name(local))
    }
}
