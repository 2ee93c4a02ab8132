//! The seam of model families: a family is its shape, its linears and its forward pass. [`super::model`] does the rest.

use candle_core::Tensor;

use super::block::Step;
use crate::anatomy::{AttentionInfo, BlockInfo, LinearInfo, MlpInfo, NormInfo, OuterInfo};
use crate::parts::encoding::PositionEncoding;
use crate::parts::norm::{LayerNorm, Norm, RmsNorm};
use crate::pass::Flow;
use crate::source::Source;
use crate::{Error, Result, Sizes};

/// A model family, made of a checked config. Names are local: those of a block lie within the block's module, the others
/// within the model's prefix.
pub(crate) trait Family: Send + Sync + Sized + 'static {
    /// The sizes of the model.
    fn sizes(&self) -> Sizes;

    /// The parts outside the blocks.
    fn outer(&self) -> OuterShape;

    /// The parts of block `i`.
    fn block(&self, i: usize) -> BlockShape;

    /// The position encoding of all attentions.
    fn positions(&self) -> &PositionEncoding;

    /// The forward pass of a block: `h [b, t, dim]` to the next block's input, one step after the other, until one of them
    /// stops.
    fn run(&self, step: &mut Step<'_, '_>, h: &Tensor) -> Result<Flow<Tensor>>;

    /// Remarks about how the model is read, a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Module path of the head, in all families.
pub(crate) const HEAD: &str = "lm_head";

/// The parts of a model outside its blocks.
pub(crate) struct OuterShape {
    /// Prefixes of stored names; the first is the current one.
    pub prefixes: &'static [&'static str],
    /// Module of the list of blocks.
    pub blocks: &'static str,
    /// Module of the token embedding.
    pub embedding: &'static str,
    /// Width of the embedding and of the head's input.
    pub width: usize,
    /// Module of the table of learned positions, and the rows in it before that of position 0.
    pub learned: Option<(&'static str, usize)>,
    /// Linears from the embedding's width to that of the blocks and back, where these differ.
    pub projections: Option<[&'static str; 2]>,
    pub projections_hint: &'static str,
    /// The norm before the head.
    pub norm: Option<NormShape>,
    /// True if the head is the embedding where none is stored.
    pub tied: bool,
}

impl OuterShape {
    /// Name of the tensor that tells the prefix of the others.
    pub fn marker(&self) -> String {
        format!("{}.weight", self.embedding)
    }

    /// The parts under their full names, which `name` makes of local ones.
    pub fn info(&self, name: impl Fn(&str) -> String) -> OuterInfo {
        let table = |module: &str| name(&format!("{module}.weight"));
        let tables = [self.embedding].into_iter().chain(self.learned.map(|(module, _)| module));
        OuterInfo {
            embeddings: tables.map(table).collect(),
            norms: self.norm.iter().flat_map(|norm| norm.tensors(&name(norm.name))).collect(),
            projections: self.projections.iter().flatten().map(|local| name(local)).collect(),
            head: HEAD.to_string(),
            tied: self.tied,
        }
    }
}

/// The parts of a block.
pub(crate) struct BlockShape {
    /// Names of the fans, in the order the data meets them.
    pub fans: &'static [&'static str],
    /// The linears, fan by fan, and the config keys that ask for them.
    pub linears: Vec<LinearShape>,
    pub linears_hint: &'static str,
    /// The norms; the forward pass knows them by their number.
    pub norms: Vec<NormShape>,
    /// The attention; its modules are local.
    pub attention: AttentionInfo,
    pub mlp: MlpInfo,
    /// Sets of linears, by number, that servers load as one matrix; see [`LinearInfo::fused`].
    pub fused: &'static [&'static [usize]],
}

/// A linear of a block.
pub(crate) struct LinearShape {
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
    pub fan: usize,
    /// Of a linear with a bias: the config keys that ask for it.
    pub bias: Option<&'static str>,
}

/// A norm.
#[derive(Clone)]
pub(crate) struct NormShape {
    /// Module.
    pub name: &'static str,
    pub kind: NormKind,
    pub dim: usize,
    pub eps: f32,
    /// The config keys that ask for it.
    pub hint: &'static str,
}

/// The kind of a norm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Root mean square, with a weight.
    Rms,
    /// Layer norm, with weight and bias.
    Layer,
    /// Layer norm without stored tensors.
    BareLayer,
}

impl NormShape {
    /// Full names of the stored tensors of the norm with this full module path.
    pub fn tensors(&self, module: &str) -> Vec<String> {
        let parts: &[&str] = match self.kind {
            NormKind::Rms => &["weight"],
            NormKind::Layer => &["weight", "bias"],
            NormKind::BareLayer => &[],
        };
        parts.iter().map(|part| format!("{module}.{part}")).collect()
    }

