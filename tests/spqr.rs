//! SpQR through the binary: what it writes, how it is read, checked and drawn.

mod support;

use std::collections::BTreeMap;
use std::fs;

use paring_format::Checkpoint;
use paring_format::layouts::part_names;
use paring_format::writer::write_file;
use serde_json::Value;

use support::*;

const DEMO: &str = "quantize demo --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --qq-groupsize 16 \
    --outlier-threshold 0.2 --permutation-order act_order --nsamples 8 --seqlen 128 --quiet";
const GOLDEN: &str = "quantize model calib.safetensors --wbits 4 --groupsize 16 --quiet";
const SECOND: &str = "--qq-scale-bits 3 --qq-zero-bits 3 --qq-groupsize 16";

/// Bytes of the stored parts of a linear.
fn stored_bytes(checkpoint: &Checkpoint, module: &str) -> usize {
    let bytes = |part: &&str| checkpoint.info(&format!("{module}.{part}")).map(|info| info.bytes());
    part_names().iter().filter_map(bytes).sum()
}

/// The built-in model in three bits: every command understands the folder, and all tell the same of it.
#[test]
fn the_demo() {
    let sandbox = Sandbox::empty();
    let report = sandbox.json(&format!("{DEMO} --out out"));
    let (made, layers) = (sandbox.open("out"), report["layers"].as_array().unwrap());
    assert_eq!((report["method"].as_str(), layers.len()), (Some("spqr"), 42));
    // The report says what the files hold.
    let mut outliers = 0;
    for layer in layers {
        let (name, weights) =
            (layer["name"].as_str().unwrap(), layer["rows"].as_f64().unwrap() * layer["cols"].as_f64().unwrap());
        assert_eq!(layer["bits"].as_f64().unwrap() * weights / 8.0, stored_bytes(&made, name) as f64, "{name}");
        let formula = layer["formula_bits"].as_f64().unwrap();
        assert!(formula > 3.0 && formula <= layer["bits"].as_f64().unwrap(), "{layer}");
        outliers += layer["outliers"].as_u64().unwrap();
    }
    assert_eq!(report["bytes_out"].as_u64(), Some(made.total_bytes()));
    assert!(outliers > 0 && report["outlier_share"].as_f64().unwrap() > 0.0);

    let summary = sandbox.json("inspect out");
    let files = model_bytes(&sandbox.path("out"));
    let weights = files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
    assert_eq!(summary["bytes"].as_u64().unwrap() as usize, weights.map(|(_, bytes)| bytes.len()).sum::<usize>());
    assert_eq!(summary["format"], "paring-spqr");
    let tensors: BTreeMap<&str, &Value> =
        summary["tensors"].as_array().unwrap().iter().map(|t| (t["name"].as_str().unwrap(), t)).collect();
    let mut kinds: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for layer in layers {
        let name = layer["name"].as_str().unwrap();
        let (seen, kept) = (tensors[name], layer["outliers"].as_u64().unwrap());
        assert_eq!((&seen["bits_per_weight"], seen["outliers"].as_u64()), (&layer["bits"], Some(kept)), "{name}");
        let format = seen["format"].as_str().unwrap();
        let words = ["paring-spqr 3-bit, groups of 16", "scales 3-bit by 16 rows", "zeros 3-bit by 16 rows"];
        assert!(words.iter().all(|word| format.contains(word)), "{format}");
        assert!(format.ends_with(&format!("columns in another order, {kept} outliers")), "{format}");
        let of = kinds.entry(name.rsplit_once('.').unwrap().1).or_default();
        *of = (of.0 + kept, of.1 + layer["rows"].as_f64().unwrap() * layer["cols"].as_f64().unwrap());
    }
    assert_eq!(kinds.len(), 7);
    for (kind, (kept, of)) in kinds {
        assert_eq!(summary["outlier_shares"][kind].as_f64().unwrap(), kept as f64 / of, "{kind}");
    }
    let text = sandbox.ok("inspect out").stdout;
    assert!(text.contains("outliers by kind of linear: down_proj ") && text.contains("v_proj "), "{text}");

    let verified = sandbox.json("verify out");
    assert_eq!((&verified["ok"], &verified["linears"]), (&true.into(), &42.into()));
    assert_eq!(verified["formats"], serde_json::json!({"paring-spqr": 42}));
    // Two norms a block, the last one, and the embedding, which is the head too.
    assert_eq!((&verified["tensors"], &verified["digests_checked"]), (&14.into(), &56.into()));

    let plain = sandbox.json("decompress out --out plain");
    assert_eq!(plain["decoded"], 42);
    let verified = sandbox.json("verify plain");
    assert_eq!((&verified["formats"]["dense"], &verified["digests_checked"]), (&42.into(), &56.into()));
    let perplexity = |model: &str| {
        sandbox.json(&format!("eval {model} demo --limit 8 --dtype f32 --quiet"))["perplexity"].as_f64().unwrap()
    };
    let (dense, small) = (perplexity("demo"), perplexity("out"));
    assert_eq!(perplexity("plain"), small);
    assert!(small < 1.3 * dense, "perplexity from {dense} to {small}");
}

