//! Masks as files: exported from pruned models of any layout, and given to runs in place of masks that they would find.

mod support;

use std::collections::BTreeMap;
use std::fs;

use paring_format::masks::Masks;
use paring_format::writer::{NamedTensor, write_file};
use paring_format::{Checkpoint, Dtype};
use serde_json::json;
use support::*;

const MAGNITUDE: &str = "sparsify model --method magnitude --quiet";
const SPARSEGPT: &str = "sparsify model calib.safetensors --quiet";

/// Weights by module, 0 where a mask says so, and the marks of those that stay.
fn masked(dense: &BTreeMap<String, Vec<f32>>, masks: &Masks) -> BTreeMap<String, Vec<f32>> {
    let apply = |(name, weight): (&String, &Vec<f32>)| {
        let mut weight = weight.clone();
        masks.of(name).unwrap().apply(&mut weight);
        (name.clone(), weight)
    };
    dense.iter().map(apply).collect()
}

/// Errors at the first weight whose bits differ, but for the sign of a zero.
fn assert_same(got: &BTreeMap<String, Vec<f32>>, want: &BTreeMap<String, Vec<f32>>, what: &str) {
    assert!(got.keys().eq(want.keys()), "{what}");
    for (name, want) in want {
        let differs = |(a, b): (&f32, &f32)| (a + 0.0).to_bits() != (b + 0.0).to_bits();
        assert_eq!(got[name].iter().zip(want).position(differs), None, "{what}: {name}");
    }
}

fn assert_same_zeros(a: &Checkpoint, b: &Checkpoint, what: &str) {
    let zeros = |checkpoint: &Checkpoint| {
        let marks = |weight: Vec<f32>| weight.into_iter().map(|w| w == 0.0).collect::<Vec<bool>>();
        weights(checkpoint).into_iter().map(|(name, weight)| (name, marks(weight))).collect::<BTreeMap<_, _>>()
    };
    assert!(zeros(a) == zeros(b), "{what}");
}

fn open(sandbox: &Sandbox, file: &str) -> Masks {
    Masks::open(&sandbox.path(file)).unwrap()
}

#[test]
fn masks_that_were_exported_are_applied_exactly() {
    let sandbox = Sandbox::new();
    let dense = weights(&sandbox.open("model"));
    for (i, (removal, format, pattern)) in [
        ("--pattern 2:4", "dense", json!("2:4")),
        ("--pattern 2:4", "sparse-24-bitmask", json!("2:4")),
        ("--sparsity 0.6", "sparse-bitmask", json!(null)),
    ]
    .into_iter()
    .enumerate()
    {
        let [pruned, file, again] = ["pruned", "masks", "again"].map(|name| format!("{name}{i}"));
        sandbox.ok(&format!("{MAGNITUDE} {removal} --format {format} --out {pruned}"));
        let made = sandbox.json(&format!("export-masks {pruned} --out {file} --quiet"));
        assert_eq!((&made["pattern"], &made["dense"]), (&pattern, &json!(0)), "{made}");
        assert_eq!(made["modules"].as_array().unwrap().len(), 14);
        assert_eq!(made["modules"][0]["pattern"], pattern);
        assert_eq!(made["bytes"], fs::metadata(sandbox.path(&file)).unwrap().len());
        let masks = open(&sandbox, &file);
        assert_eq!(made["digest"], format!("{:016x}", masks.digest()));
        // What they say is what the model has, and applying them to the dense one makes it again.
        let want = masked(&dense, &masks);
        assert_same(&weights(&sandbox.open(&pruned)), &want, removal);
        let run = sandbox.json(&format!("{MAGNITUDE} --masks {file} --out {again}"));
        assert_same(&weights(&sandbox.open(&again)), &want, removal);
        let (digest, given) = (&made["digest"], &run["plan"]["masks"]);
        assert_eq!((&given["file"], &given["digest"]), (&json!(file), digest), "{given}");
        let notes: Vec<&str> = run["notes"].as_array().unwrap().iter().filter_map(|note| note.as_str()).collect();
        let note = format!("masks of 14 linears from {file} (digest {}): ", digest.as_str().unwrap());
        assert!(notes.iter().any(|found| found.starts_with(&note)), "{notes:?}");
        // Wanda would find masks by its data, and does without.
        sandbox.ok(&format!("sparsify model --method wanda --quiet --masks {file} --out wanda{i}"));
        assert_same(&weights(&sandbox.open(&format!("wanda{i}"))), &want, removal);
    }
    let card = fs::read_to_string(sandbox.path("again0/README.md")).unwrap();
    assert!(card.contains("magnitude pruning under given masks"), "{card}");
}

