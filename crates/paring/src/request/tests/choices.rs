//! Plans that options made are said in those options, and others lose nothing.

use serde_json::{Value, json};

use crate::plan::{ActOrder, Grouping, MaskSearch, Pattern, Search};
use crate::report::choices::Choices;
use crate::request::RecipeOptions;

/// A plan with this recipe, as a report has it.
fn plan(options: &RecipeOptions) -> Value {
    let plan = crate::plan::Plan::new("demo", options.recipe().unwrap());
    serde_json::to_value(plan).unwrap()
}

/// The recipe of a plan as a line, and its words.
fn told(plan: &Value) -> (String, String) {
    let choices = Choices::of(plan);
    assert_eq!(choices.rest, [], "all of it has an option");
    let line: Vec<String> = choices.scheme().map(|choice| choice.spelled(|name| format!("--{name}"))).collect();
    (line.join(" "), choices.words())
}

#[test]
fn recipes_are_said_in_options() {
    let base = RecipeOptions::default;
    let method = |name: &str| Some(name.to_string());
    let scheme = |name: &str| RecipeOptions { scheme: Some(name.into()), ..base() };
    let half = Some(Pattern::Unstructured(0.55));
    let two = Some(Pattern::NofM { keep: 2, of: 4 });
    let columns = |size| Some(Grouping::Columns(size));
    let mut outliers = RecipeOptions { bits: Some(3), grouping: columns(16), ..base() };
    outliers.spqr.outlier_threshold = Some(0.2);
    outliers.spqr.scale_bits = Some(3);
    for (options, line, words) in [
        (
            RecipeOptions { bits: Some(3), grouping: columns(32), ..base() },
            "--method gptq --wbits 3 --groupsize 32 --published",
            "3-bit GPTQ in groups of 32",
        ),
        (
            RecipeOptions {
                bits: Some(4),
                symmetric: Some(true),
                percdamp: Some(0.1),
                search: Some(Search::Mse),
                ..base()
            },
            "--method gptq --wbits 4 --groupsize -1 --sym --scales mse --percdamp 0.1 --actorder none",
            "4-bit GPTQ per row",
        ),
        (scheme("W4A16"), "--method gptq --wbits 4 --groupsize 128 --sym --published", "4-bit GPTQ in groups of 128"),
        (scheme("FP8_DYNAMIC"), "--method rtn --scheme FP8_DYNAMIC", "FP8_DYNAMIC RTN"),
        (scheme("NVFP4"), "--method gptq --scheme NVFP4 --published", "NVFP4 GPTQ"),
        (
            RecipeOptions { grouping: columns(64), ..scheme("W4A8") },
            "--method gptq --scheme W4A8 --groupsize 64 --published",
            "W4A8 GPTQ in groups of 64",
        ),
        (
            RecipeOptions { method: method("magnitude"), pattern: half, ..base() },
            "--method magnitude --sparsity 0.55",
            "55 % magnitude pruning",
        ),
        (
            RecipeOptions { method: method("sparsegpt"), pattern: two, bits: Some(4), grouping: columns(64), ..base() },
            "--method sparsegpt --wbits 4 --groupsize 64 --pattern 2:4 --published",
            "2:4 SparseGPT, 4-bit in groups of 64",
        ),
        (
            RecipeOptions {
                method: method("sparsegpt"),
                pattern: two,
                mask: Some(MaskSearch::Descent),
                ..RecipeOptions { bits: Some(4), act_order: Some(ActOrder::Static), ..base() }
            },
            "--method sparsegpt --wbits 4 --groupsize -1 --pattern 2:4 --mask descent --actorder static --scales minmax \
             --refit=false",
            "2:4 SparseGPT, 4-bit per row",
        ),
        (
            outliers,
            "--method spqr --wbits 3 --groupsize 16 --qq-scale-bits 3 --qq-groupsize 16 --outlier-threshold 0.2 \
             --published",
            "3-bit SpQR in groups of 16",
        ),
    ] {
        assert_eq!(told(&plan(&options)), (line.to_string(), words.to_string()));
    }
}