/// The options as the published script has them, with its underscores, choose the method; bytes do not depend on threads.
#[test]
fn options_of_the_published_script() {
    let sandbox = Sandbox::empty();
    let rest = "--layers 0..2 --nsamples 4 --seqlen 64 --quiet --threads";
    let mut made = Vec::new();
    for (options, threads) in [
        (
            "--wbits 3 --groupsize 16 --perchannel --qq_scale_bits 3 --qq_zero_bits 3 --qq_groupsize 16 \
            --outlier_threshold=0.2 --permutation_order act_order --percdamp 1e0",
            1,
        ),
        (
            "--method spqr --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --outlier-threshold 0.2 \
            --permutation-order act-order --percdamp 1",
            2,
        ),
    ] {
        let report = sandbox.json(&format!("quantize demo {options} {rest} {threads} --out out{threads}"));
        assert_eq!(report["method"], "spqr");
        made.push(model_bytes(&sandbox.path(&format!("out{threads}"))));
        let plan = json_file(&sandbox.path(&format!("out{threads}/paring.json")))["plan"]["recipe"]["spqr"].clone();
        assert_eq!((&plan["scale_bits"], &plan["zero_bits"], &plan["second_rows"]), (&3.into(), &3.into(), &16.into()));
    }
    assert!(made[0] == made[1], "one thread and two");
    // The layers that were left alone are dense, and the config says so.
    let verified = sandbox.json("verify out1");
    assert_eq!(verified["formats"], serde_json::json!({"dense": 28, "paring-spqr": 14}));
}