#[test]
fn sweeps_and_refits_keep_the_masks_that_are_given() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{SPARSEGPT} --pattern 2:4 --out pruned"));
    sandbox.ok("export-masks pruned --out masks");
    let (pruned, masks) = (sandbox.open("pruned"), open(&sandbox, "masks"));
    let plain = masked(&weights(&sandbox.open("model")), &masks);
    for (i, options) in ["", "--published", "--refit=false --dense-stream none", "--pattern 2:4 --reconstruct-steps 2"]
        .into_iter()
        .enumerate()
    {
        let out = format!("given{i}");
        let run = sandbox.json(&format!("{SPARSEGPT} --masks masks {options} --out {out}"));
        let made = sandbox.open(&out);
        assert_same_zeros(&made, &pruned, options);
        // Errors were moved.
        assert!(weights(&made) != plain, "{options}");
        let layers = run["layers"].as_array().unwrap();
        let lost = |key: &str| layers.iter().map(|layer| layer[key].as_f64().unwrap()).sum::<f64>();
        assert!(lost("error") < lost("baseline_error"), "{options}: {} {}", lost("error"), lost("baseline_error"));
    }
    // The published sweep, told what it would find, does what it would do.
    sandbox.ok(&format!("{SPARSEGPT} --pattern 2:4 --published --out found"));
    sandbox.ok("export-masks found --out found-masks");
    sandbox.ok(&format!("{SPARSEGPT} --masks found-masks --published --out told"));
    assert_same(&weights(&sandbox.open("told")), &weights(&sandbox.open("found")), "published");
    // Magnitude's weights fitted under the masks, by least squares.
    sandbox.ok("sparsify model calib.safetensors --quiet --method magnitude --refit --masks masks --out fitted");
    assert_same_zeros(&sandbox.open("fitted"), &pruned, "refit");
    assert!(weights(&sandbox.open("fitted")) != plain);
}

