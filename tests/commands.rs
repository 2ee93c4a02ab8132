//! Output of the commands, and the built-in model.

mod support;

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};
use serde_json::Value;

use support::*;

fn has_keys(object: &Value, keys: &str) {
    for key in keys.split_whitespace() {
        assert!(object.get(key).is_some(), "no {key} in {object}");
    }
}

#[test]
fn eval_as_json() {
    let sandbox = Sandbox::new();
    let result = sandbox.json("eval model eval.safetensors --seqlen 32");
    has_keys(&result, "perplexity dataset windows tokens seqlen seconds peak_rss_mib");
    // 266 tokens: the tail is dropped.
    assert_eq!((&result["windows"], &result["tokens"], &result["seqlen"]), (&8.into(), &256.into(), &32.into()));
    assert_eq!(result["dataset"], "eval.safetensors");
    let limited = sandbox.json("eval model eval.safetensors --seqlen 16 --limit 3");
    assert_eq!((&limited["windows"], &limited["tokens"]), (&3.into(), &48.into()));
    // Never more than the model's positions.
    assert_eq!(sandbox.json("eval model eval.safetensors")["seqlen"], 64);
    // Results on stdout, the rest elsewhere.
    let ran = sandbox.ok("eval model eval.safetensors --seqlen 32 --quiet");
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
    let shown = format!("perplexity {:.4}", result["perplexity"].as_f64().unwrap());
    assert!(ran.stdout.starts_with(&shown), "{}", ran.stdout);
}

#[test]
fn compression_as_json() {
    let sandbox = Sandbox::new();
    for command in ["quantize model calib.safetensors --wbits 4", "sparsify model calib.safetensors --pattern 2:4"] {
        let report = sandbox.json(&format!("{command} --overwrite --out out --eval eval.safetensors"));
        has_keys(
            &report,
            "out method seconds peak_rss_mib bits_per_weight sparsity outlier_share bytes_in bytes_out layers",
        );
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 14);
        for layer in layers {
            has_keys(layer, "name rows cols bits sparsity outliers error damp seconds");
            let error = layer["error"].as_f64().unwrap();
            assert!(0.0 < error && error < 0.5, "{layer}");
            assert_eq!(layer["damp"], 0.01);
        }
        assert_eq!(report["out"], "out");
        let (before, after) = (&report["perplexity"]["before"], &report["perplexity"]["after"]);
        assert!(before.as_f64().unwrap() < after.as_f64().unwrap(), "{before} {after}");
    }
    let verbose = sandbox.ok("quantize model calib.safetensors --wbits 4 --overwrite --out out --verbose");
    assert!(verbose.stderr.contains("model.layers.1.mlp.down_proj") && verbose.stderr.contains("GFLOP"));
    assert!(verbose.stdout.starts_with("4-bit GPTQ per row: "), "{}", verbose.stdout);
    for words in ["  model    out/", "  report   out/report.html", "  try it   "] {
        assert!(verbose.stdout.contains(words), "{words}: {}", verbose.stdout);
    }
}

#[test]
fn inspect_as_json() {
    let sandbox = Sandbox::new();
    sandbox.ok("sparsify model calib.safetensors --pattern 2:4 --quiet --out sparse");
    sandbox.ok("quantize model calib.safetensors --wbits 4 --groupsize 16 --layers 0..1 --quiet --out packed");
    for (model, format, linear) in
        [("model", "dense", "dense F32"), ("sparse", "dense", "dense F32"), ("packed", "pack-quantized", "4-bit")]
    {
        let summary = sandbox.json(&format!("inspect {model}"));
        has_keys(&summary, "format tensors bits_per_weight sparsity bytes");
        assert_eq!(summary["format"], format);
        let tensors = summary["tensors"].as_array().unwrap();
        assert_eq!(tensors.len(), 14 + 4 + 3, "{model}");
        tensors.iter().for_each(|t| has_keys(t, "name shape format bits_per_weight sparsity outliers"));
        let q = tensors.iter().find(|t| t["name"].as_str().unwrap().starts_with("model.layers.0.self_attn.q_proj"));
        let q = q.unwrap();
        assert_eq!(q["shape"], serde_json::json!([32, 32]));
        assert!(q["format"].as_str().unwrap().contains(linear), "{q}");
        let bits = q["bits_per_weight"].as_f64().unwrap();
        assert!(if model == "packed" { bits > 4.0 && bits < 8.0 } else { bits == 32.0 }, "{q}");
        let share = summary["sparsity"].as_f64().unwrap();
        assert!(if model == "sparse" { share == 0.5 } else { share < 0.2 }, "{model}: {share}");
    }
    let text = sandbox.ok("inspect packed").stdout;
    assert!(text.starts_with("pack-quantized, ") && text.contains("7 linears quantized, 8 ignored"), "{text}");
    assert!(text.contains("model.layers.*.mlp.down_proj"), "{text}");
    let text = sandbox.ok("inspect packed --verbose").stdout;
    assert!(text.contains("groups of 16") && text.contains("model.norm.weight"), "{text}");
}

