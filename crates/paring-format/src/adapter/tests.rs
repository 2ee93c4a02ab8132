use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// The folder of an adapter that PEFT wrote.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/training/lora").join(name)
}

/// The least that PEFT opens, with other keys or with other values.
fn config(changes: Value) -> Result<AdapterConfig> {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"]});
    changes.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
    AdapterConfig::parse(&config, "file")
}

/// An adapter of two linears.
fn small() -> Adapter {
    let mut config = AdapterConfig::new(2, 3.0, ["v_proj", "q_proj"]);
    config.base = Some("base".to_string());
    let pair = |rows: usize| {
        let numbers = |count: usize| (0..count).map(|i| i as f32 - 2.5).collect();
        Pair::new(2, (rows, 4), numbers(8), numbers(2 * rows), 1.5).unwrap()
    };
    let pairs = [("model.layers.1.self_attn.v_proj", pair(3)), ("model.layers.0.self_attn.q_proj", pair(5))];
    let pairs = pairs.into_iter().map(|(module, pair)| (module.to_string(), pair)).collect();
    Adapter { config, pairs, place: PathBuf::new() }
}

#[test]
fn files_of_peft() {
    for (name, count) in [("qv", 12), ("all", 42)] {
        let adapter = Adapter::open(&golden(name)).unwrap();
        assert_eq!(adapter.pairs.len(), count);
        assert!(adapter.pairs.values().all(|pair| pair.rank == 8 && pair.scale == 2.0));
        let q = &adapter.pairs["model.layers.5.self_attn.q_proj"];
        assert_eq!((q.rows, q.cols, q.a.len(), q.b.len()), (128, 128, 1024, 1024));
        // Written again, it reads back as the same, and the same bytes come out each time.
        let dir = tempfile::tempdir().unwrap();
        let read = |out: &Path| [ADAPTER_CONFIG, ADAPTER_WEIGHTS].map(|file| fs::read(out.join(file)).unwrap());
        let [first, second] = ["a", "b"].map(|out| dir.path().join(out));
        adapter.write(&first, false).unwrap();
        let again = Adapter::open(&first).unwrap();
        assert_eq!(again.pairs, adapter.pairs);
        again.write(&second, false).unwrap();
        assert_eq!(read(&first), read(&second));
        // PEFT's own bytes, but for the header's pad.
        let theirs = Checkpoint::open_file(&golden(name).join(ADAPTER_WEIGHTS)).unwrap();
        let ours = Checkpoint::open_file(&first.join(ADAPTER_WEIGHTS)).unwrap();
        assert!(theirs.names().eq(ours.names()));
        assert!(theirs.names().all(|name| theirs.read(name).unwrap() == ours.read(name).unwrap()));
    }
}

#[test]
fn what_is_written_is_complete_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = small();
    adapter.write(dir.path(), false).unwrap();
    let text = fs::read_to_string(dir.path().join(ADAPTER_CONFIG)).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["target_modules"], json!(["q_proj", "v_proj"]));
    assert_eq!((&value["r"], &value["lora_alpha"], &value["bias"]), (&json!(2), &json!(3), &json!("none")));
    let error = adapter.write(dir.path(), false).unwrap_err().message().to_string();
    assert!(error.contains("holds an adapter (adapter_config.json)") && error.contains("overwrite"), "{error}");
    adapter.write(dir.path(), true).unwrap();
    // Pairs that the settings do not describe are not written.
    let changes: [fn(&mut Pair); 3] = [|pair| pair.scale = 2.0, |pair| pair.a[0] = f32::NAN, |pair| pair.b.truncate(2)];
    for change in changes {
        let mut wrong = small();
        wrong.pairs.values_mut().for_each(change);
        let out = dir.path().join("wrong");
        let error = wrong.write(&out, false).unwrap_err().to_string();
        assert!(error.starts_with("model.layers.0.self_attn.q_proj: ") && !out.exists(), "{error}");
    }
}

