//! The published drivers on tiny models, and this program with the same settings: weights and perplexity.

mod support;

use serde_json::Value;

use support::*;

/// Folders of `tests/golden/models` with the drivers' results, how many runs each holds and how many weights each run.
const MODELS: [(&str, usize, usize); 6] = [
    ("llama", 8, 15_360),
    ("opt", 3, 16_384),
    ("opt_post_norm", 2, 16_384),
    ("falcon_multi_query", 2, 21_504),
    ("falcon_new_decoder", 1, 22_528),
    ("falcon_alibi", 1, 24_576),
];

/// Translates the driver's settings into options.
fn options(run: &Value) -> String {
    let settings = run["settings"].as_object().unwrap();
    let mut options = String::new();
    for (key, value) in settings {
        options += &match key.as_str() {
            "wbits" => format!(" --wbits {value}"),
            "groupsize" => format!(" --groupsize {value}"),
            "sparsity" => format!(" --sparsity {value}"),
            // The drivers count what goes; so many of them stay.
            "prunen" => {
                let of = settings["prunem"].as_u64().unwrap();
                format!(" --pattern {}:{of}", of - value.as_u64().unwrap())
            }
            "prunem" => String::new(),
            "act_order" => " --actorder group".to_string(),
            key if key.starts_with("qq_") || ["outlier_threshold", "percdamp"].contains(&key) => {
                format!(" --{key} {value}")
            }
            "permutation_order" => format!(" --{key} {}", value.as_str().unwrap()),
            "true_sequential" => " --true-sequential".to_string(),
            other => panic!("a setting {other}"),
        };
    }
    if settings.contains_key("wbits") { options + " --format dense" } else { options }
}

/// Compares one run; `None` when it is the driver's.
fn difference(sandbox: &Sandbox, model: &str, weights: usize, run: &Value, seqlen: u64) -> Option<String> {
    let (id, method) = (run["id"].as_str().unwrap(), run["method"].as_str().unwrap());
    let command = if ["gptq", "spqr"].contains(&method) { "quantize" } else { "sparsify" };
    let options = options(run);
    sandbox.ok(&format!(
        "{command} model calib.safetensors --method {method} --published --nsamples 8 --seqlen {seqlen} --quiet --out {id}{options}"
    ));
    let expected = paring_format::Checkpoint::open_file(&golden(&format!("models/{model}/{id}.safetensors"))).unwrap();
    let got = sandbox.open(id);
    let (mut elements, mut off) = (0, 0);
    for name in expected.names() {
        let (want, have) = (floats(&expected, name), floats(&got, name));
        assert_eq!(want.len(), have.len(), "{id}: {name}");
        elements += want.len();
        // Written so that a NaN counts as different.
        off += want
            .iter()
            .zip(&have)
            .filter(|(a, b)| (*a - *b).abs().partial_cmp(&1e-5).is_none_or(|o| o.is_gt()))
            .count();
    }
    if elements != weights || off as f64 > 0.002 * elements as f64 {
        return Some(format!("{id}: {off} of {elements} weights differ"));
    }
    if let Some(bits) = run["average_bits"].as_f64() {
        let report = json_file(&sandbox.path(&format!("{id}/report.json")));
        let published = report["published_bits"].as_f64().unwrap();
        if format!("{published:.2}") != format!("{bits:.2}") {
            return Some(format!("{id}: {published} bits by the published formula, expected {bits}"));
        }
    }
    let (want, have) = (run["perplexity"].as_f64().unwrap(), sandbox.perplexity(id));
    ((have / want - 1.0).abs() > 1e-4).then(|| format!("{id}: perplexity {have}, expected {want}"))
}

#[test]
fn the_published_drivers() {
    let mut different = Vec::new();
    for (model, count, weights) in MODELS {
        let index = json_file(&golden(&format!("models/{model}/runs.json")));
        let sandbox = Sandbox::with(model);
        let (want, have) = (index["dense_perplexity"].as_f64().unwrap(), sandbox.perplexity("model"));
        assert!((have / want - 1.0).abs() < 1e-4, "{model}: perplexity {have}, expected {want}");
        let runs = index["runs"].as_array().unwrap();
        assert_eq!(runs.len(), count, "{model}");
        let seqlen = index["seqlen"].as_u64().unwrap();
        let compared = runs.iter().filter_map(|run| difference(&sandbox, model, weights, run, seqlen));
        different.extend(compared.map(|text| format!("{model}: {text}")));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Passes that hand on what they computed, and passes that begin anew at each fan, give the same bytes. Offloaded activations
/// are not handed on.
#[test]
fn passes_that_hand_on_what_they_computed_change_nothing() {
    for (model, ..) in MODELS {
        let sandbox = Sandbox::with(model);
        for (name, run) in [
            ("pruned", "sparsify model calib.safetensors --pattern 2:4"),
            ("rounded", "quantize model calib.safetensors --wbits 4"),
        ] {
            let all = format!("{run} --nsamples 8 --seqlen 32 --true-sequential --quiet");
            sandbox.ok(&format!("{all} --out {name}"));
            sandbox.ok(&format!("{all} --offload activations --out {name}-anew"));
            let (held, anew) = (sandbox.open(name), sandbox.open(&format!("{name}-anew")));
            let names: Vec<&str> = held.names().collect();
            assert!(names.len() > 10, "{model} {name}");
            for module in names {
                assert!(
                    support::tensor(&held, module).bytes == support::tensor(&anew, module).bytes,
                    "{model} {name}: {module}"
                );
            }
        }
    }
}
