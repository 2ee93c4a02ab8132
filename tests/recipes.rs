//! Schemes by name, recipes in files, and linears that are treated differently.

mod support;

use std::collections::BTreeMap;
use std::fs;

use paring_format::{Checkpoint, Element, QuantConfig, Strategy};
use serde_json::Value;

use support::*;

const RUN: &str = "quantize model calib.safetensors --quiet --out out --overwrite";

fn config(checkpoint: &Checkpoint) -> QuantConfig {
    checkpoint.quant_config().unwrap().unwrap()
}

/// Each linear's width, group (0: whole rows) and layout, as a reader finds them.
fn schemes(checkpoint: &Checkpoint) -> BTreeMap<String, (u32, usize, String)> {
    let config = config(checkpoint);
    let mut found = BTreeMap::new();
    for name in linears(checkpoint) {
        let Some(scheme) = config.scheme(&name).unwrap() else { continue };
        let weights = scheme.weights.as_ref().unwrap();
        let group = if let Strategy::Group(size) = weights.strategy { size } else { 0 };
        found.insert(name, (weights.element.bits(), group, scheme.format.clone()));
    }
    found
}

/// The golden model is small: groups of 16 are what its sizes have in common.
fn bits_of(name: &str) -> u32 {
    match name {
        _ if name.contains("layers.0.") && name.ends_with("down_proj") => 8,
        _ if name.ends_with("down_proj") => 6,
        _ => 4,
    }
}

#[test]
fn a_scheme_is_what_its_options_are() {
    let sandbox = Sandbox::new();
    let run = "quantize model calib.safetensors --quiet";
    for (i, (scheme, options)) in [
        ("W4A16 --groupsize 16", "--wbits 4 --groupsize 16 --sym"),
        ("w4a16_asym --groupsize -1", "--wbits 4"),
        ("W3A16 --groupsize 16 --method rtn", "--wbits 3 --groupsize 16 --sym --method rtn"),
        ("W8A16 --groupsize -1 --actorder static", "--wbits 8 --sym --actorder static"),
    ]
    .into_iter()
    .enumerate()
    {
        sandbox.ok(&format!("{run} --scheme {scheme} --out scheme{i}"));
        sandbox.ok(&format!("{run} {options} --out options{i}"));
        let (a, b) =
            (model_bytes(&sandbox.path(&format!("scheme{i}"))), model_bytes(&sandbox.path(&format!("options{i}"))));
        assert!(a == b, "{scheme}");
    }
    let both = "sparsify model calib.safetensors --quiet --pattern 2:4 --scheme W4A16 --groupsize 16 --out both";
    assert!(sandbox.json(both)["sparsity"].as_f64().unwrap() >= 0.5);
    assert_eq!(schemes(&sandbox.open("both")).values().next().unwrap().0, 4);
}