/// The same words as a text, as lines of JSON under any name, and as tokens of any width.
#[test]
fn the_same_data_in_every_form() {
    let sandbox = Sandbox::new();
    tokenizer(&sandbox);
    sandbox.write("words.txt", "two one one two ".repeat(16));
    let line = format!("{{\"body\": \"{}\", \"text\": \"one\"}}\n\n", "two one one two ".repeat(8));
    sandbox.write("words.jsonl", line.repeat(2));
    let ids: Vec<i64> = [2, 1, 1, 2].repeat(16);
    token_file(&sandbox.path("words.safetensors"), &[4, 16], &ids);
    for (name, dtype, bytes) in [
        ("i32", Dtype::I32, ids.iter().flat_map(|&id| (id as i32).to_le_bytes()).collect::<Vec<u8>>()),
        ("u32", Dtype::U32, ids.iter().flat_map(|&id| (id as u32).to_le_bytes()).collect()),
        ("i16", Dtype::I16, ids.iter().flat_map(|&id| (id as i16).to_le_bytes()).collect()),
        ("u8", Dtype::U8, ids.iter().map(|&id| id as u8).collect()),
    ] {
        let tensor = NamedTensor { name: "input_ids".into(), dtype, shape: vec![1, 64], bytes };
        write_file(&sandbox.path(&format!("{name}.safetensors")), vec![tensor]).unwrap();
    }
    let data = "words.txt words.safetensors i32.safetensors u32.safetensors i16.safetensors u8.safetensors";
    let mut results: Vec<Value> = data
        .split(' ')
        .map(|data| sandbox.json(&format!("eval model {data} --seqlen 16 --quiet"))["perplexity"].clone())
        .collect();
    results.push(sandbox.json("eval model words.jsonl --text-field body --seqlen 16")["perplexity"].clone());
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    // A model in shards is the same model, and its tokenizer comes along.
    sandbox.ok("sparsify model --method magnitude --pattern 4:4 --quiet --out sharded");
    assert_eq!(model_bytes(&sandbox.path("sharded")).len(), 2);
    split(&sandbox.path("sharded"));
    assert_eq!(model_bytes(&sandbox.path("sharded")).len(), 4);
    assert_eq!(sandbox.json("eval sharded words.txt --seqlen 16")["perplexity"], results[0]);
    sandbox.ok("quantize sharded words.txt --wbits 4 --quiet --out of_shards");
    sandbox.ok("quantize model words.txt --wbits 4 --quiet --out of_one");
    assert!(model_bytes(&sandbox.path("of_shards")) == model_bytes(&sandbox.path("of_one")));
}

/// Text is cut from its start, or at places drawn from a seed: the same for the same seed.
#[test]
fn seeds() {
    let sandbox = Sandbox::empty();
    let run = |options: &str, out: &str| {
        let layers = "--layers 0..1 --include re:.*q_proj";
        sandbox.ok(&format!("quantize demo --wbits 3 --nsamples 4 --seqlen 64 --quiet {layers} {options} --out {out}"));
        model_bytes(&sandbox.path(out))
    };
    let (start, one, again, two) =
        (run("", "start"), run("--seed 1", "one"), run("--seed 1", "again"), run("--seed 2", "two"));
    assert!(one == again, "the same seed");
    assert!(one != two && one != start && two != start, "another seed, the same windows");
}