#[test]
fn grids_leave_what_the_masks_remove_at_zero() {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{MAGNITUDE} --pattern 2:4 --out pruned"));
    sandbox.ok("export-masks pruned --out masks --quiet");
    let masks = open(&sandbox, "masks");
    let quantize = "quantize model calib.safetensors --quiet";
    for (i, (command, options)) in [
        (SPARSEGPT, "--wbits 4 --sym --groupsize 16"),
        (SPARSEGPT, "--wbits 8 --sym --format sparse-24-bitmask --published"),
        (quantize, "--wbits 4 --groupsize 16"),
        (quantize, "--wbits 3 --sym --published"),
        (quantize, "--method rtn --wbits 4 --sym"),
        (quantize, "--target-bits 4.5 --method gptq"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{i}");
        sandbox.ok(&format!("{command} {options} --masks masks --out {out}"));
        for (name, weight) in weights(&sandbox.open(&out)) {
            let bits = masks.of(&name).unwrap();
            let lost = weight.iter().zip(bits.iter()).filter(|(w, kept)| !kept && **w != 0.0).count();
            let stay = weight.iter().filter(|w| **w != 0.0).count();
            assert_eq!(lost, 0, "{options}: {name}");
            // Rounding makes zeros of its own, but not of most weights.
            assert!(2 * stay > bits.count(), "{options}: {name} has {stay} of {}", bits.count());
        }
        // Zeros of rounding too, so that the pattern is one that holds at most.
        sandbox.ok(&format!("export-masks {out} --out masks{i} --quiet"));
        sandbox.ok(&format!("{MAGNITUDE} --masks masks{i} --pattern 2:4 --out again{i}"));
    }
    // The errors of masked codes are moved: less is lost than by rounding what the masks leave.
    let lost = |out: &str| {
        let report = json_file(&sandbox.path(out).join("report.json"));
        let layers = report["layers"].as_array().unwrap().clone();
        let sum = |key: &str| layers.iter().filter_map(|layer| layer[key].as_f64()).sum::<f64>();
        (sum("error"), sum("baseline_error"))
    };
    for out in ["out0", "out2"] {
        let (error, baseline) = lost(out);
        assert!(error > 0.0 && error < baseline, "{out}: {error} {baseline}");
    }
}

#[test]
fn masks_alone_leave_weights_as_they_are() {
    let sandbox = Sandbox::new();
    let dense = weights(&sandbox.open("model"));
    // In the first block all statistics are those of the dense model, as in the plain run.
    let run = "--layers 0..1 --true-sequential=false --dense-stream none";
    for (i, options) in
        ["--pattern 2:4", "--pattern 2:4 --published", "--sparsity 0.6 --mask sparsegpt", "--pattern 2:4 --refit=false"]
            .into_iter()
            .enumerate()
    {
        let [plain, only, file] = ["plain", "only", "masks"].map(|name| format!("{name}{i}"));
        sandbox.ok(&format!("{SPARSEGPT} {options} {run} --out {plain}"));
        let made = sandbox.json(&format!("{SPARSEGPT} {options} {run} --mask-only --out {only}"));
        assert_same_zeros(&sandbox.open(&plain), &sandbox.open(&only), options);
        let exported = sandbox.json(&format!("export-masks {plain} --out {file} --quiet"));
        let masks = open(&sandbox, &file);
        let first: BTreeMap<_, _> = dense.clone().into_iter().filter(|(name, _)| name.contains(".0.")).collect();
        let mut got = weights(&sandbox.open(&only));
        got.retain(|name, _| name.contains(".0."));
        assert_eq!((exported["dense"].as_u64(), got.len()), (Some(7), 7));
        assert_same(&got, &masked(&first, &masks), options);
        assert_eq!(made["plan"]["recipe"]["mask_only"], true);
        // Their errors are those of the weights that are stored: larger than the plain run's.
        let report = json_file(&sandbox.path(&plain).join("report.json"));
        for (only, plain) in made["layers"].as_array().unwrap().iter().zip(report["layers"].as_array().unwrap()) {
            let [only, plain] = [only, plain].map(|layer| layer["error"].as_f64().unwrap());
            assert!(only > plain, "{options}: {only} {plain}");
        }
    }
    // Of a whole model with the defaults, too.
    sandbox.ok(&format!("{SPARSEGPT} --pattern 2:4 --mask-only --out whole"));
    sandbox.ok("export-masks whole --out whole.safetensors");
    assert_same(&weights(&sandbox.open("whole")), &masked(&dense, &open(&sandbox, "whole.safetensors")), "whole");
}

/// Masks of the model under the names and in the types of other programs.
fn plain_masks(model: &Checkpoint, end: &str, keep: &dyn Fn(&str, usize) -> u8) -> Vec<NamedTensor> {
    let mask = |module: String| {
        let shape = model.info(&format!("{module}.weight")).unwrap().shape.clone();
        let bytes = (0..shape[0] * shape[1]).map(|i| keep(&module, i)).collect();
        NamedTensor { name: format!("{module}{end}"), dtype: Dtype::U8, shape, bytes }
    };
    linears(model).into_iter().map(mask).collect()
}

#[test]
fn masks_that_do_not_fit_are_refused_before_the_work() {
    let sandbox = Sandbox::new();
    let model = sandbox.open("model");
    let half = |_: &str, i: usize| u8::from(i % 4 < 2);
    let good = plain_masks(&model, "._weight_mask", &half);
    write_file(&sandbox.path("good"), good.clone()).unwrap();
    sandbox.ok(&format!("{MAGNITUDE} --masks good --pattern 2:4 --out good-out"));
    let q = "model.layers.0.self_attn.q_proj";
    let renamed = |to: &str| {
        let change = |t: &NamedTensor| NamedTensor { name: t.name.replace(q, to), ..t.clone() };
        good.iter().map(change).collect::<Vec<_>>()
    };
    let without: Vec<NamedTensor> = good.iter().filter(|t| !t.name.starts_with(q)).cloned().collect();
    let wide: Vec<NamedTensor> = good
        .iter()
        .map(|t| match t.name.starts_with(q) {
            true => NamedTensor { shape: vec![t.shape[0] / 2, t.shape[1] * 2], ..t.clone() },
            false => t.clone(),
        })
        .collect();
    let q_is = |keep: &'static dyn Fn(usize) -> u8| {
        plain_masks(&model, ".weight_mask", &move |name: &str, i| if name == q { keep(i) } else { half(name, i) })
    };
    let twos = q_is(&|i| u8::from(i % 4 < 2) + u8::from(i == 5));
    let cases: [(&str, Vec<NamedTensor>, &str, &[&str]); 7] = [
        ("missing", without, "", &["--masks missing: no mask of model.layers.0.self_attn.q_proj", "--ignore"]),
        ("unknown", renamed("model.layers.0.self_attn.q_prog"), "", &["q_prog in its blocks", "did you mean", q]),
        ("shape", wide, "", &["q_proj is [", "and its mask [", "give masks of this model"]),
        ("nothing", q_is(&|_| 0), "", &["--masks nothing: the mask of", "q_proj keeps no weight", "--ignore"]),
        ("three", q_is(&|i| u8::from(i % 4 < 3)), "--pattern 2:4", &["q_proj row 0: 3 of 4 kept, expected 2"]),
        ("other", q_is(&|i| u8::from(i % 4 < 2)), "--pattern 1:4", &["row 0: 2 of 4 kept, expected 1"]),
        (
            "values",
            twos,
            "",
            &["values: the mask of model.layers.0.self_attn.q_proj: 2 in row 0, column 5, expected 0 or 1"],
        ),
    ];
    for (file, tensors, options, words) in cases {
        write_file(&sandbox.path(file), tensors).unwrap();
        for run in [MAGNITUDE, "sparsify model --method magnitude --dry-run --quiet"] {
            sandbox.refused(&format!("{run} --masks {file} {options} --out out"), 1, words).unwrap();
        }
    }
    // One that is left out needs none, and rows without a weight are a note.
    sandbox.ok(&format!("{MAGNITUDE} --masks missing --ignore {q} --out left"));
    write_file(&sandbox.path("rows"), q_is(&|i| u8::from(i / 64 % 4 != 1))).unwrap();
    let ran = sandbox.ok("sparsify model --method magnitude --masks rows --dry-run");
    assert!(ran.stderr.contains("rows keep no weight, such as model.layers.0.self_attn.q_proj row "), "{}", ran.stderr);
    fs::write(sandbox.path("cut"), &fs::read(sandbox.path("good")).unwrap()[..900]).unwrap();
    sandbox.refused(&format!("{MAGNITUDE} --masks cut --out out"), 1, &["cut: ", "is it cut off?"]).unwrap();
    sandbox.refused(&format!("{MAGNITUDE} --masks none --out out"), 1, &["none: No such file"]).unwrap();
}