#[test]
fn options_that_contradict_a_scheme() {
    let sandbox = Sandbox::new();
    let wrong: Vec<String> = [
        ("--scheme W9A16", &["--scheme W9A16", "did you mean W4A16, W8A16 or W2A16?", "paring schemes"] as &[&str]),
        ("--scheme UNQUANTIZED", &["UNQUANTIZED", "as they are"]),
        ("--scheme W4A16 --wbits 4", &["--scheme", "--wbits"]),
        ("--scheme W4A16 --target-bits 4", &["--target-bits", "--scheme"]),
        ("--scheme W4A16_ASYM --sym", &["--sym", "W4A16_ASYM", "asymmetric"]),
        ("--scheme W4A16 --sym=false", &["--sym=false", "W4A16", "symmetric"]),
        ("--scheme W4A16 --groupsize 0", &["--groupsize 0"]),
        ("--scheme FP8_DYNAMIC --groupsize 64", &["--groupsize 64", "FP8_DYNAMIC"]),
        ("--scheme W4A16 --method spqr", &["W4A16", "spqr"]),
        ("--scheme W4A16 --round-zero", &["W4A16", "spqr"]),
        ("--scheme W4A16 --format int-quantized", &["int-quantized", "pack-quantized"]),
        ("--scheme W4A16 --groupsize 16 --strict", &["--strict", "groups"]),
        ("--wbits 4 --groupsize 16 --strict", &["--strict", "vLLM", "groups of 16", "W4A16"]),
    ]
    .into_iter()
    .filter_map(|(options, words)| sandbox.refused(&format!("{RUN} {options}"), 2, words).err())
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_file_holds_options_and_overrides() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "recipe.toml",
        "wbits = 4\ngroupsize = 16\nsym = true\nignore = ['re:.*layers\\.1\\.self_attn\\.o_proj$']\n\n\
        [[override]]\ntargets = ['re:.*down_proj']\nwbits = 6\n\n\
        [[override]]\ntargets = ['model.layers.0.mlp.down_proj']\nscheme = 'W8A16'\ngroupsize = -1\nmethod = 'rtn'\n\n\
        [[override]]\ntargets = ['re:.*layers\\.0\\.self_attn\\.v_proj']\nskip = true\n",
    );
    let report = sandbox.json(&format!("{RUN} --config recipe.toml"));
    let made = sandbox.open("out");
    let (names, found) = (linears(&made), schemes(&made));
    let kept = ["model.layers.1.self_attn.o_proj", "model.layers.0.self_attn.v_proj"];
    assert_eq!(found.len(), names.len() - 2);
    for (name, (bits, group, format)) in &found {
        assert_eq!(*bits, bits_of(name), "{name}");
        assert_eq!(*group, if *bits == 8 { 0 } else { 16 }, "{name}");
        assert_eq!(format, "pack-quantized");
        assert!(!kept.contains(&name.as_str()));
        let stored = made.read_module(name).unwrap();
        let paring_format::Values::Codes { grid, .. } = stored.values else { panic!("{name} is dense") };
        assert_eq!(grid.element, Element::Int(*bits), "{name}");
    }
    let original = sandbox.open("model");
    for name in kept {
        let name = format!("{name}.weight");
        assert!(tensor(&made, &name) == tensor(&original, &name), "{name} changed");
    }
    let layers = report["layers"].as_array().unwrap();
    let method = |name: &str| layers.iter().find(|l| l["name"] == name).unwrap()["method"].clone();
    assert_eq!(method("model.layers.0.mlp.down_proj"), "rtn");
    assert_eq!(method("model.layers.1.mlp.down_proj"), "gptq");
    // Patterns where they say the same to other readers, the class for the rest.
    let groups = config(&made).groups;
    let targets: Vec<&[String]> = groups.iter().map(|(_, scheme)| scheme.targets.as_slice()).collect();
    assert_eq!(
        targets,
        [&["Linear".to_string()][..], &["re:.*down_proj".into()], &["model.layers.0.mlp.down_proj".into()]]
    );
    let plan: Value = json_file(&sandbox.path("out/paring.json"));
    assert_eq!(plan["plan"]["config"], "recipe.toml");
    assert_eq!(plan["plan"]["overrides"][1]["recipe"]["rounding"]["weights"]["num_bits"], 8);
    assert!(plan["plan"]["overrides"][2]["recipe"].is_null());
    sandbox.ok("verify out");
    // The same model, stored dense.
    sandbox.ok(&format!("{RUN} --config recipe.toml --format dense").replace("--out out", "--out dense"));
    let (packed, dense) = (sandbox.perplexity("out"), sandbox.perplexity("dense"));
    assert!((packed / dense - 1.0).abs() < 1e-9, "{packed} and {dense}");
    // Options override the file.
    sandbox.ok(&format!("{RUN} --config recipe.toml --wbits 5 --sym=false --ignore lm_head"));
    let found = schemes(&sandbox.open("out"));
    assert_eq!(found["model.layers.1.self_attn.o_proj"].0, 5);
    assert_eq!(found["model.layers.0.mlp.down_proj"].0, 8);
}

/// Patterns of which other readers would take another one become names.
#[test]
fn the_last_override_decides() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "recipe.toml",
        "wbits = 4\n[[override]]\ntargets = ['re:.*down_proj']\nwbits = 6\n\
        [[override]]\ntargets = ['re:model.layers.0']\nwbits = 8\nformat = 'int-quantized'\n",
    );
    sandbox.ok(&format!("{RUN} --config recipe.toml"));
    let made = sandbox.open("out");
    for (name, (bits, _, format)) in schemes(&made) {
        let expected = match name.as_str() {
            _ if name.contains("layers.0") => (8, "int-quantized"),
            _ if name.ends_with("down_proj") => (6, "pack-quantized"),
            _ => (4, "pack-quantized"),
        };
        assert_eq!((bits, format.as_str()), expected, "{name}");
    }
    let config = config(&made);
    assert_eq!(config.format, "mixed-precision");
    assert!(
        config.groups[1].1.targets.iter().all(|target| !target.starts_with("re:")),
        "{:?}",
        config.groups[1].1.targets
    );
    sandbox.ok("verify out");
}

