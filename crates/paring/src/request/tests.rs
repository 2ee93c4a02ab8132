use super::*;
use crate::Error;
use crate::plan::{Permutation, Recipe, SizedBy};

mod choices;

fn half() -> Request {
    Request::sparsify("model").pattern(Pattern::Unstructured(0.5))
}

#[test]
fn what_is_not_said_has_a_default() {
    let rounding = |plan: &Plan| plan.recipe.rounding.unwrap();
    let plan = Request::quantize("model").scheme("w4a16").plan().unwrap();
    assert_eq!((plan.recipe.method.name, rounding(&plan).grouping), ("gptq", Grouping::Columns(128)));
    assert!(rounding(&plan).symmetric && plan.needs_data() && plan.device == "cpu");
    let plan = Request::quantize("model").scheme("FP8_DYNAMIC").plan().unwrap();
    assert!(plan.recipe.method.name == "rtn" && !plan.needs_data());
    let plan = Request::quantize("model").bits(3).plan().unwrap();
    assert_eq!((plan.recipe.method.name, rounding(&plan).grouping), ("gptq", Grouping::Row));
    assert_eq!((plan.recipe.percdamp, plan.recipe.blocksize), (0.01, 128));
    let plan = Request::quantize("model").plan().unwrap();
    assert_eq!((plan.recipe.method.name, rounding(&plan).grouping), ("gptq", Grouping::Columns(128)));
    assert!(rounding(&plan).symmetric && rounding(&plan).act_order == ActOrder::Static);
    let plan = Request::quantize("model").method("rtn").group_size(64).plan().unwrap();
    assert!(rounding(&plan).act_order == ActOrder::None && rounding(&plan).sized_by == SizedBy::Request);
    let mut request = Request::quantize("model");
    request.recipe.symmetric = Some(false);
    assert_eq!(
        request.plan().unwrap().recipe.rounding.map(|r| (r.symmetric, r.sized_by)),
        Some((false, SizedBy::Usual("W4A16_ASYM")))
    );
    request.recipe = RecipeOptions::default();
    request.recipe.spqr.target_bits = Some(4.0);
    let plan = request.plan().unwrap();
    assert!(plan.recipe.method.name == "spqr" && plan.outlier_share.is_some());
    assert_eq!(plan.recipe.spqr.as_ref().unwrap().permutation, Permutation::ActOrder);
    assert_eq!((rounding(&plan).search, rounding(&plan).act_order), (Search::Weighted, ActOrder::None));
    request.recipe.published = true;
    assert_eq!(rounding(&request.plan().unwrap()).search, Search::MinMax);
    let plan = half().plan().unwrap();
    assert!(plan.recipe.method.name == "sparsegpt" && plan.recipe.rounding.is_none());
}

#[test]
fn groups_change_what_they_name() {
    let group = |change: Option<GroupChange>| GroupOptions {
        targets: vec!["re:.*down_proj".into()],
        change: change.map(Box::new),
        place: "recipe.toml, line 3".into(),
    };
    let eight = GroupChange { recipe: RecipeOptions { bits: Some(8), ..RecipeOptions::default() }, format: None };
    let request =
        Request { groups: vec![group(Some(eight)), group(None)], ..Request::quantize("model").bits(4).group_size(32) };
    let plan = request.plan().unwrap();
    let rounding = plan.overrides[0].recipe.as_ref().unwrap().rounding.unwrap();
    assert_eq!((rounding.element.bits(), rounding.grouping), (8, Grouping::Columns(32)));
    assert!(plan.overrides[1].recipe.is_none());
    let nine = GroupChange { recipe: RecipeOptions { bits: Some(9), ..RecipeOptions::default() }, format: None };
    let error = Request { groups: vec![group(Some(nine))], ..request }.plan().unwrap_err();
    assert_eq!(error.to_string(), "recipe.toml, line 3: wbits 9: must be 2 to 8");
    assert!(error.is_misuse());
}

