//! llm-compressor's recipes; the other form is tested through the program.

use std::path::Path;

use super::*;

fn known() -> Known {
    let names =
        "method wbits groupsize sym scheme scales actorder pattern sparsity percdamp blocksize include ignore kv-cache";
    let all: Vec<String> = names.split(' ').map(String::from).collect();
    Known { options: all.clone(), of_groups: all }
}

fn parse(text: &str) -> Result<RecipeFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.yaml");
    std::fs::write(&path, text).unwrap();
    read(Path::new(&path), &known())
}

fn settings(list: &[Setting]) -> String {
    list.iter().map(|s| format!("{}={}", s.name, s.values.join("+"))).collect::<Vec<_>>().join(" ")
}

/// `settings`, then each group as `[targets: settings]`.
fn read_as(text: &str) -> String {
    let file = parse(text).unwrap();
    let group = |group: &Group| format!(" [{}: {}]", group.targets.join("+"), settings(&group.settings));
    settings(&file.settings) + &file.groups.iter().map(group).collect::<String>()
}

#[test]
fn modifiers_become_options() {
    for (text, expected) in [
        (
            "default_stage:\n  default_modifiers:\n    GPTQModifier:\n      targets: Linear\n      scheme: W4A16\n      ignore: [lm_head]\n",
            "method=gptq actorder=static scheme=W4A16 ignore=lm_head",
        ),
        (
            "quant_stage:\n  run_type: oneshot\n  quant_modifiers:\n    QuantizationModifier:\n      scheme: fp8_dynamic\n      \
             kv_cache_scheme: {num_bits: 8, type: float, strategy: tensor, dynamic: false, symmetric: true}\n",
            "method=rtn kv-cache=fp8 scheme=FP8_DYNAMIC",
        ),
        (
            "a_stage:\n  a_modifiers:\n    - SparseGPTModifier: {sparsity: 0.6, block_size: 64, dampening_frac: 0.1}\n",
            "method=sparsegpt blocksize=64 percdamp=0.1 sparsity=0.6",
        ),
        (
            "WandaPruningModifier: {mask_structure: '1:4', targets: ['re:.*mlp']}",
            "method=wanda pattern=3:4 include=re:.*mlp",
        ),
        ("MagnitudePruningModifier: {final_sparsity: 0.3, init_sparsity: 0.0}", "method=magnitude sparsity=0.3"),
        (
            "modifiers:\n  SparseGPTModifier: {sparsity: 0.5, mask_structure: '2:4'}\n  GPTQModifier: {scheme: W8A16, \
             dampening_frac: 0.02}\n  ConstantPruningModifier: {targets: [Linear]}",
            "method=sparsegpt pattern=2:4 percdamp=0.02 scheme=W8A16",
        ),
        (
            "GPTQModifier:\n  actorder: false\n  config_groups:\n    group_0:\n      targets: [Linear]\n      weights: {num_bits: 3, \
             symmetric: false, group_size: 64, strategy: group, observer: mse}\n",
            "method=gptq actorder=none wbits=3 groupsize=64 sym=false scales=mse",
        ),
        (
            "GPTQModifier:\n  config_groups:\n    a:\n      targets: ['re:.*b$', 're:.*a$', model.x]\n      weights: {num_bits: 8, \
             group_size: 64, actorder: weight}\n      input_activations: {num_bits: 8, strategy: token, dynamic: true}\n    \
             FP8_DYNAMIC: [Linear]\n",
            "method=gptq actorder=static scheme=FP8_DYNAMIC \
             [re:.*b$: scheme=W8A8 groupsize=64 actorder=static] [re:.*a$: scheme=W8A8 groupsize=64 actorder=static] \
             [model.x: scheme=W8A8 groupsize=64 actorder=static]",
        ),
        (
            "QuantizationModifier: {scheme: {W8A16: ['re:.*a'], W4A16: ['re:.*b']}}",
            "method=rtn scheme=W8A16 include=re:.*a+re:.*b [re:.*b: scheme=W4A16] [re:.*a: scheme=W8A16]",
        ),
    ] {
        assert_eq!(read_as(text), expected, "{text}");
    }
    let file = parse("SparseGPTModifier: {sparsity: 0.5, sequential_update: true}").unwrap();
    assert_eq!(file.notes.len(), 2, "{:?}", file.notes);
    assert!(file.notes[0].contains("sequential_update") && file.notes[1].contains("lm_head"));
}

