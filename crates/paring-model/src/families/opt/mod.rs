//! OPT: learned positions, layer norms before each half of a block or after it (350M), ReLU, biases. Embeddings may be
//! narrower than the blocks (350M again), between two projections. Galactica is an OPT with GELU.

mod shape;

use candle_core::Tensor;

use self::shape::Shape;
use super::block::Step;
use super::family::{BlockShape, Family, OuterShape};
use super::{FamilyEntry, open_model, outer_info};
use crate::anatomy::{AttentionInfo, MlpInfo};
use crate::config::Config;
use crate::parts::encoding::PositionEncoding;
use crate::pass::Flow;
use crate::{Result, Sizes};

/// This family's row in [`super::FAMILIES`].
pub(super) const FAMILY: FamilyEntry = FamilyEntry {
    name: "opt",
    architectures: &["OPTForCausalLM", "OPTModel"],
    model_types: &["opt"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, Opt::read),
    outer: |checkpoint| outer_info(checkpoint, Opt::read),
};

const QKV: usize = 0;
const OUT: usize = 1;
const FC1: usize = 2;
const FC2: usize = 3;
const FANS: [&str; 4] = ["qkv", "out", "fc1", "fc2"];
const ATTENTION: &str = "self_attn";

// Norms of a block.
const OF_ATTENTION: usize = 0;
const OF_MLP: usize = 1;

/// The first rows of the table of positions belong to no position.
const OFFSET: usize = 2;

/// An OPT.
struct Opt {
    shape: Shape,
}

impl Opt {
    fn read(config: &Config) -> Result<Self> {
        Ok(Self { shape: Shape::read(config)? })
    }
}

impl Family for Opt {
    fn sizes(&self) -> Sizes {
        let Shape { blocks, dim, vocab, max_positions, .. } = self.shape;
        Sizes { blocks, dim, vocab, max_positions }
    }

    fn outer(&self) -> OuterShape {
        let Shape { dim, word, final_norm, tied, .. } = self.shape;
        let norm = self.shape.norm("final_layer_norm", "do_layer_norm_before and _remove_final_layer_norm are right");
        OuterShape {
            prefixes: &["model.decoder.", "decoder.", ""],
            blocks: "layers",
            embedding: "embed_tokens",
            width: word,
            learned: Some(("embed_positions", OFFSET)),
            projections: (word != dim).then_some(["project_in", "project_out"]),
            projections_hint: "word_embed_proj_dim is right",
            norm: final_norm.then_some(norm),
            tied,
        }
    }

    fn block(&self, _: usize) -> BlockShape {
        let norm = |name| self.shape.norm(name, "num_hidden_layers and layer_norm_elementwise_affine are right");
        let Shape { dim, heads, .. } = self.shape;
        BlockShape {
            fans: &FANS,
            linears: self.shape.linears().into(),
            linears_hint: "num_hidden_layers is right",
            norms: vec![norm("self_attn_layer_norm"), norm("final_layer_norm")],
            attention: AttentionInfo {
                module: ATTENTION.to_string(),
                after_fan: QKV,
                output_fan: OUT,
                heads,
                kv_heads: heads,
                head_dim: dim / heads,
                window: None,
                positions: self.positions().kind(),
                cache_module: Some(ATTENTION.to_string()),
            },
            mlp: MlpInfo::Plain { up: FC1, down: FC2 },
            fused: &[&[0, 1, 2]],
        }
    }

    fn positions(&self) -> &PositionEncoding {
        &PositionEncoding::Learned
    }

    fn run(&self, step: &mut Step<'_, '_>, h: &Tensor) -> Result<Flow<Tensor>> {
        let before = self.shape.norm_before;
        let x = if before { step.norm(OF_ATTENTION, h)? } else { h.clone() };
        let Flow::Out([q, k, v]) = step.fan(QKV, &x)? else { return Ok(Flow::Stopped) };
        drop(x);
        let (q, k, v) = (step.heads(&q)?, step.heads(&k)?, step.heads(&v)?);
        let x = step.attend(q, k, v)?;
        let Flow::Out(h) = step.onto(OUT, &x, h)? else { return Ok(Flow::Stopped) };
        let h = if before { h } else { step.norm(OF_ATTENTION, &h)? };

        let x = if before { step.norm(OF_MLP, &h)? } else { h.clone() };
        let Flow::Out([x]) = step.fan(FC1, &x)? else { return Ok(Flow::Stopped) };
        let x = step.activate(self.shape.activation, &x)?;
        let Flow::Out(h) = step.onto(FC2, &x, &h)? else { return Ok(Flow::Stopped) };
        Ok(Flow::Out(if before { h } else { step.norm(OF_MLP, &h)? }))
    }
}