    /// Requires what is stored of the norm.
    pub fn require(&self, source: &Source, module: &str) -> Result<()> {
        self.tensors(module).iter().try_for_each(|name| source.require(name, &[self.dim], self.hint))
    }

    /// Reads the norm.
    pub fn read(&self, source: &Source, module: &str) -> Result<Norm> {
        Ok(match self.kind {
            NormKind::Rms => Norm::Rms(RmsNorm::read(source, &format!("{module}.weight"), self.dim, self.eps)?),
            NormKind::Layer => Norm::Layer(LayerNorm::read(source, module, self.dim, self.eps)?),
            NormKind::BareLayer => Norm::Layer(LayerNorm::plain(self.dim, self.eps, source.device())?),
        })
    }
}

impl BlockShape {
    /// The anatomy of the block with this full module path.
    pub fn info(&self, module: &str) -> BlockInfo {
        let full = |local: &str| format!("{module}.{local}");
        let linear = |(at, l): (usize, &LinearShape)| LinearInfo {
            name: full(l.name),
            rows: l.rows,
            cols: l.cols,
            fan: l.fan,
            fused: self.fused.iter().position(|set| set.contains(&at)),
        };
        let norm = |norm: &NormShape| {
            let name = full(norm.name);
            NormInfo { tensors: norm.tensors(&name), dim: norm.dim, name }
        };
        let attention = AttentionInfo {
            module: full(&self.attention.module),
            cache_module: self.attention.cache_module.as_deref().map(full),
            ..self.attention.clone()
        };
        BlockInfo {
            linears: self.linears.iter().enumerate().map(linear).collect(),
            attention,
            mlp: self.mlp,
            norms: self.norms.iter().map(norm).collect(),
        }
    }

    /// Errors when the description contradicts itself: a fan without linears or with inputs of several widths, an
    /// attention or MLP between fans that are not there, a gated fan without its two linears.
    pub fn check(&self, module: &str) -> Result<()> {
        let fail = |problem: String| Err(Error::Anatomy { module: module.to_string(), problem });
        let of_fan = |fan: usize| self.linears.iter().filter(move |linear| linear.fan == fan);
        if !self.linears.is_sorted_by_key(|linear| linear.fan) {
            return fail("linears in another order than their fans".into());
        }
        if let Some(linear) = self.linears.iter().find(|linear| linear.fan >= self.fans.len()) {
            return fail(format!("{} in fan {} of {}", linear.name, linear.fan, self.fans.len()));
        }
        for (fan, name) in self.fans.iter().enumerate() {
            let Some(first) = of_fan(fan).next() else { return fail(format!("no linear in fan {name}")) };
            if let Some(other) = of_fan(fan).find(|linear| linear.cols != first.cols) {
                return fail(format!("{} and {} in one fan, with inputs of two widths", first.name, other.name));
            }
        }
        let AttentionInfo { after_fan, output_fan, heads, kv_heads, .. } = self.attention;
        let reads = of_fan(output_fan).next().map(|linear| linear.cols);
        if after_fan >= output_fan || kv_heads == 0 || reads != Some(self.attention.width()) || heads % kv_heads != 0 {
            return fail(format!(
                "an attention of {heads} heads on {kv_heads} between fans {after_fan} and {output_fan}"
            ));
        }
        let (first, down) = match self.mlp {
            MlpInfo::Gated { fan, down } => (fan, down),
            MlpInfo::Plain { up, down } => (up, down),
        };
        let gated_rows: Vec<usize> = of_fan(first).map(|linear| linear.rows).collect();
        let is_pair = matches!(gated_rows.as_slice(), [gate, up] if gate == up);
        if matches!(self.mlp, MlpInfo::Gated { .. }) && !is_pair {
            return fail(format!("a gated fan {first} of {} linears", gated_rows.len()));
        }
        if first >= down || down + 1 != self.fans.len() || of_fan(down).count() != 1 {
            return fail(format!("an MLP between fans {first} and {down} of {}", self.fans.len()));
        }
        let is_set = |set: &&[usize]| {
            let fans: Vec<Option<usize>> = set.iter().map(|&i| self.linears.get(i).map(|linear| linear.fan)).collect();
            fans.len() > 1 && fans.iter().all(|fan| fan.is_some() && *fan == fans[0])
        };
        match self.fused.iter().all(is_set) {
            true => Ok(()),
            false => fail(format!("fused linears {:?}, not all of one fan", self.fused)),
        }
    }
}