#[test]
fn choices_that_masks_do_not_go_with() {
    let sandbox = Sandbox::new();
    let model = sandbox.open("model");
    write_file(&sandbox.path("m"), plain_masks(&model, ".mask", &|_, i| u8::from(i % 4 < 2))).unwrap();
    sandbox.write("group.toml", "[[override]]\ntargets = [\"re:.*down_proj\"]\npattern = \"2:4\"\n");
    for (run, words) in [
        (
            format!("{SPARSEGPT} --masks m --sparsity 0.5"),
            ["--masks says which weights go, and so does --sparsity", "leave"],
        ),
        (format!("{SPARSEGPT} --masks m --sparsity 0.5 --allocate owl"), ["and so does --allocate", "leave"]),
        (format!("{SPARSEGPT} --masks m --mask admm"), ["--mask admm: no mask is searched where --masks", "leave"]),
        (format!("{SPARSEGPT} --masks m --mask-only"), ["--mask-only: --masks gives the masks", "--method magnitude"]),
        (format!("{SPARSEGPT} --masks m --config group.toml"), ["group.toml", "and so does --pattern"]),
        (
            format!("{MAGNITUDE} --pattern 2:4 --mask-only"),
            ["magnitude leaves no weight with another value", "sparsegpt"],
        ),
        (
            format!("{SPARSEGPT} --pattern 2:4 --mask-only --wbits 4"),
            ["--mask-only: weights that are rounded", "leave"],
        ),
        (
            format!("{SPARSEGPT} --pattern 2:4 --mask-only --dense-stream 1"),
            ["--mask-only keeps weights", "--dense-stream"],
        ),
        (
            format!("{SPARSEGPT} --pattern 2:4 --mask-only --reconstruct"),
            ["--mask-only keeps weights", "--reconstruct"],
        ),
        (
            "quantize model calib.safetensors --wbits 3 --outlier-threshold 0.2 --masks m".to_string(),
            ["--masks is for methods without outliers", "--method gptq"],
        ),
    ] {
        sandbox.refused(&format!("{run} --out out"), 2, &words).unwrap();
    }
}

