//! Opening what others made, through the binary: tied matrices under either name, patterns of Python, files that disagree.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};
use serde_json::{Value, json};

use support::*;

/// Writes a model whose safetensors header has these pairs in its `__metadata__`.
fn write_with_metadata(dir: &Path, model: &Model, metadata: Value) {
    let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), metadata)]);
    let mut body = Vec::new();
    for t in &model.tensors {
        let end = body.len() + t.bytes.len();
        let info = json!({"dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [body.len(), end]});
        header.insert(t.name.clone(), info);
        body.extend(&t.bytes);
    }
    let header = Value::Object(header).to_string();
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), model.config.to_string()).unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &body].concat();
    fs::write(dir.join("model.safetensors"), file).unwrap();
}

/// Some tokens that all golden models know.
fn with_tokens() -> Sandbox {
    let sandbox = Sandbox::empty();
    let ids: Vec<i64> = (0..64).map(|i| 3 + i * 7 % 60).collect();
    token_file(&sandbox.path("eval.safetensors"), &[2, 32], &ids);
    sandbox
}

const HEAD: &str = "lm_head.weight";

#[test]
fn a_tied_matrix_may_have_the_name_of_the_head() {
    for (name, prefix, embedding) in [
        ("bias_tied", "model.", "model.embed_tokens.weight"),
        ("qwen2", "model.", "model.embed_tokens.weight"),
        ("opt", "model.decoder.", "model.decoder.embed_tokens.weight"),
        ("opt_350m", "model.decoder.", "model.decoder.embed_tokens.weight"),
        ("falcon_7b", "transformer.", "transformer.word_embeddings.weight"),
        ("falcon_old", "transformer.", "transformer.word_embeddings.weight"),
    ] {
        let sandbox = with_tokens();
        let mut model = Model::golden(name);
        model.tensors.retain(|t| t.name != HEAD);
        model.write(&sandbox.path("model"));
        let wanted = sandbox.perplexity("model");
        sandbox.ok("quantize model --method rtn --wbits 8 --out wanted --quiet");
        for stored_prefix in [prefix, ""] {
            let mut changed = model.clone();
            for t in &mut changed.tensors {
                t.name = if t.name == embedding { HEAD.into() } else { t.name.replacen(prefix, stored_prefix, 1) };
            }
            changed.write(&sandbox.path("changed"));
            assert_eq!(sandbox.perplexity("changed"), wanted, "{name} {stored_prefix}");
            sandbox.ok("verify changed --quiet");
            sandbox.ok("inspect changed");
            sandbox.ok("quantize changed --method rtn --wbits 8 --out made --overwrite --quiet");
            if stored_prefix == prefix {
                // An output has one matrix too, under the name that all readers know.
                assert!(model_bytes(&sandbox.path("made")) == model_bytes(&sandbox.path("wanted")), "{name}");
            }
        }
        // Not tied, it is no embedding, and the message says which key decides.
        model.config["tie_word_embeddings"] = false.into();
        model.tensor(embedding).name = HEAD.into();
        model.write(&sandbox.path("changed"));
        let ran = sandbox.run("eval changed eval.safetensors --seqlen 32 --quiet");
        sandbox.refuses(&ran, 1, &[embedding, "tie_word_embeddings"]).unwrap();
        assert!(!ran.stderr.contains("vocab_size"), "{}", ran.stderr);
    }
}

