//! Defaults where options are left out, and the ways in which options may be typed.

mod support;

use paring_format::{Checkpoint, Strategy};
use serde_json::Value;

use support::*;

/// Bits, group (0: whole rows), symmetry and order of the first scheme of an output.
fn weights(checkpoint: &Checkpoint) -> (u32, usize, bool, Option<String>) {
    let config = checkpoint.quant_config().unwrap().unwrap();
    let weights = config.groups[0].1.weights.clone().unwrap();
    let group = if let Strategy::Group(size) = weights.strategy { size } else { 0 };
    (weights.element.bits(), group, weights.symmetric, weights.actorder)
}

const FEW: &str = "--nsamples 2 --seqlen 32 --layers 0..1";

#[test]
fn a_run_without_options_is_the_one_that_programs_serve_best() {
    let sandbox = Sandbox::empty();
    let said = sandbox.ok(&format!("quantize demo {FEW}")).stderr;
    assert!(said.contains("using --scheme W4A16 --actorder static in groups of 128"), "{said}");
    assert_eq!(weights(&sandbox.open("demo-gptq-w4g128")), (4, 128, true, Some("static".into())));
    let said = sandbox.ok(&format!("quantize demo --groupsize 64 --actorder none {FEW} --out own")).stderr;
    assert!(said.contains("using --scheme W4A16 in groups of 64"), "{said}");
    assert_eq!(weights(&sandbox.open("own")), (4, 64, true, None));
    sandbox.ok("quantize demo --method rtn --layers 0..1 --quiet --out rtn");
    assert_eq!(weights(&sandbox.open("rtn")), (4, 128, true, None));
    // Bits alone have the grids of the published script, zero points and a scale per row; its order of visit is asked for.
    for rows in ["", "--groupsize -1", "--perchannel"] {
        for (published, order) in [("", Some("static".to_string())), ("--published", None)] {
            sandbox.ok(&format!("quantize demo --wbits 4 {rows} {published} {FEW} --quiet --overwrite --out rows"));
            assert_eq!(weights(&sandbox.open("rows")), (4, 0, false, order), "{rows} {published}");
        }
    }
    sandbox.ok(&format!("quantize demo --wbits 8 {FEW} --quiet --out eight"));
    assert_eq!(weights(&sandbox.open("eight")).1, 0);
}

/// Inputs of the golden model are 32 wide, those of `down_proj` 48.
#[test]
fn groups_of_a_scheme_fit_the_model() {
    let sandbox = Sandbox::new();
    let all = "quantize model calib.safetensors --scheme W4A16 --nsamples 4";
    let words =
        ["W4A16 uses groups of 128 columns, and 128 does not divide 32", "and 13 more", "Add --groupsize 16, or"];
    sandbox.refused(&format!("{all} --quiet --out out"), 1, &words).unwrap();
    let run = format!("{all} --ignore re:.*down_proj");
    let strict = ["and 11 more", "Add --groupsize 32: vLLM and transformers run that too."];
    sandbox.refused(&format!("{run} --quiet --strict --out out"), 1, &strict).unwrap();
    let ran = sandbox.ok(&format!("{run} --out out"));
    assert!(
        ran.stderr.contains("note: W4A16 in groups of 32: 128 does not divide 32 (model.layers.0."),
        "{}",
        ran.stderr
    );
    assert_eq!(weights(&sandbox.open("out")).1, 32);
    let plan = json_file(&sandbox.path("out/report.json"))["plan"].clone();
    assert_eq!(plan["recipe"]["rounding"]["weights"]["group_size"], 32);
    // What was chosen is what a resumed run is compared with.
    sandbox.ok(&format!("{run} --groupsize 32 --resume --out out"));
    let other = sandbox.run(&format!("{run} --groupsize 16 --quiet --resume --out out"));
    assert!(other.code == Some(1) && other.stderr.contains("--groupsize was 32 at the start"), "{}", other.stderr);
    sandbox.ok(&format!("{run} --quiet"));
    assert!(sandbox.holds_model("model-gptq-w4g32"));
    sandbox.write("scheme.toml", "scheme = 'W4A16'\nignore = ['re:.*down_proj']\n");
    sandbox.ok("--quiet quantize model calib.safetensors --config scheme.toml --out recipe");
    assert_eq!(weights(&sandbox.open("recipe")).1, 32);
    sandbox.write("own.toml", "scheme = 'W4A16'\ngroupsize = 128\nignore = ['re:.*down_proj']\n");
    std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    let own = ["--groupsize 128 does not divide 32 columns", "Use --groupsize 32"];
    sandbox.refused("quantize model calib.safetensors --quiet --config own.toml --out own", 1, &own).unwrap();
}

