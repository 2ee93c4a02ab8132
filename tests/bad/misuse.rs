//! Options that make no sense (exit code 2), and options that do not fit the model (exit code 1).

use crate::support::*;
use crate::{BadArguments, Questions, check};

/// Leaves the sandbox as it is.
fn plain(_: &Sandbox) {}

const QUANTIZATION: &[BadArguments] = &[
    ("--method spqr", &["spqr", "--wbits", "--target-bits"]),
    ("--wbits 1", &["--wbits 1", "2 to 8"]),
    ("--wbits 9", &["--wbits 9", "2 to 8"]),
    ("--wbits 0", &["--wbits 0", "2 to 8"]),
    ("--wbits -4", &["--wbits", "-4"]),
    ("--wbits four", &["--wbits", "four"]),
    ("--wbits 4 --groupsize 0", &["--groupsize 0", "-1"]),
    ("--wbits 4 --groupsize -2", &["--groupsize -2", "-1"]),
    ("--target-bits 1 --method gptq", &["--target-bits 1: must be 3.", "for this model"]),
    ("--wbits 4 --blocksize 0", &["--blocksize 0", "at least 1"]),
    ("--wbits 4 --blocksize -1", &["--blocksize", "-1"]),
    ("--wbits 4 --percdamp -1", &["--percdamp -1", "0 to 1e6"]),
    ("--wbits 4 --percdamp nan", &["--percdamp NaN", "0 to 1e6"]),
    ("--wbits 4 --percdamp inf", &["--percdamp inf"]),
    ("--wbits 4 --format zip", &["--format zip", "pack-quantized", "int-quantized", "dense"]),
    ("--wbits 4 --format pack-quantised", &["--format pack-quantised: no such format; did you mean pack-quantized?"]),
    ("--scheme W4A17", &["--scheme W4A17: no such scheme; did you mean W4A16"]),
    ("--wbits 4 --format int-quantized", &["int-quantized", "--wbits 4", "pack-quantized"]),
    ("--wbits 4 --groupsize 16 --actorder group", &["--actorder group", "--actorder static", "--format dense"]),
    ("--wbits 4 --method rtn --actorder static", &["--actorder", "rtn"]),
    ("--wbits 4 --actorder sideways", &["--actorder", "sideways", "static"]),
    ("--wbits 4 --method magic", &["--method", "magic", "gptq"]),
    ("--wbits 4 --method wanda", &["--method wanda belongs to paring prune"]),
    ("--wbits 4 --threads 0", &["--threads", "0"]),
    ("--wbits 4 --nsamples 0", &["--nsamples", "0"]),
    ("--wbits 4 --seqlen 1", &["--seqlen", "1"]),
    ("--wbits 4 --seed -1", &["--seed", "-1"]),
    ("--wbits 4 --layers 1", &["--layers", "A..B"]),
    ("--wbits 4 --layers 2..x", &["--layers", "A..B"]),
    ("--wbits 4 --dtype f8", &["--dtype", "f8", "bf16"]),
    ("--wbits 4 --device tpu", &["--device", "tpu", "cpu"]),
    ("--wbits 4 --device cuda:x", &["--device", "cuda:x", "cuda:N"]),
    ("--wbits 4 --max-vram 8parsecs", &["--max-vram", "8parsecs", "8GiB"]),
    ("--wbits 4 --gram-precision f16", &["--gram-precision", "f16", "bf16x3"]),
    ("--wbits 4 --device cpu --gram-precision tf32", &["--gram-precision tf32", "for a GPU", "leave it out"]),
    ("--wbits 4 --device cpu --max-vram 8GiB", &["--max-vram", "uses the CPU", "--device cuda:N"]),
    ("--wbits 4 --verbose", &["--verbose", "--quiet"]),
    ("--wbits 4 --fast", &["--fast is unknown; see `paring quantize --help`"]),
];

const PRUNING: &[BadArguments] = &[
    ("", &["--pattern"]),
    ("--sparsity 1.0", &["--sparsity 1", "below 1"]),
    ("--sparsity -0.1", &["--sparsity -0.1", "at least 0"]),
    ("--sparsity nan", &["--sparsity NaN"]),
    ("--sparsity half", &["--sparsity", "half"]),
    ("--pattern 4:2", &["--pattern 4:2", "N of every M"]),
    ("--pattern 0:0", &["--pattern 0:0"]),
    ("--pattern 2-4", &["--pattern", "2-4", "2:4"]),
    ("--pattern 2:4:8", &["--pattern", "2:4:8"]),
    ("--pattern 2:4 --sparsity 0.5", &["--pattern", "--sparsity"]),
    ("--pattern 1:3", &["--pattern 1:3", "--blocksize"]),
    ("--pattern 2:4 --method gptq", &["--method gptq belongs to paring quantize", "--method sparsegpt with --wbits"]),
    ("--pattern 2:4 --method magnitude --wbits 4", &["magnitude", "sparsegpt"]),
    ("--pattern 2:4 --method wanda --wbits 4", &["wanda", "sparsegpt"]),
    ("--pattern 2:4 --groupsize 16", &["--groupsize", "--wbits"]),
    ("--pattern 2:4 --sym", &["--sym", "--wbits"]),
    ("--pattern 2:4 --format pack-quantized", &["--format pack-quantized", "pruning alone makes none; add bits"]),
    ("--pattern 2:4 --wbits 4 --actorder group", &["--actorder", "pruning"]),
];