#[test]
fn names_that_a_header_lists_as_removed_are_read() {
    let sandbox = with_tokens();
    let mut model = Model::golden("llama");
    let (q, k) = ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight");
    let table = "model.embed_tokens.weight";
    for (kept, removed) in [(q, k), (table, HEAD)] {
        let kept = model.tensor(kept).clone();
        *model.tensor(removed) = NamedTensor { name: removed.into(), ..kept };
    }
    model.write(&sandbox.path("model"));
    sandbox.ok("quantize model --method rtn --wbits 8 --out wanted --quiet");
    for (kept, removed) in [([q, table], [k, HEAD]), ([k, HEAD], [q, table])] {
        let mut changed = model.clone();
        changed.tensors.retain(|t| !removed.contains(&t.name.as_str()));
        let pairs = json!({"format": "pt", removed[0]: kept[0], removed[1]: kept[1]});
        write_with_metadata(&sandbox.path("changed"), &changed, pairs);
        assert_eq!(sandbox.perplexity("changed"), sandbox.perplexity("model"), "{removed:?}");
        sandbox.ok("quantize changed --method rtn --wbits 8 --out made --overwrite --quiet");
        // The config does not tie the two: the output has both.
        let (made, wanted) = (sandbox.open("made"), sandbox.open("wanted"));
        assert_eq!(made.names().collect::<Vec<_>>(), wanted.names().collect::<Vec<_>>());
        assert!(made.names().all(|name| made.read(name).unwrap() == wanted.read(name).unwrap()));
        // A pair that points nowhere, or at itself, is nothing.
        let pairs = json!({removed[0]: "gone", removed[1]: removed[1], "a": "a"});
        write_with_metadata(&sandbox.path("changed"), &changed, pairs);
        let command = "eval changed eval.safetensors --seqlen 32 --quiet";
        sandbox.refused(command, 1, &["no tensor", removed[0].trim_end_matches(".weight")]).unwrap_or_else(|_| {
            sandbox.refused(command, 1, &["2 missing"]).unwrap();
        });
    }
}

#[test]
fn an_output_says_whether_its_head_is_the_embedding() {
    for (name, table) in [("bias_tied", "model.embed_tokens.weight"), ("opt", "model.decoder.embed_tokens.weight")] {
        let sandbox = with_tokens();
        for (differs, explicit) in [(true, true), (true, false), (false, true)] {
            let mut model = Model::golden(name);
            model.tensors.retain(|t| t.name != HEAD);
            let mut head = NamedTensor { name: HEAD.into(), ..model.tensor(table).clone() };
            head.bytes[3] ^= u8::from(differs) << 7;
            model.tensors.push(head);
            model.config["text_config"] = json!({"tie_word_embeddings": true});
            // OPT ties where it says nothing.
            if !explicit && name == "opt" {
                model.config.as_object_mut().unwrap().remove("tie_word_embeddings");
            }
            model.write(&sandbox.path("model"));
            for command in [
                "quantize model --method rtn --wbits 8",
                "convert model --format sparse-bitmask",
                "decompress model",
                "sparsify model --method magnitude --sparsity 0.5",
            ] {
                let ran = sandbox.ok(&format!("{command} --out out --overwrite"));
                let config = json_file(&sandbox.path("out/config.json"));
                let told = [&config["tie_word_embeddings"], &config["text_config"]["tie_word_embeddings"]];
                assert_eq!(told.map(|flag| flag != &json!(false)), [!differs; 2], "{name}: {command}");
                assert_eq!(ran.stderr.contains("a different head is stored"), differs, "{}", ran.stderr);
                assert!(sandbox.perplexity("out").is_finite());
            }
            let report = sandbox.json("quantize model --method rtn --wbits 8 --out out --overwrite --quiet");
            let notes = report["notes"].as_array().unwrap();
            assert_eq!(notes.iter().any(|note| note.as_str().unwrap().contains("tie_word_embeddings")), differs);
        }
    }
}