/// SpQR's grids are searched unless rows share them, in groups of other layers too.
#[test]
fn grids_of_spqr_are_searched() {
    let searches = |recipe: &Recipe| recipe.rounding.unwrap().search;
    let mut request = Request::quantize("model").bits(3).group_size(16).method("spqr");
    assert_eq!(searches(&request.plan().unwrap().recipe), Search::Weighted);
    request.recipe.per_channel = Some(false);
    assert_eq!(searches(&request.plan().unwrap().recipe), Search::MinMax);
    request.recipe.search = Some(Search::Weighted);
    assert!(request.plan().unwrap_err().to_string().contains("needs a grid per row"));
    (request.recipe.per_channel, request.recipe.search) = (None, Some(Search::Mse));
    let error = request.plan().unwrap_err().to_string();
    assert_eq!(error, "scales mse is not for spqr; use scales weighted");
    let spqr = RecipeOptions { method: Some("spqr".into()), ..RecipeOptions::default() };
    let group = GroupOptions {
        targets: vec!["re:.*down_proj".into()],
        change: Some(Box::new(GroupChange { recipe: spqr, format: None })),
        place: "recipe.toml, line 3".into(),
    };
    let format = Some("dense".to_string());
    let mut others = Request { groups: vec![group], format, ..Request::quantize("model").bits(4).group_size(32) };
    for (published, want) in [(false, Search::Weighted), (true, Search::MinMax)] {
        others.recipe.published = published;
        let plan = others.plan().unwrap();
        assert_eq!(searches(plan.overrides[0].recipe.as_ref().unwrap()), want);
        // A GPU searches none of them, and the others where they are fitted before the sweep.
        let plan = others.for_device(plan, false).unwrap();
        assert_eq!(searches(plan.overrides[0].recipe.as_ref().unwrap()), Search::MinMax);
        assert_eq!(searches(&plan.recipe), want);
    }
}

#[test]
fn a_gpu_does_not_search_grids_of_spqr() {
    let mut request = Request::quantize("model").bits(3).group_size(16).method("spqr");
    let search = |plan: Plan| plan.recipe.rounding.unwrap().search;
    assert_eq!(search(request.for_device(request.plan().unwrap(), true).unwrap()), Search::Weighted);
    assert_eq!(search(request.for_device(request.plan().unwrap(), false).unwrap()), Search::MinMax);
    request.recipe.search = Some(Search::Weighted);
    assert_eq!(search(request.for_device(request.plan().unwrap(), true).unwrap()), Search::Weighted);
    let error = request.for_device(request.plan().unwrap(), false).unwrap_err().to_string();
    assert_eq!(error, "scales weighted of spqr is searched on the CPU only; use device cpu, or scales minmax");
    // Bits to reach are reached in other groups then.
    let mut request = Request::quantize("model");
    request.recipe.spqr.target_bits = Some(4.0);
    let rows = |plan: &Plan| plan.recipe.spqr.as_ref().unwrap().second_rows;
    let plan = request.plan().unwrap();
    let on_gpu = request.for_device(plan.clone(), false).unwrap();
    assert!(rows(&on_gpu) == 64 && rows(&plan) > 64 && on_gpu.outlier_share > plan.outlier_share);
}

#[test]
fn errors_of_options_say_which() {
    let mut too_many = Request::quantize("model").bits(4).group_size(32);
    too_many.recipe.spqr.target_bits = Some(4.0);
    let mut damped = Request::quantize("model").bits(4);
    damped.recipe.percdamp = Some(-1.0);
    for (request, expected) in [
        (Request::quantize("model").method("spqr"), Opt::Wbits),
        (Request::quantize("model").bits(1), Opt::Wbits),
        (Request::quantize("model").bits(4).group_size(0), Opt::GroupSize),
        (Request::quantize("model").scheme("W4A61"), Opt::Scheme),
        (Request::quantize("model").scheme("FP8").group_size(32), Opt::GroupSize),
        (Request::sparsify("model"), Opt::Pattern),
        (half().act_order(ActOrder::Group).bits(4), Opt::ActOrder),
        (too_many, Opt::TargetBits),
        (damped, Opt::Percdamp),
        (Request { format: Some("gguf".into()), ..half() }, Opt::Format),
        (Request { kv_cache: Some(QuantArgs::new(paring_format::Element::Int(4))), ..half() }, Opt::KvCache),
    ] {
        let error = request.plan().unwrap_err();
        match &error {
            Error::Option { option, misuse: true, .. } => assert_eq!(*option, expected, "{error}"),
            other => panic!("{other:?}"),
        }
        assert!(error.message().options().any(|name| name == expected.name()), "{error}");
    }
}

#[test]
fn names_that_lead_nowhere_are_errors_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let model = dir.path().to_string_lossy().into_owned();
    let request = Request::quantize(&model).bits(4).out(&out);
    // No data would help a folder that is no model.
    let error = request.prepare().err().unwrap();
    assert!(error.to_string().contains("no config.json here") && !error.is_misuse(), "{error}");
    let error = Request::quantize("org/name").bits(4).prepare().err().unwrap();
    assert!(error.to_string().starts_with("DATASET is missing") && error.is_misuse(), "{error}");
    let error = request.data("text.txt").prepare().err().unwrap();
    assert!(error.to_string().contains("no config.json here") && !error.is_misuse(), "{error}");
    let error = Request::quantize(&model).bits(4).data("text.txt").out(&model).prepare().err().unwrap();
    assert!(matches!(error, Error::Option { option: Opt::Out, .. }), "{error}");
    assert!(!out.exists());
}