const MODEL_FIT: &[BadArguments] = &[
    ("--groupsize 12", &["model.layers.0.self_attn.q_proj", "32 columns", "--groupsize 12"]),
    ("--groupsize 32", &["model.layers.0.mlp.down_proj", "48 columns", "--groupsize 32"]),
    ("--include q_proj", &["--include q_proj", "model.layers.0.self_attn.q_proj", "re:"]),
    ("--include layers.0.self_attn.qproj", &["no layer of this name; names look like model.layers.0."]),
    ("--include model.layers.0.self_attn.qproj", &["did you mean model.layers.0.self_attn.q_proj?"]),
    ("--ignore re:.*gate_up", &["--ignore re:.*gate_up", "re:"]),
    ("--include re:(", &["re:(", "unclosed group"]),
    ("--ignore re:.*", &["no layer is left to compress; check --include, --ignore"]),
    ("--layers 1..3", &["--layers 1..3", "0..2"]),
    ("--layers 1..1", &["--layers 1..1", "0..2"]),
    ("--layers 2..1", &["--layers 2..1", "0..2"]),
    ("--layers 0..1 --include re:.*layers.1", &["--include re:.*layers.1"]),
];

const PATTERNS: &[BadArguments] =
    &[("--pattern 2:5", &["model.layers.0.self_attn.q_proj", "32 columns", "--pattern 2:5"])];

const COMMANDS: &[BadArguments] = &[
    ("compress", &["compress"]),
    ("quantize model --wbits 4 --out out", &["DATASET", ".jsonl"]),
    ("eval model", &["DATASET", ".jsonl"]),
    ("eval '' eval.safetensors", &["MODEL"]),
    ("inspect model --outliers map.png", &["--outliers map.png: the plot is an SVG, not a .png file; name it map.svg"]),
    ("eval model ''", &["DATASET"]),
    ("inspect ''", &["MODEL"]),
    ("decompress '' --out out", &["MODEL"]),
    ("quantize model calib.safetensors --wbits 4 --out ''", &["--out"]),
    ("inspect", &["MODEL"]),
    ("decompress model", &["--out"]),
    ("eval model eval.safetensors more", &["more"]),
    ("eval model eval.safetensors --limit 0", &["--limit", "0"]),
    ("layer x.safetensors --out made", &["--method"]),
    ("layer x.safetensors --out made --method gptq", &["gptq", "--wbits"]),
    ("layer x.safetensors --out made --method wanda", &["wanda", "--pattern"]),
];

pub const QUESTIONS: &[Questions] = &[
    Questions {
        name: "quantization options",
        prepare: plain,
        command: "quantize model calib.safetensors --out out --quiet {}",
        code: 2,
        kinds: QUANTIZATION,
    },
    Questions {
        name: "pruning options",
        prepare: plain,
        command: "sparsify model calib.safetensors --out out --quiet {}",
        code: 2,
        kinds: PRUNING,
    },
    Questions {
        name: "options that do not fit the model",
        prepare: plain,
        command: "quantize model calib.safetensors --wbits 4 --out out --quiet {}",
        code: 1,
        kinds: MODEL_FIT,
    },
    Questions {
        name: "patterns that do not fit the model",
        prepare: plain,
        command: "sparsify model calib.safetensors --method wanda --out out --quiet {}",
        code: 1,
        kinds: PATTERNS,
    },
    Questions { name: "commands", prepare: plain, command: "{}", code: 2, kinds: COMMANDS },
];

#[test]
fn quantization_options() {
    check("quantization options");
}

#[test]
fn pruning_options() {
    check("pruning options");
}

#[test]
fn options_that_do_not_fit_the_model() {
    check("options that do not fit the model");
}

#[test]
fn patterns_that_do_not_fit_the_model() {
    check("patterns that do not fit the model");
}

#[test]
fn commands() {
    check("commands");
    let ran = Sandbox::empty().run("");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("Usage"), "{}", ran.stderr);
}