#[test]
fn patterns_are_those_of_python() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model --method rtn --wbits 4 --groupsize 16 --include re:.*self_attn.* --out q --quiet");
    let wanted = sandbox.perplexity("q");
    let made = Model::read(&sandbox.open("q"));
    let with = |ignore: Value, targets: Option<Value>| {
        let mut changed = made.clone();
        let quant = &mut changed.config["quantization_config"];
        quant["ignore"] = ignore;
        if let Some(targets) = targets {
            quant["config_groups"]["group_0"]["targets"] = targets;
        }
        changed.write(&sandbox.path("changed"));
    };
    for ignore in [
        json!(["lm_head", r"re:^(?!.*self_attn).*$"]),
        json!(["lm_head", r"re:.*mlp\.(gate|up|down)_proj\Z"]),
        json!(["lm_head", r"re:.*(?#the MLP)mlp"]),
        json!([r"re:(?P<a>l)m_head", r"re:.*\.(?P<m>ml)p.(?:gate|up|down)_proj(?<!attn)"]),
        json!(["lm_head", r"re:.*m(l)p\.(?:up|gate|down)_pr.j(?!\1)"]),
    ] {
        with(ignore.clone(), None);
        assert_eq!(sandbox.perplexity("changed"), wanted, "{ignore}");
        sandbox.ok("verify changed --quiet");
    }
    with(json!([]), Some(json!([r"re:^(?=.*self_attn)(?!lm_head)"])));
    assert_eq!(sandbox.perplexity("changed"), wanted);
    // On the command line and in recipes.
    for (option, pattern) in
        [("--ignore", r"re:^(?!.*self_attn).*"), ("--include", r"re:.*(?<=self_attn)\.[qkvo]_proj\Z")]
    {
        sandbox.ok(&format!(
            "quantize model --method rtn --wbits 4 --groupsize 16 {option} {pattern} --out q2 --overwrite --quiet"
        ));
        assert_eq!(sandbox.perplexity("q2"), wanted, "{option}");
    }
    let recipe = "method = \"rtn\"\nwbits = 4\ngroupsize = 16\nignore = ['re:^(?!.*self_attn).*']\n";
    sandbox.write("recipe.toml", recipe);
    sandbox.ok("quantize model --config recipe.toml --out q2 --overwrite --quiet");
    assert_eq!(sandbox.perplexity("q2"), wanted);
    // What has no end is an error before the work, and so is what cannot be read.
    let nested = r"re:(?:(?:\w+)+\.?)+(?=!)\b";
    for (pattern, words) in
        [(nested, "more than 50000 steps"), ("re:(?!x", "without closing parenthesis"), (r"re:\Kx", r"bad escape \K")]
    {
        with(json!(["lm_head", pattern]), None);
        let words = [pattern, words];
        sandbox.refused("eval changed eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
        let command = format!("quantize model --method rtn --wbits 4 --ignore {pattern} --out out --quiet");
        sandbox.refused(&command, 1, &words).unwrap();
    }
    with(json!(["lm_head", "re:("]), None);
    let words = ["quantization_config.ignore: the pattern re:("];
    sandbox.refused("eval changed eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
}

/// Writes a Llama in two files, with these tensors more in the first, and an index with these entries more.
fn in_two(sandbox: &Sandbox, more: &[NamedTensor], listed: &[(&str, u8)]) {
    let model = Model::golden("llama");
    let dir = sandbox.path("model");
    fs::remove_dir_all(&dir).unwrap_or(());
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), model.config.to_string()).unwrap();
    let file = |number: u8| format!("model-0000{number}-of-00002.safetensors");
    let (first, second): (Vec<NamedTensor>, Vec<NamedTensor>) =
        model.tensors.into_iter().partition(|t| t.name.contains("layers.0."));
    let mut map = BTreeMap::new();
    map.extend(first.iter().map(|t| (t.name.clone(), file(1))));
    map.extend(second.iter().map(|t| (t.name.clone(), file(2))));
    map.extend(listed.iter().map(|(name, number)| (name.to_string(), file(*number))));
    write_file(&dir.join(file(1)), [&first[..], more].concat()).unwrap();
    write_file(&dir.join(file(2)), second).unwrap();
    fs::write(dir.join("model.safetensors.index.json"), json!({"metadata": {}, "weight_map": map}).to_string())
        .unwrap();
}