/// Methods of several kinds in one walk, some without data.
#[test]
fn pruning_differs_between_linears() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "recipe.toml",
        "method = 'wanda'\nsparsity = 0.5\n[[override]]\ntargets = ['re:.*q_proj']\nmethod = 'sparsegpt'\npattern = '2:4'\n\
        [[override]]\ntargets = ['re:.*v_proj']\nmethod = 'magnitude'\nsparsity = 0.25\n\
        [[override]]\ntargets = ['re:.*up_proj']\nmethod = 'gptq'\nsparsity = 0\n",
    );
    let run = "sparsify model calib.safetensors --quiet --out out --overwrite --config recipe.toml";
    sandbox.refused(run, 2, &["recipe.toml", "gptq does not prune"]).unwrap();
    let text = fs::read_to_string(sandbox.path("recipe.toml")).unwrap();
    sandbox.write("recipe.toml", text.replace("method = 'gptq'\nsparsity = 0\n", "skip = true\n"));
    let report = sandbox.json(run);
    for layer in report["layers"].as_array().unwrap() {
        let (name, sparsity) = (layer["name"].as_str().unwrap(), layer["sparsity"].as_f64().unwrap());
        let expected = if name.ends_with("v_proj") { 0.25 } else { 0.5 };
        assert!((sparsity - expected).abs() < 0.02, "{name}: {sparsity}");
        assert!(!name.ends_with("up_proj"));
    }
    assert!(sandbox.open("out").quant_config().unwrap().is_none());
}