#[test]
fn ranks_and_scales_of_modules() {
    let config = config(json!({
        "use_rslora": true,
        "rank_pattern": {"layers.1.v_proj": 9, "^model.*q_proj": 4, "(": 0},
    }));
    assert!(config.unwrap_err().to_string().contains("file: rank_pattern: expected a regular expression"));
    let config = super::tests::config(json!({
        "use_rslora": true,
        "rank_pattern": {"layers.1.v_proj": 9, ".*h\\.[01]\\.q_proj": 4, "^model\\.x.y": 5, "^x.y": 6},
        "alpha_pattern": {"q_proj": 8.0},
    }));
    let config = config.unwrap();
    let of = |module: &str| {
        let rank = config.rank(module).unwrap();
        (rank, config.scale(module, rank).unwrap())
    };
    assert_eq!(of("model.layers.1.v_proj"), (9, 1.0));
    let over_root = |alpha: f64| (alpha / 2f64.sqrt()) as f32;
    assert_eq!(of("model.layers.11.v_proj"), (2, over_root(3.0)));
    assert_eq!(of("model.alayers.1.v_proj"), (2, over_root(3.0)));
    assert_eq!(of("model.h.1.q_proj"), (4, 4.0));
    assert_eq!(of("model.h.2.q_proj"), (2, over_root(8.0)));
    assert_eq!((of("model.x.y").0, of("modelax.y").0, of("a.x.y").0), (5, 2, 2));
    let many: serde_json::Map<String, Value> = (0..17).map(|i| (format!("a{{{i}}}"), json!(1))).collect();
    let error = super::tests::config(json!({"rank_pattern": many})).map(drop).unwrap_err().to_string();
    assert!(error.contains("at most 16 regular expressions, got 17"), "{error}");
}

#[test]
fn target_modules_are_peft_s() {
    let covers = |changes: Value, module: &str| config(changes).unwrap().modules.cover(module).unwrap();
    let q = "model.layers.10.self_attn.q_proj";
    // Names, patterns, all; each with what it covers of three.
    for (changes, expected) in [
        (json!({}), [true, false, false]),
        (json!({"target_modules": ["proj", "k_proj"]}), [false, false, false]),
        (json!({"target_modules": ["self_attn.q_proj"]}), [true, false, false]),
        (json!({"target_modules": "all-linear"}), [true, true, true]),
        (json!({"target_modules": ".*proj"}), [true, true, false]),
        (json!({"target_modules": "q_proj"}), [false, false, false]),
        (json!({"target_modules": r"model\.layers\.\d+\.(self_attn|mlp)\.(q|up)_proj"}), [true, true, false]),
        (json!({"target_modules": ".*proj", "exclude_modules": ["up_proj"]}), [true, false, false]),
        (json!({"target_modules": "all-linear", "exclude_modules": ".*dense"}), [true, true, false]),
        (json!({"layers_to_transform": [1, 10]}), [true, false, false]),
        (json!({"layers_to_transform": 1}), [false, false, false]),
        (json!({"layers_to_transform": []}), [true, false, false]),
        (json!({"layers_to_transform": [10], "layers_pattern": "layers"}), [true, false, false]),
        (json!({"layers_to_transform": [10], "layers_pattern": ["h", "l.yers"]}), [true, false, false]),
        (json!({"layers_to_transform": [10], "layers_pattern": ["h"]}), [false, false, false]),
        (json!({"layers_to_transform": [1], "target_modules": [q]}), [true, false, false]),
    ] {
        let got =
            [q, "model.layers.0.mlp.up_proj", "transformer.h.0.dense"].map(|module| covers(changes.clone(), module));
        assert_eq!(got, expected, "{changes}");
    }
}