#[test]
fn files_that_disagree_are_read_leniently_if_asked() {
    let sandbox = Sandbox::new();
    let wanted = sandbox.perplexity("model");
    let norm = "model.norm.weight";
    let zeros = NamedTensor { name: norm.into(), dtype: Dtype::F32, shape: vec![32], bytes: vec![0; 128] };
    let named = |name: &str| NamedTensor { name: name.into(), ..zeros.clone() };
    let value_head =
        [named("v_head.summary.weight"), named("rope.freqs"), named("model.layers.2.input_layernorm.weight")];
    let buffer = "model.layers.0.self_attn.rotary.freqs";
    for (more, listed, words, note) in [
        (
            &[][..],
            &[(buffer, 1)][..],
            &[buffer, "00001-of-00002", "it is not"][..],
            "1 tensors that model.safetensors.index.json lists",
        ),
        (std::slice::from_ref(&zeros), &[], &[norm, "00001-of-00002", "00002-of-00002"], "1 tensors are in two files"),
        (
            &value_head,
            &[(value_head[0].name.as_str(), 1), (value_head[1].name.as_str(), 1), (value_head[2].name.as_str(), 1)],
            &["v_head.summary.weight in model-00001", "3 that the model does not have"],
            "3 tensors that the model does not have are left out: model.layers.2",
        ),
    ] {
        in_two(&sandbox, more, listed);
        for command in [
            "eval model eval.safetensors --seqlen 32 --quiet",
            "quantize model --method rtn --wbits 8 --out out --quiet",
            "verify model --quiet",
        ] {
            let words = [words, &["--lenient"]].concat();
            sandbox.refused(command, 1, &words).unwrap();
        }
        let ran = sandbox.ok("eval model eval.safetensors --seqlen 32 --lenient --json");
        assert_eq!(ran.json()["perplexity"].as_f64().unwrap(), wanted, "{note}");
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        sandbox.ok("inspect model --lenient");
        sandbox.ok("verify model --lenient --quiet");
        sandbox.ok("decompress model --lenient --out dense --overwrite --quiet");
        let ran = sandbox.ok("quantize model --method rtn --wbits 8 --lenient --out made --overwrite --json");
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        let (report, made) = (ran.json(), json_file(&sandbox.path("made/paring.json")));
        assert_eq!((&report["plan"]["lenient"], &made["plan"]["lenient"]), (&json!(true), &json!(true)));
        assert!(
            report["notes"].as_array().unwrap().iter().any(|told| told.as_str().unwrap().contains(note)),
            "{report}"
        );
        assert!(sandbox.open("made").names().all(|name| more.iter().all(|t| t.name == norm || t.name != name)));
        sandbox.perplexity("made");
    }
    // Of two, the one that the index names.
    in_two(&sandbox, std::slice::from_ref(&zeros), &[(norm, 1)]);
    assert_ne!(sandbox.json("eval model eval.safetensors --seqlen 32 --lenient --quiet")["perplexity"], json!(wanted));
    // What the model needs is needed all the same.
    in_two(&sandbox, &[], &[("model.layers.5.input_layernorm.weight", 1)]);
    let mut config = json_file(&sandbox.path("model/config.json"));
    config["num_hidden_layers"] = 3.into();
    sandbox.write("model/config.json", config.to_string());
    let words = ["9 missing", "model.layers.2.input_layernorm.weight"];
    sandbox.refused("eval model eval.safetensors --seqlen 32 --lenient --quiet", 1, &words).unwrap();
    // A tensor that the index leaves out is read, and what checks a checkpoint names it.
    in_two(&sandbox, &[], &[]);
    let path = sandbox.path("model/model.safetensors.index.json");
    let mut index = json_file(&path);
    index["weight_map"].as_object_mut().unwrap().remove(norm);
    fs::write(&path, index.to_string()).unwrap();
    assert_eq!(sandbox.perplexity("model"), wanted);
    sandbox.refused("verify model --quiet", 1, &["model-00002", norm, "index.json", "--lenient"]).unwrap();
    sandbox.ok("verify model --lenient --quiet");
}
