//! 4-bit checkpoints that are broken: only reading them makes sense.

use crate::support::*;
use crate::{BadInput, Table, check};

const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// Replaces the dense model by a broken one of 4 bits.
fn packed(sandbox: &Sandbox, change: impl Fn(&mut Model)) {
    sandbox.ok("quantize model calib.safetensors --wbits 4 --groupsize 16 --out packed --quiet");
    let mut model = Model::read(&sandbox.open("packed"));
    change(&mut model);
    model.write(&sandbox.path("model"));
}

const READ: &[&str] = &["eval model eval.safetensors --seqlen 32 --quiet", "decompress model --out out"];

const PACKED: &[BadInput] = &[
    (
        "no scales",
        |s| packed(s, |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_scale"))),
        &[MODULE, "weight_scale"],
    ),
    (
        "no codes",
        |s| packed(s, |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_packed"))),
        &[MODULE],
    ),
    (
        "no shape",
        |s| packed(s, |m| m.tensors.retain(|t| !t.name.ends_with("0.self_attn.q_proj.weight_shape"))),
        &[MODULE, "weight_shape"],
    ),
    (
        "a NaN scale",
        |s| packed(s, |m| m.set("model.layers.0.self_attn.q_proj.weight_scale", 5, f32::NAN)),
        &[MODULE, "weight_scale", "NaN at row 2, column 1"],
    ),
    (
        "other bits",
        |s| {
            packed(s, |m| m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 8.into())
        },
        &["model.layers.0", "weight_packed"],
    ),
    (
        "an unknown format",
        |s| {
            packed(s, |m| {
                m.config["quantization_config"]["format"] = "zip-quantized".into();
                m.config["quantization_config"]["config_groups"]["group_0"]["format"] = "zip-quantized".into();
            })
        },
        &["zip-quantized", "not supported"],
    ),
    (
        "another group size",
        |s| {
            packed(s, |m| {
                m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 12.into()
            })
        },
        &["model.layers.0", "32"],
    ),
];

/// Decompression uses the shape of a matrix: only a model can contradict it.
const SHAPE: &[BadInput] = &[(
    "another shape",
    |s| packed(s, |m| m.tensor("model.layers.0.self_attn.q_proj.weight_shape").bytes[0] = 31),
    &[MODULE, "[31, 32]", "[32, 32]"],
)];

pub const TABLES: &[Table] = &[
    Table { name: "packed models", commands: READ, shell: "", early: false, kinds: PACKED },
    Table { name: "shapes of packed matrices", commands: &[READ[0]], shell: "", early: true, kinds: SHAPE },
];

#[test]
fn packed_models() {
    check("packed models");
}

#[test]
fn shapes_of_packed_matrices() {
    check("shapes of packed matrices");
}
