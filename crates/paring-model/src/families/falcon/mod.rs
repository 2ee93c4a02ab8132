//! Falcon: layer norms, one matrix for queries, keys and values, exact GELU, rotary embeddings or alibi, attention and
//! MLP beside each other or one after the other. Also under its first name, RefinedWeb, with that config's names.

mod shape;

use candle_core::Tensor;

use self::shape::{Order, Shape};
use super::block::Step;
use super::family::{BlockShape, Family, NormKind, NormShape, OuterShape};
use super::{FamilyEntry, open_model, outer_info};
use crate::anatomy::{AttentionInfo, MlpInfo};
use crate::config::Config;
use crate::parts::{activation::Activation, encoding::PositionEncoding};
use crate::pass::Flow;
use crate::{Result, Sizes};

/// This family's row in [`super::FAMILIES`].
pub(super) const FAMILY: FamilyEntry = FamilyEntry {
    name: "falcon",
    architectures: &["FalconForCausalLM", "RWForCausalLM", "FalconModel", "RWModel"],
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, Falcon::read),
    outer: |checkpoint| outer_info(checkpoint, Falcon::read),
};

const FIRST: usize = 0;
const O: usize = 1;
/// The first linear of the MLP, where it is a fan of its own.
const UP: usize = 2;

// Norms of a block.
const INPUT: usize = 0;
/// The MLP's own norm, where it has one.
const BEFORE_MLP: usize = 1;

/// A Falcon.
struct Falcon {
    shape: Shape,
    positions: PositionEncoding,
}

impl Falcon {
    fn read(config: &Config) -> Result<Self> {
        let shape = Shape::read(config)?;
        Ok(Self { positions: shape::positions(config, &shape)?, shape })
    }

    fn norm(&self, name: &'static str, hint: &'static str) -> NormShape {
        NormShape { name, kind: NormKind::Layer, dim: self.shape.dim, eps: self.shape.eps, hint }
    }
}

impl Family for Falcon {
    fn sizes(&self) -> Sizes {
        let Shape { blocks, dim, vocab, max_positions, .. } = self.shape;
        Sizes { blocks, dim, vocab, max_positions }
    }

    fn outer(&self) -> OuterShape {
        OuterShape {
            prefixes: &["transformer.", ""],
            blocks: "h",
            embedding: "word_embeddings",
            width: self.shape.dim,
            learned: None,
            projections: None,
            projections_hint: "",
            norm: Some(self.norm("ln_f", "the hidden size is right")),
            tied: self.shape.tied,
        }
    }

    fn block(&self, _: usize) -> BlockShape {
        let Shape { heads, groups, head_dim, order, .. } = self.shape;
        let hint =
            "the number of layers, parallel_attn, new_decoder_architecture and num_ln_in_parallel_attn are right";
        BlockShape {
            fans: order.fans(),
            linears: self.shape.linears().into(),
            linears_hint: "the number of layers is right",
            norms: order.norms().iter().map(|name| self.norm(name, hint)).collect(),
            attention: AttentionInfo {
                module: "self_attention".to_string(),
                after_fan: FIRST,
                output_fan: O,
                heads,
                kv_heads: groups,
                head_dim,
                window: None,
                positions: self.positions.kind(),
                cache_module: None,
            },
            mlp: MlpInfo::Plain { up: if order == Order::Shared { FIRST } else { UP }, down: order.fans().len() - 1 },
            fused: &[],
        }
    }

    fn positions(&self) -> &PositionEncoding {
        &self.positions
    }

    fn run(&self, step: &mut Step<'_, '_>, h: &Tensor) -> Result<Flow<Tensor>> {
        let order = self.shape.order;
        let x = step.norm(INPUT, h)?;
        // With a shared norm the first fan multiplies the MLP's matrix too.
        let (qkv, up) = match order {
            Order::Shared => {
                let Flow::Out([qkv, up]) = step.fan(FIRST, &x)? else { return Ok(Flow::Stopped) };
                (qkv, Some(up))
            }
            Order::Sequential | Order::TwoNorms => {
                let Flow::Out([qkv]) = step.fan(FIRST, &x)? else { return Ok(Flow::Stopped) };
                (qkv, None)
            }
        };
        let [q, k, v] = step.split(&qkv)?;
        drop(qkv);
        let x = step.attend(q, k, v)?;
        // Where the MLP reads the block's input, the sum waits for the end.
        let Flow::Out(sum) = step.onto(O, &x, h)? else { return Ok(Flow::Stopped) };
        let up = match up {
            Some(up) => up,
            None => {
                let x = step.norm(BEFORE_MLP, if order == Order::Sequential { &sum } else { h })?;
                let Flow::Out([up]) = step.fan(UP, &x)? else { return Ok(Flow::Stopped) };
                up
            }
        };
        let x = step.activate(Activation::Gelu, &up)?;
        step.onto(order.fans().len() - 1, &x, &sum)
    }

    fn notes(&self) -> Vec<String> {
        match &self.positions {
            PositionEncoding::Alibi(alibi) if alibi.times() > 1.0 => vec![format!(
                "alibi is added {} times, as does the eager attention of the transformers release that wrote \
                config.json; with \"attn_implementation\": \"sdpa\" in it alibi is added once, as Falcon-RW was trained",
                alibi.times()
            )],
            _ => Vec::new(),
        }
    }
}