#[test]
fn masks_that_are_given_are_said_by_their_file() {
    let base = || RecipeOptions { pattern: Some(Pattern::Given), ..RecipeOptions::default() };
    let method = |name: &str| Some(name.to_string());
    for (options, line, words) in [
        (RecipeOptions { method: method("magnitude"), ..base() }, "--method magnitude", "magnitude pruning"),
        (
            RecipeOptions { method: method("sparsegpt"), refit: Some(true), ..base() },
            "--method sparsegpt --refit",
            "SparseGPT",
        ),
        (RecipeOptions { method: method("sparsegpt"), ..base() }, "--method sparsegpt --published", "SparseGPT"),
    ] {
        let mut plan = plan(&options);
        let pattern = json!({"nof_m": {"keep": 2, "of": 4}});
        plan["masks"] = json!({"file": "a b.safetensors", "digest": "0123456789abcdef", "pattern": pattern});
        assert_eq!(told(&plan), (line.to_string(), format!("{words} under given masks")));
        let choices = Choices::of(&plan);
        let run: Vec<&str> = choices.run.iter().map(|choice| choice.value.as_str()).collect();
        assert!(run.contains(&"a b.safetensors") && run.contains(&"2:4"), "{run:?}");
        assert_eq!((choices.prunes(), choices.baseline()), (true, "the masks alone"));
    }
}

#[test]
fn runs_and_overrides_are_said_too() {
    let mut plan = plan(&RecipeOptions { bits: Some(4), ..RecipeOptions::default() });
    let mut eight = plan["recipe"].clone();
    eight["rounding"]["weights"]["num_bits"] = json!(8);
    plan["dataset"] = "my text".into();
    plan["nsamples"] = json!(16);
    plan["layers"] = json!([0, 6]);
    plan["ignore"] = json!(["re:.*a", "b"]);
    plan["true_sequential"] = true.into();
    plan["overwrite"] = true.into();
    plan["overrides"] = json!([
        {"targets": ["re:.*down_proj"], "recipe": eight, "outlier_share": null, "format": null},
        {"targets": ["x", "y"], "recipe": null, "outlier_share": null, "format": null},
    ]);
    let choices = Choices::of(&plan);
    let run: Vec<String> = choices.run.iter().map(|choice| choice.spelled(|name| format!("--{name}"))).collect();
    assert_eq!(
        run,
        [
            "model demo",
            "calibration data my text",
            "--nsamples 16",
            "--true-sequential",
            "--layers 0..6",
            "--ignore re:.*a",
            "--ignore b",
            "--dtype f32",
            "--device cpu"
        ]
    );
    assert_eq!(choices.rest, []);
    let others: Vec<_> = choices.overrides.iter().map(|o| (o.targets.as_str(), o.recipe.as_ref())).collect();
    let changed: Vec<String> = others[0].1.unwrap().iter().map(|choice| choice.spelled(str::to_string)).collect();
    assert_eq!((others[0].0, changed), ("re:.*down_proj", vec!["wbits 8".to_string()]));
    assert_eq!(others[1], ("x y", None));
    assert_eq!(choices.words(), "4-bit GPTQ per row, mixed");
    assert_eq!((choices.prunes(), choices.baseline()), (false, "plain rounding"));
    plan["overrides"][0]["recipe"]["pattern"] = json!({"nof_m": {"keep": 2, "of": 4}});
    assert_eq!(Choices::of(&plan).baseline(), "magnitude pruning and plain rounding");
}

#[test]
fn what_no_option_says_keeps_its_path() {
    for (plan, rest) in [
        (json!({"recipe": {"method": 7, "new": "thing"}}), vec!["recipe.method 7", "recipe.new thing"]),
        (json!({"nsamples": "many", "layers": [1]}), vec!["nsamples many", "layers 1"]),
        (json!({"overrides": [{"targets": [1], "recipe": {"blocksize": {}}}]}), vec!["overrides.0.targets 1"]),
        (
            json!({"recipe": {"rounding": {"weights": {"type": "complex"}}}}),
            vec!["recipe.rounding.weights.type complex"],
        ),
        (json!("text"), vec![" text"]),
        (json!(null), vec![]),
    ] {
        let choices = Choices::of(&plan);
        let found: Vec<String> = choices.rest.iter().map(|choice| choice.spelled(str::to_string)).collect();
        assert_eq!(found, rest, "{plan}");
        assert_eq!((choices.words(), choices.prunes()), (String::new(), false));
    }
}