/// Sizes that divide nothing, and every kind of statistic: all can be read back.
#[test]
fn odd_sizes_and_statistics() {
    let sandbox = Sandbox::new();
    for (i, (options, words)) in [
        (
            "--wbits 4 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 2 --qq-groupsize 7",
            "scales 3-bit by 7 rows, zeros 2-bit",
        ),
        ("--wbits 4 --groupsize 16 --qq-scale-bits 8 --qq-groupsize 24", "scales 8-bit by 24 rows, zeros F32"),
        ("--wbits 4 --groupsize 16 --qq-zero-bits 1 --qq-groupsize 1000", "scales F32, zeros 1-bit by 1000 rows"),
        (
            "--wbits 4 --groupsize 20 --outlier-threshold 0.2",
            "groups of 20, scales F32, zeros F32, columns in file order",
        ),
        (
            "--wbits 4 --groupsize 5 --permutation-order spearman",
            "groups of 5, scales F32, zeros F32, columns in another",
        ),
        ("--wbits 4 --groupsize 1000 --qq-zero-sym --qq-zero-bits 3", "per row, scales F32, zeros 3-bit by 16 rows"),
        ("--wbits 4 --round-zero", "per row, scales F32, zeros whole"),
        ("--wbits 4 --groupsize 16 --sym --outlier-threshold 0.1", "scales F32, no zeros"),
        (
            "--wbits 2 --groupsize 16 --method spqr",
            "2-bit, groups of 16, scales F32, zeros F32, columns in file order, 0",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        sandbox.ok(&format!("quantize model calib.safetensors {options} --quiet --out out{i}"));
        let text = sandbox.ok(&format!("inspect out{i}")).stdout;
        assert!(text.contains(words), "{options}: {text}");
        assert_eq!(sandbox.json(&format!("verify out{i}"))["formats"]["paring-spqr"], 14, "{options}");
        sandbox.ok(&format!("decompress out{i} --out plain{i}"));
        assert!(
            weights(&sandbox.open(&format!("out{i}"))) == weights(&sandbox.open(&format!("plain{i}"))),
            "{options}"
        );
        assert_eq!(sandbox.perplexity(&format!("out{i}")), sandbox.perplexity(&format!("plain{i}")), "{options}");
    }
    // Any method reads it, and dense files hold the same weights.
    sandbox.ok(&format!("{GOLDEN} {SECOND} --format dense --out dense"));
    sandbox.ok(&format!("{GOLDEN} {SECOND} --out coded"));
    assert!(weights(&sandbox.open("dense")) == weights(&sandbox.open("coded")));
    sandbox.ok("quantize coded calib.safetensors --wbits 4 --groupsize 16 --quiet --out again");
    assert_eq!(sandbox.json("verify again")["formats"]["pack-quantized"], 14);
}

/// The layout of spqr_quant, which stores no shapes and is of another float type, goes through every command too.
#[test]
fn the_layout_of_spqr_quant() {
    let sandbox = Sandbox::empty();
    let report = sandbox.json(&format!("{DEMO} --format spqr --layers 0..1 --out made"));
    let made = sandbox.open("made");
    for layer in report["layers"].as_array().unwrap() {
        let weights = layer["rows"].as_f64().unwrap() * layer["cols"].as_f64().unwrap();
        let stored = stored_bytes(&made, layer["name"].as_str().unwrap());
        assert_eq!(layer["bits"].as_f64().unwrap() * weights / 8.0, stored as f64, "{layer}");
    }
    let verified = sandbox.json("verify made");
    assert_eq!(verified["formats"], serde_json::json!({"dense": 35, "spqr": 7}));
    assert_eq!(verified["digests_checked"], 56);
    let text = sandbox.ok("inspect made --outliers made.svg").stdout;
    assert!(text.contains("spqr 3-bit, groups of 16") && sandbox.path("made.svg").is_file(), "{text}");
    sandbox.ok("decompress made --out plain");
    assert!(weights(&made) == weights(&sandbox.open("plain")));
}

/// One matrix, against the published implementation.
#[test]
fn layers() {
    let sandbox = Sandbox::empty();
    let inputs = Checkpoint::open_file(&golden("algorithms/a48x64.inputs.safetensors")).unwrap();
    write_file(&sandbox.path("a.safetensors"), vec![tensor(&inputs, "weight"), tensor(&inputs, "hessian")]).unwrap();
    let theirs = Checkpoint::open_file(&golden("algorithms/a48x64.spqr.safetensors")).unwrap();
    for (id, options) in [
        (
            "spqr_b4_g16_qs3_qz3_qg16_out0.2_damp1.0_act_order",
            "--wbits 4 --groupsize 16 --qq-scale-bits 3 --qq-zero-bits 3 --outlier-threshold 0.2 --percdamp 1 \
            --permutation-order act_order",
        ),
        ("spqr_b4_damp0.01_out0.2", "--wbits 4 --outlier-threshold 0.2"),
    ] {
        let result = sandbox.json(&format!("layer a.safetensors --method spqr {options} --out made.safetensors"));
        let made = Checkpoint::open_file(&sandbox.path("made.safetensors")).unwrap();
        let expected = |name: &str| format!("{id}/{name}");
        for name in ["codes", "outlier_mask"] {
            assert!(made.read(name).unwrap() == theirs.read(&expected(name)).unwrap(), "{id}: {name}");
        }
        assert_eq!(made.read("group_index").unwrap(), theirs.read(&expected("g_idx")).unwrap(), "{id}: groups");
        for (mine, name) in [("scales", "scales"), ("zeros", "zeros"), ("dense", "weight")] {
            let (mine, name) = (floats(&made, mine), floats(&theirs, &expected(name)));
            let close = mine.iter().zip(&name).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
            assert!(close && mine.len() == name.len(), "{id}");
        }
        let kept = made.read("outlier_mask").unwrap().iter().filter(|&&m| m == 1).count();
        assert_eq!(result["outliers"], kept);
        assert!(kept > 0);
    }
}

#[test]
fn misuse() {
    let sandbox = Sandbox::new();
    let mut wrong = Vec::new();
    for (options, words) in [
        ("--qq-scale-bits 0", &["--qq-scale-bits 0", "1 to 8"][..]),
        ("--qq-zero-bits 9", &["--qq-zero-bits 9", "1 to 8"]),
        ("--qq-scale-bits -3", &["--qq-scale-bits", "-3"]),
        ("--qq_groupsize 0 --qq_scale_bits 3", &["--qq-groupsize 0", "at least 1"]),
        ("--outlier-threshold -0.1", &["--outlier-threshold -0.1", "0 or more"]),
        ("--outlier-threshold nan", &["--outlier-threshold", "NaN"]),
        ("--outlier-threshold much", &["--outlier-threshold", "much"]),
        ("--outlier-threshold 0.2 --outlier-share 0.01", &["--outlier-threshold", "--outlier-share"]),
        ("--permutation-order backwards", &["--permutation-order", "backwards", "act_order"]),
        ("--method gptq --qq-scale-bits 3", &["gptq"]),
        ("--method rtn --outlier-threshold 0.2", &["rtn"]),
        ("--method gptq --permutation-order act_order", &["gptq"]),
        ("--method gptq --perchannel=false", &["--perchannel=false", "gptq"]),
        ("--qq-scale-bits 3 --format pack-quantized", &["--format pack-quantized", "paring-spqr"]),
        ("--outlier-threshold 0.2 --format int-quantized", &["--format int-quantized", "paring-spqr"]),
        ("--format paring-spqr", &["--format paring-spqr", "--method spqr"]),
        ("--outlier-threshold 0.2 --mse", &["--scales", "spqr"]),
        ("--outlier-threshold 0.2 --scales mse --mse=false", &["--scales", "--mse=false", "disagree"]),
        ("--outlier-threshold 0.2 --actorder static", &["--actorder", "--permutation-order"]),
        ("--outlier-threshold 0.2 --perchannel=false", &["--perchannel=false", "--simplified-outliers"]),
    ] {
        wrong.extend(sandbox.refused(&format!("{GOLDEN} {options} --out out"), 2, words).err());
    }
    let rows = "quantize model calib.safetensors --wbits 4 --qq-scale-bits 3 --quiet --out out";
    wrong.extend(sandbox.refused(rows, 2, &["--qq-scale-bits", "--groupsize"]).err());
    wrong.extend(sandbox.refused("inspect model --module model.layers.0", 2, &["--outliers"]).err());
    wrong.extend(sandbox.refused("inspect model --outliers .", 2, &["--outliers .", "folder"]).err());
    wrong.extend(sandbox.refused("verify", 2, &["MODEL"]).err());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(!sandbox.path("out").exists(), "an output folder was made");
}

/// A picture of the outliers, of the matrix that has the most or of the one that is named.
#[test]
fn pictures() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{GOLDEN} --outlier-threshold 0.1 --layers 0..1 --true-sequential=false --out made"));
    let summary = sandbox.json("inspect made --outliers most.svg");
    let tensors = summary["tensors"].as_array().unwrap();
    let most = tensors.iter().max_by_key(|t| t["outliers"].as_u64()).unwrap();
    let svg = fs::read_to_string(sandbox.path("most.svg")).unwrap();
    let count = format!("{} × {} weights, {} outliers", most["shape"][0], most["shape"][1], most["outliers"]);
    assert!(svg.starts_with("<svg ") && svg.contains(&count), "{count}: {svg}");
    assert!(!svg.contains("<script") && svg.matches("http").count() == 1, "{svg}");
    let down = "model.layers.0.mlp.down_proj";
    let text = sandbox.ok(&format!("inspect made --outliers down.svg --module {down}")).stdout;
    assert!(text.contains(&format!("outliers of {down} drawn in down.svg")), "{text}");
    assert!(
        fs::read_to_string(sandbox.path("down.svg")).unwrap().contains(&format!("<title>Outliers of {down}</title>"))
    );
    let mut wrong = Vec::new();
    for (arguments, words) in [
        (
            "inspect made --outliers x.svg --module model.layers.0",
            &["error: no matrix model.layers.0; names look like model.layers.0."][..],
        ),
        ("inspect model --outliers x.svg", &["model: no matrix in it keeps outliers"]),
        (
            "inspect made --outliers x.svg --module model.layers.1.mlp.down_proj",
            &["layers.1.mlp.down_proj", "no outliers"],
        ),
        ("inspect made --outliers x.svg --module down_proj", &["down_proj"]),
        ("inspect made --outliers gone/x.svg", &["gone/x.svg", "No such file"]),
    ] {
        wrong.extend(sandbox.refuses(&sandbox.run(arguments), 1, words).err().map(|e| format!("{arguments}: {e}")));
    }
    assert!(!sandbox.path("x.svg").exists());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
