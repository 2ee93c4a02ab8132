//! The anatomy of a model: linears, attention, MLP and norms of its blocks, and the parts around them.
//!
//! Readers of a model ask here instead of guessing from names or from the order of fans.

use std::collections::BTreeMap;

/// A linear as the config and the file's header describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearInfo {
    /// Full module path in the checkpoint, without `.weight`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Number of its fan in the block.
    pub fan: usize,
    /// Number of its set in the block, of linears that inference servers such as vLLM load as one matrix although the
    /// checkpoint stores them apart: they have to share their quantization scheme and any global scale. `None` for a
    /// linear that stands alone.
    pub fused: Option<usize>,
}

/// The anatomy of one block, known without reading its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// All linears, fan by fan, in the order in which the block uses their outputs.
    pub linears: Vec<LinearInfo>,
    /// The attention.
    pub attention: AttentionInfo,
    /// The MLP.
    pub mlp: MlpInfo,
    /// The norms, in the order in which the data meets them.
    pub norms: Vec<NormInfo>,
}

/// The attention of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionInfo {
    /// Module path.
    pub module: String,
    /// Fan whose outputs hold queries, keys and values: the attention is computed once this fan has been.
    pub after_fan: usize,
    /// Fan that reads the attention's output, `heads · head_dim` features.
    pub output_fan: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Keys that a query sees at most, its own among them; all up to its own where there is no window.
    pub window: Option<usize>,
    /// Its position encoding.
    pub positions: PositionKind,
    /// Module beside which readers look for the scales of quantized keys and values (`k_scale`, `v_scale`); `None` where
    /// they look for none, because no linear makes keys alone.
    pub cache_module: Option<String>,
}

impl AttentionInfo {
    /// Features of the attention's output.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of a token that are rotated: its queries and keys where positions are rotary, otherwise none.
    pub fn rotated(&self) -> usize {
        match self.positions {
            PositionKind::Rotary => (self.heads + self.kv_heads) * self.head_dim,
            PositionKind::Alibi | PositionKind::Learned => 0,
        }
    }
}

/// The kind of a position encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionKind {
    /// Queries and keys are rotated (Su et al. 2021).
    Rotary,
    /// Scores get a bias that depends on the distance (Press et al. 2021).
    Alibi,
    /// A row of a table is added to each embedding; the attention itself knows no positions.
    Learned,
}

/// The MLP of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpInfo {
    /// `down(act(gate(x)) · up(x))`: the fan `fan` holds gate and up and nothing else.
    Gated {
        /// Fan of gate and up, in this order.
        fan: usize,
        /// Fan of the last linear.
        down: usize,
    },
    /// `down(act(up(x)))`. The fan of `up` may hold linears of the attention too, where both read one norm's output.
    Plain {
        /// Fan of the first linear.
        up: usize,
        /// Fan of the last linear.
        down: usize,
    },
}

impl MlpInfo {
    /// The fans of its first and of its last linear.
    pub fn fans(&self) -> (usize, usize) {
        match *self {
            MlpInfo::Gated { fan, down } => (fan, down),
            MlpInfo::Plain { up, down } => (up, down),
        }
    }
}

/// A norm of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormInfo {
    /// Full module path in the checkpoint, without `.weight`.
    pub name: String,
    /// Features it is computed over.
    pub dim: usize,
    /// Full names of its stored tensors: weight and bias, the weight alone, or none.
    pub tensors: Vec<String>,
}

/// The parts of a model outside its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterInfo {
    /// Full names of embedding tables: that of the tokens, and that of learned positions if there is one.
    pub embeddings: Vec<String>,
    /// Full names of the stored tensors of the norm before the head.
    pub norms: Vec<String>,
    /// Module paths of linears between the embedding or the head and the blocks.
    pub projections: Vec<String>,
    /// Module path of the head. Where it is tied to the token embedding, nothing need be stored there.
    pub head: String,
    /// True if the config ties the head to the embedding.
    pub tied: bool,
}

impl BlockInfo {
    /// Number of fans.
    pub fn fans(&self) -> usize {
        self.linears.iter().map(|linear| linear.fan + 1).max().unwrap_or(0)
    }

    /// The sets of linears that inference servers load as one matrix; see [`LinearInfo::fused`].
    pub fn fused(&self) -> Vec<Vec<&LinearInfo>> {
        let mut sets = BTreeMap::<usize, Vec<&LinearInfo>>::new();
        for linear in &self.linears {
            sets.entry(linear.fused.unwrap_or(usize::MAX)).or_default().push(linear);
        }
        sets.remove(&usize::MAX);
        sets.into_values().collect()
    }
}