#[test]
fn what_changes_the_arithmetic_is_refused_by_name() {
    for (changes, words) in [
        (json!({"use_dora": true}), ["file: use_dora: expected nothing, got true", "DoRA"]),
        (json!({"use_qalora": true}), ["use_qalora", "QA-LoRA"]),
        (json!({"use_new_thing": true}), ["use_new_thing", "variant"]),
        (json!({"modules_to_save": ["lm_head"]}), ["modules_to_save", r#"["lm_head"]"#]),
        (json!({"lora_bias": true}), ["lora_bias", "bias"]),
        (json!({"fan_in_fan_out": true}), ["fan_in_fan_out", "[in, out]"]),
        (json!({"layer_replication": [[0, 2]]}), ["layer_replication", "more than once"]),
        (json!({"peft_type": "LOHA"}), ["peft_type: expected LORA", "LOHA"]),
        (json!({"peft_type": null}), ["peft_type: expected LORA", "nothing"]),
        (json!({"init_lora_weights": "pissa_niter_4"}), ["init_lora_weights", "changes the base"]),
        (json!({"alora_invocation_tokens": [1]}), ["alora_invocation_tokens", "aLoRA"]),
        (json!({"target_modules": null}), ["target_modules", "a list of names"]),
        (json!({"target_modules": [1]}), ["target_modules", "names"]),
        (json!({"target_modules": "("}), ["target_modules", "regular expression"]),
        (json!({"r": 0}), ["r: expected a rank", "got 0"]),
        (json!({"r": 1e9}), ["r: expected a rank", "1000000000"]),
        (json!({"lora_alpha": "x"}), ["lora_alpha: expected a number", "x"]),
        (json!({"rank_pattern": {"q\nq": "x"}}), ["rank_pattern: q q: expected a rank", "x"]),
        (json!({"layers_to_transform": "x"}), ["layers_to_transform", "numbers"]),
        (json!({"use_rslora": 1}), ["use_rslora", "true or false"]),
    ] {
        let error = config(changes.clone()).map(|config| config.rank);
        let error = match error {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{changes} is read"),
        };
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
    }
    // What leaves it as it is.
    let quiet = json!({"bias": "all", "use_dora": false, "init_lora_weights": "gaussian", "modules_to_save": [],
        "qalora_group_size": 16, "megatron_core": "megatron.core", "loftq_config": {}, "layer_replication": null});
    config(quiet).unwrap();
    assert!(AdapterConfig::parse(&json!([]), "file").is_err());
}

#[test]
fn tensors_that_do_not_belong() {
    let tensor = |name: &str, shape: [usize; 2]| crate::NamedTensor {
        name: name.to_string(),
        dtype: crate::Dtype::F32,
        shape: shape.to_vec(),
        bytes: vec![0; 4 * shape[0] * shape[1]],
    };
    let (a, b) = ("base_model.model.x.q_proj.lora_A.weight", "base_model.model.x.q_proj.lora_B.weight");
    let read = |tensors: Vec<crate::NamedTensor>| {
        let dir = tempfile::tempdir().unwrap();
        small().write(dir.path(), false).unwrap();
        crate::writer::write_file(&dir.path().join(ADAPTER_WEIGHTS), tensors).unwrap();
        let read = Adapter::open(dir.path()).map(|adapter| adapter.pairs.len());
        read.map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "."))
    };
    assert_eq!(read(vec![tensor(a, [2, 4]), tensor(b, [3, 2])]), Ok(1));
    for (tensors, words) in [
        (vec![tensor(a, [3, 4]), tensor(b, [3, 3])], "x.q_proj: expected lora_A of [2, inputs]"),
        (vec![tensor(a, [2, 4]), tensor(b, [3, 4])], "got [2, 4] and [3, 4]"),
        (vec![tensor(a, [2, 4])], "x.q_proj: expected lora_A and lora_B, got no lora_B"),
        (vec![], "expected tensors of an adapter, got none"),
        (vec![tensor("base_model.model.x.q_proj.lora_A.default.weight", [2, 4])], "got another name"),
        (vec![tensor("base_model.model.lora_A.weight", [2, 4])], "got another name"),
        (vec![tensor("base_model.model.e.lora_embedding_A", [2, 4])], "got an adapter of an embedding"),
        (vec![tensor("base_model.model.x.q_proj.lora_magnitude_vector", [2, 4])], "DoRA"),
        (vec![tensor("base_model.model.x.q_proj.lora_B.bias", [2, 4])], "got a bias"),
        (
            vec![tensor(&a.replace("q_", "k_"), [2, 4]), tensor(&b.replace("q_", "k_"), [3, 2])],
            "x.k_proj: expected one of the target_modules of adapter_config.json (q_proj; v_proj), got another module",
        ),
    ] {
        let error = read(tensors).unwrap_err();
        assert!(error.starts_with("./adapter_model.safetensors: ") && error.contains(words), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Adapter::open(empty.path()).unwrap_err().to_string().contains("no adapter_config.json here"));
    assert!(Adapter::open(&empty.path().join("none")).unwrap_err().to_string().contains("not a folder"));
}