#[test]
fn bad_files() {
    let sandbox = Sandbox::new();
    sandbox.write("big.toml", "#".repeat((1 << 20) + 1));
    sandbox.write("bytes.toml", [0xff, 0xfe, 0x00]);
    sandbox.write("deep.toml", format!("wbits = {}4{}", "[".repeat(5000), "]".repeat(5000)));
    sandbox.write("deep.yaml", format!("a_stage: {}4{}", "[".repeat(5000), "]".repeat(5000)));
    sandbox.write("bomb.yaml", "a_stage: &a [x, x]\nb_stage: [*a, *a]\n");
    let cases: [(&str, &str, i32, &[&str]); 25] = [
        ("missing.toml", "", 1, &["missing.toml"]),
        ("big.toml", "", 2, &["big.toml", "1048576"]),
        ("bytes.toml", "", 2, &["bytes.toml", "UTF-8"]),
        ("deep.toml", "", 2, &["deep.toml", "line 1"]),
        ("deep.yaml", "", 2, &["deep.yaml", "line 1", "deep"]),
        ("bomb.yaml", "", 2, &["bomb.yaml", "line 1", "anchors"]),
        ("a.toml", "wbits = ", 2, &["a.toml, line 1", "not TOML"]),
        ("a.toml", "\nwbit = 4", 2, &["a.toml, line 2", "unknown key wbit; did you mean wbits?"]),
        ("a.toml", "wbits = 4\n\nmethod = 'magic'", 2, &["a.toml, line 3", "magic", "gptq"]),
        ("a.toml", "wbits = 'four'", 2, &["a.toml, line 1", "four", "--wbits"]),
        ("a.toml", "wbits = [4, 5]", 2, &["a.toml, line 1", "wbits", "one value"]),
        ("a.toml", "wbits = {a = 1}", 2, &["a.toml, line 1", "wbits"]),
        ("a.toml", "skip-out-loss = 1", 2, &["a.toml, line 1", "skip-out-loss", "true or false"]),
        ("a.toml", "quiet = true", 2, &["unknown key quiet; known: "]),
        (
            "a.toml",
            "wbits = 4\npattern = '2:4'",
            2,
            &["a.toml, line 2", "--pattern belongs to `paring sparsify`", "--wbits"],
        ),
        ("a.toml", "wbits = 12", 2, &["a.toml: --wbits 12"]),
        ("a.toml", "wbits = 4\nscheme = 'W4A16'", 2, &["a.toml", "--scheme", "--wbits"]),
        ("a.toml", "wbits = 4\noverride = 3", 2, &["a.toml, line 2", "[[override]]"]),
        ("a.toml", "wbits = 4\n[[override]]\nwbits = 8", 2, &["a.toml, line 2", "no targets"]),
        ("a.toml", "wbits = 4\n[[override]]\ntargets = [3]", 2, &["a.toml, line 3", "targets"]),
        ("a.toml", "wbits = 4\n[[override]]\ntargets = 'a'\nnsamples = 2", 2, &["a.toml, line 4", "nsamples", "wbits"]),
        (
            "a.toml",
            "wbits = 4\n[[override]]\ntargets = 'a'\nskip = true\nwbits = 2",
            2,
            &["a.toml, line 5", "wbits", "skip"],
        ),
        ("a.toml", "wbits = 4\n[[override]]\ntargets = 're:.*q_proj'\nwbits = 9", 2, &["a.toml, line 2", "--wbits 9"]),
        ("a.toml", "wbits = 4\n[[override]]\ntargets = 're:.*x_proj'\nwbits = 8", 1, &["re:.*x_proj", "no layer"]),
        (
            "a.toml",
            "wbits = 4\n[[override]]\ntargets = 'lm_head'\nwbits = 8",
            1,
            &["of lm_head", "matches nothing to compress"],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, text, code, words) in cases {
        if !text.is_empty() {
            sandbox.write(name, text);
        }
        wrong.extend(sandbox.refused(&format!("{RUN} --config {name}"), code, words).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Formats that one checkpoint cannot have side by side are refused before the work.
#[test]
fn formats_that_do_not_go_together() {
    let sandbox = Sandbox::new();
    let mixed = "[[override]]\ntargets = ['re:.*v_proj']\n";
    let wrong: Vec<String> = [
        (
            format!("wbits = 8\nsym = true\n{mixed}format = 'sparse-bitmask'"),
            &["sparse-bitmask", "all layers"] as &[&str],
        ),
        (format!("wbits = 4\n{mixed}round-zero = true"), &["pack-quantized", "paring-spqr", "one checkpoint"]),
        (
            format!("wbits = 4\n{mixed}format = 'float-quantized'"),
            &["float-quantized", "4-bit integers (", "pack-quantized"],
        ),
        (format!("wbits = 4\n{mixed}format = 'zip'"), &["--format zip", "no such format"]),
        (format!("scheme = 'W8A8'\n{mixed}format = 'dense'"), &["--format dense", "activations"]),
        (format!("scheme = 'FP8_DYNAMIC'\n{mixed}wbits = 4"), &["line 2", "--wbits 4", "--scheme"]),
        (format!("wbits = 4\n{mixed}scheme = 'W4A99'"), &["line 2", "W4A99", "W4A16"]),
        (format!("wbits = 4\n{mixed}target-bits = 4"), &["line 2", "--target-bits"]),
    ]
    .into_iter()
    .filter_map(|(text, words)| {
        sandbox.write("recipe.toml", text);
        sandbox.refused(&format!("{RUN} --config recipe.toml"), 2, words).err()
    })
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Floats beside integers, inputs quantized in some of the linears only.
#[test]
fn integers_and_floats_in_one_checkpoint() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "recipe.toml",
        "scheme = 'W4A16'\ngroupsize = 16\n[[override]]\ntargets = ['re:.*\\.mlp\\.']\nscheme = 'fp8_dynamic'\n",
    );
    sandbox.ok(&format!("{RUN} --config recipe.toml"));
    let made = sandbox.open("out");
    let config = config(&made);
    assert_eq!(config.format, "mixed-precision");
    for (name, (bits, _, format)) in schemes(&made) {
        let input = config.scheme(&name).unwrap().unwrap().input.is_some();
        let expected = if name.contains("mlp") { (8, "float-quantized", true) } else { (4, "pack-quantized", false) };
        assert_eq!((bits, format.as_str(), input), expected, "{name}");
    }
    sandbox.ok("verify out");
    assert!(sandbox.perplexity("out").is_finite());
}

/// Every recipe that lies in `configs/`, on the built-in model.
#[test]
fn the_recipes_that_come_along() {
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
    let sandbox = Sandbox::empty();
    let mut ran = 0;
    for entry in fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if name.ends_with(".md") {
            continue;
        }
        // Each says at its top how it is run.
        let text = fs::read_to_string(&path).unwrap();
        let usage = text.lines().find_map(|line| line.strip_prefix("#     paring ")).unwrap();
        let arguments =
            usage.replace("MODEL", "demo").replace("DATASET", "").replace("configs/", &format!("{configs}/"));
        let arguments = arguments.replace("OUT", &name);
        let stderr = sandbox.ok(&format!("{arguments} --nsamples 8 --seqlen 64 --layers 0..1")).stderr;
        // Only SpQR's layout comes with a note on who runs it.
        assert_eq!(stderr.contains("only paring can run"), name == "smallest.toml", "{name}: {stderr}");
        sandbox.ok(&format!("verify {name}"));
        ran += 1;
    }
    assert!(ran >= 6, "{ran}");
}