/// The built-in model, its text and its tokenizer: nothing else is needed.
#[test]
fn the_demo() {
    let sandbox = Sandbox::empty();
    let dense = sandbox.json("eval demo --limit 4 --quiet");
    assert_eq!((&dense["dataset"], &dense["seqlen"]), (&"demo".into(), &256.into()));
    let ran = sandbox.ok("quantize demo --wbits 4 --groupsize 32 --nsamples 4 --quiet --out small");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "paring.json"] {
        assert!(sandbox.path("small").join(name).is_file(), "{name}");
    }
    let made = sandbox.open("small");
    assert!(made.info("lm_head.weight").is_none(), "the head is the embedding");
    // Its own tokenizer is found in the folder: text needs nothing but the name of the data.
    let small = sandbox.json("eval small demo --limit 4 --quiet");
    let (before, after) = (dense["perplexity"].as_f64().unwrap(), small["perplexity"].as_f64().unwrap());
    assert!(before < after && after < 1.3 * before, "perplexity from {before} to {after}");
    sandbox.ok("decompress small --out plain");
    let plain = sandbox.json("eval plain demo --limit 4 --quiet")["perplexity"].as_f64().unwrap();
    assert!((plain / after - 1.0).abs() < 1e-9, "{plain} {after}");
    assert!(sandbox.path("plain/tokenizer.json").is_file());
    sandbox.ok("decompress demo --out copy");
    assert_eq!(sandbox.json("eval copy demo --limit 4 --quiet")["perplexity"], dense["perplexity"]);
    // The copy can be compressed as any model.
    sandbox.ok("sparsify plain demo --method wanda --pattern 2:4 --nsamples 2 --layers 0..1 --quiet --out sparse");
    assert!(sandbox.path("sparse/tokenizer.json").is_file());
}

#[test]
fn help() {
    let sandbox = Sandbox::empty();
    let text = sandbox.ok("--help").stdout;
    for command in ["sparsify", "quantize", "eval", "tokens", "inspect", "verify", "decompress", "layer"] {
        assert!(text.contains(command), "{command}");
        let own = sandbox.ok(&format!("{command} --help")).stdout;
        assert!(own.contains("Example") && own.contains("Usage"), "{own}");
    }
    assert!(sandbox.ok("--version").stdout.starts_with("paring "));
}

#[test]
fn an_output_without_a_name_gets_one() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model calib.safetensors --wbits 4 --groupsize 16 --quiet");
    sandbox.ok("sparsify model calib.safetensors --pattern 2:4 --quiet");
    sandbox.ok("quantize model calib.safetensors --wbits 4 --groupsize 16 --outlier_threshold=0.2 --quiet");
    for name in ["model-gptq-w4g16", "model-sparsegpt-2of4", "model-spqr-w4g16"] {
        assert!(sandbox.holds_model(name), "{name}");
    }
    sandbox
        .refused("quantize model calib.safetensors --wbits 4 --groupsize 16 --quiet", 1, &["model-gptq-w4g16"])
        .unwrap();
}

#[test]
fn more_windows_than_fit_are_drawn_and_overlap() {
    let sandbox = Sandbox::new();
    tokenizer(&sandbox);
    sandbox.write("text.txt", "one two ".repeat(50));
    let ran = sandbox.ok("quantize model text.txt --wbits 4 --seqlen 32 --nsamples 4 --out out");
    assert!(
        ran.stderr.contains("too short for 4 separate windows; sampling overlapping ones (seed 0)"),
        "{}",
        ran.stderr
    );
    let plan = &json_file(&sandbox.path("out/paring.json"))["plan"];
    assert_eq!((&plan["nsamples"], &plan["seed"]), (&4.into(), &0.into()));
    // As many as fit lie side by side.
    let ran = sandbox.ok("quantize model text.txt --wbits 4 --seqlen 32 --nsamples 3 --out out --overwrite");
    assert!(!ran.stderr.contains("drawn"), "{}", ran.stderr);
}

#[test]
fn activations_on_disk_make_the_same_model() {
    let sandbox = Sandbox::new();
    let options = "quantize model calib.safetensors --wbits 3 --groupsize 16 --quiet --skip-out-loss \
        --true-sequential=false";
    sandbox.ok(&format!("{options} --out memory"));
    sandbox.ok(&format!("{options} --offload activations --out disk"));
    assert_eq!(model_bytes(&sandbox.path("memory")), model_bytes(&sandbox.path("disk")));
}

#[test]
fn options_without_an_effect() {
    let sandbox = Sandbox::new();
    let run = "quantize model calib.safetensors --method rtn --wbits 8 --nsamples 4 --true-sequential";
    let said = sandbox.ok(&format!("{run} --out out")).stderr;
    for part in ["calib.safetensors is not used", "--nsamples has no effect", "--true-sequential has no"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(sandbox.ok(&format!("{run} --out quiet --quiet")).stderr, "");
}