#[test]
fn what_would_be_another_model_is_an_error() {
    let fp8 = "{num_bits: 8, type: float, strategy: channel}";
    for (text, words) in [
        ("", &["line 1", "empty"] as &[&str]),
        ("a: 1", &["line 1", "unknown key a;", "GPTQModifier"]),
        ("- 4", &["line 1", "modifiers"]),
        ("a_stage:\n  run_type: train", &["line 2", "run_type"]),
        ("a_stage: {}", &["no modifier"]),
        ("AWQModifier: {scheme: W4A16}", &["AWQModifier", "no such method", "GPTQModifier"]),
        ("GPTQModifier: {}", &["GPTQModifier", "scheme or config_groups"]),
        ("GPTQModifier: 4", &["GPTQModifier", "its settings"]),
        ("GPTQModifier:\n  scheme: W4A16\n  sparsity: 0.5", &["line 3", "sparsity", "known", "dampening_frac"]),
        ("GPTQModifier: {scheme: W4}", &["no scheme W4;", "W4A16"]),
        ("GPTQModifier: {scheme: [W4A16]}", &["scheme: expected a name"]),
        ("GPTQModifier: {scheme: W4A16, config_groups: {}}", &["scheme", "config_groups"]),
        ("GPTQModifier: {scheme: W4A16, actorder: sideways}", &["actorder: sideways"]),
        ("GPTQModifier: {scheme: W4A16, targets: {a: 1}}", &["list of names"]),
        ("GPTQModifier: {scheme: W4A16, targets: []}", &["at least one name"]),
        ("GPTQModifier: {scheme: {W4A16: []}}", &["at least one name"]),
        ("GPTQModifier: {scheme: {}}", &["scheme: expected a name"]),
        ("GPTQModifier: {config_groups: {}}", &["config_groups: expected groups"]),
        ("GPTQModifier: {config_groups: {W4A16: []}}", &["at least one name"]),
        ("GPTQModifier: {config_groups: {g: {targets: [Linear], weights: {bits: 4}}}}", &["line 1", "weights", "bits"]),
        ("GPTQModifier: {config_groups: {g: {weights: {num_bits: 4, group_size: 8}}}}", &["g: no targets; add"]),
        ("GPTQModifier: {config_groups: {g: {targets: [Linear]}}}", &["g: no weights; add"]),
        ("GPTQModifier: {config_groups: {g: {targets: [Linear], weights: {num_bits: 4}}}}", &["no scheme with these"]),
        (
            "GPTQModifier: {config_groups: {g: {targets: [Linear], weights: {num_bits: 4, group_size: 8, observer: x}}}}",
            &["observer: x"],
        ),
        (
            &format!(
                "GPTQModifier: {{config_groups: {{g: {{targets: [Linear], weights: {fp8}, output_activations: {fp8}}}}}}}"
            ),
            &["output_activations"],
        ),
        ("GPTQModifier: {scheme: W4A16, kv_cache_scheme: {num_bits: 8}}", &["kv_cache_scheme"]),
        ("SparseGPTModifier: {targets: [Linear]}", &["no sparsity or mask_structure"]),
        ("SparseGPTModifier: {sparsity: [0.5, 0.6]}", &["sparsity: expected one value"]),
        ("SparseGPTModifier: {sparsity: 0.6, mask_structure: '2:4'}", &["0.6", "2:4"]),
        ("SparseGPTModifier: {mask_structure: '5:4'}", &["5:4"]),
        ("SparseGPTModifier: {sparsity: 0.5, preserve_sparsity_mask: true}", &["preserve_sparsity_mask"]),
        ("SparseGPTModifier: {sparsity: 0.5, owl_m: 5}", &["owl_m", "mask_structure"]),
        (
            "WandaPruningModifier: {sparsity: 0.5}\nGPTQModifier: {scheme: W4A16}",
            &["line 2", "takes two runs", "two recipes"],
        ),
        (
            "GPTQModifier: {scheme: W4A16}\nSparseGPTModifier: {sparsity: 0.5}",
            &["line 2", "SparseGPTModifier after GPTQModifier"],
        ),
        (
            "a_modifiers: {GPTQModifier: {scheme: W4A16}}\nb_modifiers: {GPTQModifier: {scheme: W8A16}}",
            &["GPTQModifier after"],
        ),
        (
            "SparseGPTModifier: {sparsity: 0.5, block_size: 64}\nGPTQModifier: {scheme: W4A16, block_size: 32}",
            &["blocksize", "32", "64"],
        ),
        ("GPTQModifier: {scheme: W4A16}\nGPTQModifier: {scheme: W4A16}", &["line 2", "twice"]),
        ("GPTQModifier: !!str x", &["the tag"]),
        ("a: *b", &["line 1"]),
        ("a: 1\n---\nb: 2", &["more than one document"]),
        ("a: [1", &["not YAML"]),
        ("? [1]\n: 2", &["a key is not text"]),
    ] {
        let error = parse(text).unwrap_err().to_string();
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        assert!(missing.is_empty() && error.contains("recipe.yaml, line ") && !error.contains('\n'), "{text}\n{error}");
    }
}

/// Other words for the linears of two modifiers are kept until the model is known.
#[test]
fn modifiers_of_one_sweep_may_name_their_linears_differently() {
    let with = |first: &str, second: &str| {
        let text = format!("SparseGPTModifier: {{sparsity: 0.5, {first}}}\nGPTQModifier: {{scheme: W4A16, {second}}}");
        parse(&text).unwrap().alike
    };
    assert_eq!(with("targets: [Linear], ignore: [a, b]", "ignore: [b, a]"), None);
    let alike = with("targets: ['re:a']", "ignore: [lm_head]").unwrap();
    assert!(alike.place.ends_with("recipe.yaml, line 2"), "{}", alike.place);
    assert_eq!((&alike.first.targets[..], &alike.first.ignore[..]), (&["re:a".to_string()][..], &[][..]));
    assert_eq!((alike.second.targets[0].as_str(), alike.second.ignore[0].as_str()), ("Linear", "lm_head"));
    assert_eq!((alike.first.modifier.as_str(), alike.second.modifier.as_str()), ("SparseGPTModifier", "GPTQModifier"));
}

/// Damaged text never panics, and what is read has no more than the text.
#[test]
fn damaged_text_is_an_error_or_a_recipe() {
    let text = "default_stage:\n  default_modifiers:\n    GPTQModifier:\n      config_groups: {g: {targets: ['re:.*a'], \
        weights: {num_bits: 4, group_size: 32}}}\n      ignore: [\"lm_head\"]\n";
    let mut read = 0;
    for at in 0..text.len() {
        for with in ["", "\n", ":", "[", "{", "'", "&a ", "*a", "!x ", "\t", "- ", "#", "|\n", "\u{0}"] {
            let damaged = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            if let Ok(tree) = yaml::parse("x", &damaged) {
                read += usize::from(modifiers::convert("x", &tree, &known()).is_ok());
            }
            let _ = toml::parse("x", &damaged, &known());
        }
    }
    assert!(read > 0);
}
