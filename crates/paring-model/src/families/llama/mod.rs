//! Llama: RMS norms, rotary embeddings, grouped queries, SwiGLU. The same architecture serves several models under the
//! same name (Llama 1 to 3, TinyLlama, SmolLM2 and others), and with small differences Mistral, Qwen2 and Qwen3.

mod shape;

use candle_core::Tensor;

use self::shape::{Member, Shape};
use super::block::Step;
use super::family::{BlockShape, Family, NormKind, NormShape, OuterShape};
use super::{FamilyEntry, open_model, outer_info};
use crate::anatomy::{AttentionInfo, MlpInfo};
use crate::config::Config;
use crate::parts::{encoding::PositionEncoding, rope::Rope};
use crate::pass::Flow;
use crate::{Result, Sizes};

/// Llama's row in [`super::FAMILIES`].
pub(super) const LLAMA: FamilyEntry = FamilyEntry {
    name: "llama",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"],
    model_types: &["llama"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, read(&shape::LLAMA)),
    outer: |checkpoint| outer_info(checkpoint, read(&shape::LLAMA)),
};

/// Mistral's row in [`super::FAMILIES`]: attention in a sliding window.
pub(super) const MISTRAL: FamilyEntry = FamilyEntry {
    name: "mistral",
    architectures: &["MistralForCausalLM", "MistralModel"],
    model_types: &["mistral"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, read(&shape::MISTRAL)),
    outer: |checkpoint| outer_info(checkpoint, read(&shape::MISTRAL)),
};

/// Qwen2's row in [`super::FAMILIES`]: biases of queries, keys and values, a sliding window in some blocks.
pub(super) const QWEN2: FamilyEntry = FamilyEntry {
    name: "qwen2",
    architectures: &["Qwen2ForCausalLM", "Qwen2Model"],
    model_types: &["qwen2"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, read(&shape::QWEN2)),
    outer: |checkpoint| outer_info(checkpoint, read(&shape::QWEN2)),
};

/// Qwen3's row in [`super::FAMILIES`]: norms of each head of queries and keys, a sliding window in some blocks.
pub(super) const QWEN3: FamilyEntry = FamilyEntry {
    name: "qwen3",
    architectures: &["Qwen3ForCausalLM", "Qwen3Model"],
    model_types: &["qwen3"],
    open: |checkpoint, arithmetic| open_model(checkpoint, arithmetic, read(&shape::QWEN3)),
    outer: |checkpoint| outer_info(checkpoint, read(&shape::QWEN3)),
};

/// The reader of a member's configs.
fn read(member: &'static Member) -> impl FnOnce(&Config) -> Result<Llama> {
    move |config| Llama::read(config, member)
}

const QKV: usize = 0;
const O: usize = 1;
const GATE_UP: usize = 2;
const DOWN: usize = 3;
const FANS: [&str; 4] = ["qkv", "o", "gate_up", "down"];
const ATTENTION: &str = "self_attn";

// Norms of a block.
const BEFORE_ATTENTION: usize = 0;
const BEFORE_MLP: usize = 1;
const OF_QUERIES: usize = 2;
const OF_KEYS: usize = 3;

/// A Llama or relative.
struct Llama {
    shape: Shape,
    positions: PositionEncoding,
}

impl Llama {
    fn read(config: &Config, member: &Member) -> Result<Self> {
        let shape = Shape::read(config, member)?;
        let rope = Rope::from_config(config, shape.head_dim, shape.max_positions)?;
        Ok(Self { shape, positions: PositionEncoding::Rotary(rope) })
    }

    fn norm(&self, name: &'static str, dim: usize, hint: &'static str) -> NormShape {
        NormShape { name, kind: NormKind::Rms, dim, eps: self.shape.eps, hint }
    }
}

impl Family for Llama {
    fn sizes(&self) -> Sizes {
        let Shape { blocks, dim, vocab, max_positions, .. } = self.shape;
        Sizes { blocks, dim, vocab, max_positions }
    }

    fn outer(&self) -> OuterShape {
        OuterShape {
            prefixes: &["model.", ""],
            blocks: "layers",
            embedding: "embed_tokens",
            width: self.shape.dim,
            learned: None,
            projections: None,
            projections_hint: "",
            norm: Some(self.norm("norm", self.shape.dim, "hidden_size is right")),
            tied: self.shape.tied,
        }
    }

    fn block(&self, i: usize) -> BlockShape {
        let Shape { dim, heads, groups, head_dim, .. } = self.shape;
        let mut norms = vec![
            self.norm("input_layernorm", dim, "num_hidden_layers is right"),
            self.norm("post_attention_layernorm", dim, "num_hidden_layers is right"),
        ];
        if self.shape.head_norms {
            let of_heads = |name| self.norm(name, head_dim, "architectures is right");
            norms.extend([of_heads("self_attn.q_norm"), of_heads("self_attn.k_norm")]);
        }
        BlockShape {
            fans: &FANS,
            linears: self.shape.linears().into(),
            linears_hint: "num_hidden_layers is right",
            norms,
            attention: AttentionInfo {
                module: ATTENTION.to_string(),
                after_fan: QKV,
                output_fan: O,
                heads,
                kv_heads: groups,
                head_dim,
                window: self.shape.windows[i],
                positions: self.positions.kind(),
                cache_module: Some(ATTENTION.to_string()),
            },
            mlp: MlpInfo::Gated { fan: GATE_UP, down: DOWN },
            fused: &[&[0, 1, 2], &[4, 5]],
        }
    }

    fn positions(&self) -> &PositionEncoding {
        &self.positions
    }

    fn run(&self, step: &mut Step<'_, '_>, h: &Tensor) -> Result<Flow<Tensor>> {
        let x = step.norm(BEFORE_ATTENTION, h)?;
        let Flow::Out([q, k, v]) = step.fan(QKV, &x)? else { return Ok(Flow::Stopped) };
        drop(x);
        let (mut q, mut k, v) = (step.heads(&q)?, step.heads(&k)?, step.heads(&v)?);
        if self.shape.head_norms {
            (q, k) = (step.norm(OF_QUERIES, &q)?, step.norm(OF_KEYS, &k)?);
        }
        let x = step.attend(q, k, v)?;
        let Flow::Out(h) = step.onto(O, &x, h)? else { return Ok(Flow::Stopped) };
        let x = step.norm(BEFORE_MLP, &h)?;
        let Flow::Out(x) = step.gated(GATE_UP, &x)? else { return Ok(Flow::Stopped) };
        step.onto(DOWN, &x, &h)
    }
}