#[test]
fn options_are_typed_as_people_type_them() {
    let sandbox = Sandbox::new();
    sandbox.ok("prune model --method magnitude --pattern 2:4 --quiet --out pruned");
    sandbox.ok("-q sparsify model --method magnitude --pattern 2:4 -o sparse");
    assert!(model_bytes(&sandbox.path("pruned")) == model_bytes(&sandbox.path("sparse")));
    let rows: Value = serde_json::from_str(sandbox.ok("--json schemes w4a16").stdout.lines().last().unwrap()).unwrap();
    let names: Vec<&str> =
        rows["schemes"].as_array().unwrap().iter().map(|row| row["scheme"].as_str().unwrap()).collect();
    assert_eq!(names, ["W4A16", "W4A16_ASYM"]);
    sandbox.refused("schemes W9", 2, &["W9", "`paring schemes` lists all"]).unwrap();
    sandbox.ok("quantize model --method rtn --wbits 4 --format pack_quantized --quiet --out packed");
    sandbox.ok("convert packed --format int_quantized --quiet -o bytes");
    for command in ["eval", "quantize", "prune", "tokens"] {
        sandbox.refused(command, 2, &["MODEL is missing", "or demo"]).unwrap();
    }
    sandbox.refused("-q eval model eval.safetensors --verbose", 2, &["--quiet", "--verbose"]).unwrap();
    sandbox.refused("quantize nowhere --wbits 4", 1, &["nowhere"]).unwrap();
    let version = sandbox.ok("-V").stdout;
    assert!(
        version.starts_with("paring ") && version.contains(" (c") && version.trim_end().ends_with(')'),
        "{version}"
    );
}

#[test]
fn a_run_says_first_what_it_takes() {
    let sandbox = Sandbox::new();
    let run = "quantize model calib.safetensors --wbits 4";
    let said = sandbox.ok(&format!("{run} --out out")).stderr;
    let line = said.lines().find(|line| line.contains("this takes ")).unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains(" MiB of memory and ") && line.contains(" of disk") && !line.contains("--nsamples"),
        "{line}"
    );
    assert!(!sandbox.ok(&format!("{run} --quiet --out quiet")).stderr.contains("takes"));
    // What is done already takes no time.
    assert!(!sandbox.ok(&format!("{run} --resume --out out")).stderr.contains("this takes"));
}

/// The share of the shift in the plan of an output.
fn stream(sandbox: &Sandbox, out: &str) -> Value {
    json_file(&sandbox.path(&format!("{out}/report.json")))["plan"]["dense_stream"].clone()
}

#[test]
fn the_dense_model_runs_beside_where_errors_are_moved() {
    let sandbox = Sandbox::empty();
    let refused = ["--dense-stream", "expected a share up to 1, none, or qronos"];
    sandbox.refused("quantize demo --wbits 3 --dense-stream 2", 2, &refused).unwrap();
    for (run, share) in [
        ("quantize demo --wbits 3 --groupsize 32", Value::from(0.5)),
        ("quantize demo --wbits 3 --groupsize 32 --dense-stream 0.25", Value::from(0.25)),
        ("quantize demo --wbits 3 --groupsize 32 --dense-stream qronos", Value::from("qronos")),
        ("quantize demo --wbits 3 --groupsize 32 --dense-stream none", Value::Null),
        ("quantize demo --wbits 3 --groupsize 32 --published", Value::Null),
        ("quantize demo --wbits 3 --groupsize 32 --published --dense-stream 1", Value::from(1.0)),
        ("quantize demo --wbits 3 --groupsize 32 --offload activations", Value::from(0.5)),
        ("prune demo --pattern 2:4", Value::from(0.5)),
        ("prune demo --method wanda --pattern 2:4", Value::Null),
        ("prune demo --method wanda --pattern 2:4 --dense-stream 0.5", Value::from(0.5)),
    ] {
        sandbox.ok(&format!("{run} {FEW} --quiet --overwrite --out out"));
        assert_eq!(stream(&sandbox, "out"), share, "{run}");
    }
}

/// Nothing has drifted before the first linears, and everything after them has.
#[test]
fn what_comes_first_is_not_shifted() {
    let sandbox = Sandbox::empty();
    for share in ["0.5", "none"] {
        sandbox.ok(&format!(
            "quantize demo --wbits 3 --nsamples 8 --seqlen 64 --quiet --dense-stream {share} --out {share}"
        ));
    }
    let changes = |out: &str| {
        let report = json_file(&sandbox.path(&format!("{out}/report.json")));
        let layers = report["layers"].as_array().unwrap().iter();
        let shifts = layers.map(|layer| {
            let steps = layer["changes"].as_array().unwrap();
            steps.iter().find(|step| step["step"] == "shift").map(|step| step["before"].as_f64().unwrap())
        });
        shifts.collect::<Vec<Option<f64>>>()
    };
    let shifted = changes("0.5");
    assert!(shifted[..3].iter().all(|share| *share == Some(0.0)), "{shifted:?}");
    assert!(shifted[3..].iter().all(|share| share.unwrap() > 1e-6 && share.unwrap() < 1.0), "{shifted:?}");
    assert!(changes("none").iter().all(Option::is_none));
    let first = |out: &str| {
        let tensors = sandbox.open(out);
        let names = ["q_proj", "k_proj", "v_proj"].map(|name| format!("model.layers.0.self_attn.{name}.weight_packed"));
        names.map(|name| tensors.read(&name).unwrap())
    };
    assert_eq!(first("0.5"), first("none"));
}