#[test]
fn exports_replace_only_their_own() {
    let sandbox = Sandbox::new();
    sandbox
        .refused("export-masks model --out masks --quiet", 1, &["no linear of its blocks has a zero", "prune"])
        .unwrap();
    assert!(!sandbox.path("masks").exists());
    sandbox.ok(&format!("{MAGNITUDE} --pattern 2:4 --ignore re:.*down_proj --out pruned"));
    let ran = sandbox.ok("export-masks pruned --out masks");
    assert!(
        ran.stdout.contains("masks of 12 linears: 50.00 % of their weights go, all 2:4; 2 linears"),
        "{}",
        ran.stdout
    );
    sandbox.ok("export-masks pruned --out masks --quiet");
    sandbox.write("notes.txt", "mine");
    let refused = ["notes.txt: exists, and this command did not write it", "--overwrite"];
    sandbox.refused("export-masks pruned --out notes.txt --quiet", 1, &refused).unwrap();
    let weights = "export-masks pruned --out pruned/model.safetensors --overwrite --quiet";
    sandbox.refused(weights, 1, &["model.safetensors: is read as"]).unwrap();
    sandbox.ok("export-masks pruned --out notes.txt --overwrite --quiet");
    assert_eq!(fs::read(sandbox.path("notes.txt")).unwrap(), fs::read(sandbox.path("masks")).unwrap());
    // The masks of a run are not what it may write.
    let into = format!("{MAGNITUDE} --masks masks --ignore re:.*down_proj --out masks");
    sandbox.refused(&into, 1, &["masks: exists and is not a folder"]).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_was_killed_continues_under_the_same_masks() {
    use support::stalling::{Stalling, told};
    let sandbox = Sandbox::empty();
    sandbox.ok("sparsify demo --method magnitude --pattern 2:4 --quiet --out pruned");
    sandbox.ok("export-masks pruned --out masks --quiet");
    let run = "sparsify demo demo --masks masks --nsamples 8 --seqlen 64 --resumable --quiet";
    let length = told(&sandbox, &format!("{run} --out whole")).len();
    let mut child = Stalling::begin(&sandbox, &format!("{run} --out out"), length / 2);
    assert!(child.wait(), "the run was over too soon");
    assert_eq!(child.kill().0.code(), None);
    assert!(sandbox.path("out/journal.jsonl").exists() && !sandbox.holds_model("out"));
    // Other masks under the same name, no masks, and the same ones under another name.
    let good = fs::read(sandbox.path("masks")).unwrap();
    sandbox.ok("sparsify demo --method magnitude --sparsity 0.5 --quiet --out other");
    sandbox.ok("export-masks other --out masks --quiet");
    let changed = ["out: cannot be resumed: the masks in masks changed", "--overwrite"];
    sandbox.refused(&format!("{run} --out out --resume"), 1, &changed).unwrap();
    let without = run.replace("--masks masks", "--pattern 2:4");
    let unset = ["--masks was masks at the start, and is unset now"];
    sandbox.refused(&format!("{without} --out out --resume"), 1, &unset).unwrap();
    sandbox.write("same", &good);
    sandbox.ok(&format!("{} --out out --resume", run.replace("--masks masks", "--masks same")));
    assert!(
        model_bytes(&sandbox.path("out")) == model_bytes(&sandbox.path("whole")),
        "other bytes than those of an unbroken run"
    );
}
