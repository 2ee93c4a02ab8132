//! Selection by a plan's layers, names and overrides, in a model of two blocks.

use super::*;
use crate::compress::tests::{golden, recipe};
use crate::plan::Rounding;
use crate::plan::file::Named;

/// Blocks, names to include, names to ignore, and overrides: their targets, and whether they compress.
type Asked =
    (Option<(usize, usize)>, &'static [&'static str], &'static [&'static str], &'static [(&'static str, bool)]);

fn select((layers, include, ignore, overrides): Asked) -> Result<Selection> {
    let four = recipe("rtn", None, Some(Rounding::int(4, Some(16))), None);
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let made = |&(target, compresses): &(&str, bool)| Override {
        targets: vec![target.to_string()],
        recipe: compresses.then(|| four.clone()),
        outlier_share: None,
        format: None,
    };
    let overrides = overrides.iter().map(made).collect();
    let plan =
        Plan { layers, include: owned(include), ignore: owned(ignore), overrides, ..Plan::new("", four.clone()) };
    Selection::new(&plan, golden().as_ref())
}

#[test]
fn linears_are_chosen_by_block_name_and_override() {
    // Linears by choice: that of the run, and those of the overrides.
    for (asked, expected) in [
        ((None, &[][..], &[][..], &[][..]), &[14][..]),
        ((Some((1, 2)), &[], &[], &[]), &[7]),
        ((None, &["re:.*q_proj"], &[], &[]), &[2]),
        ((None, &["re:.*q_proj", "model.layers.0.mlp.up_proj"], &[], &[]), &[3]),
        ((None, &[], &["re:.*mlp.*"], &[]), &[8]),
        ((None, &["re:.*_proj"], &["re:.*layers.0.*"], &[]), &[7]),
        // The head is never chosen; to ignore it is harmless.
        ((None, &[], &["lm_head"], &[]), &[14]),
        ((None, &[], &["model.norm", "re:.*embed.*"], &[]), &[14]),
        ((None, &[], &[], &[("re:.*down_proj", true)]), &[12, 2]),
        ((None, &[], &[], &[("re:.*down_proj", false)]), &[12, 0]),
        // The last override that names a linear decides.
        ((None, &[], &[], &[("re:.*mlp.*", true), ("re:.*layers.1.*", true)]), &[4, 3, 7]),
        ((None, &[], &[], &[("re:.*mlp.*", true), ("re:.*down_proj", false)]), &[8, 4, 0]),
        ((None, &[], &["re:.*layers.1.*"], &[("re:.*down_proj", true)]), &[6, 1]),
    ] {
        let selection = select(asked).unwrap();
        let count = |number: usize| selection.iter().filter(|&(_, of)| of == number).count();
        let found: Vec<usize> = (0..expected.len()).map(count).collect();
        assert_eq!(found, expected, "{asked:?}");
        assert_eq!(selection.len(), expected.iter().sum::<usize>(), "{asked:?}");
    }
    let selection = select((Some((0, 1)), &[], &[], &[("re:.*o_proj", true)])).unwrap();
    assert_eq!(selection.choice("model.layers.0.self_attn.o_proj"), Some(1));
    assert_eq!(selection.choice("model.layers.0.self_attn.q_proj"), Some(0));
    assert!(!selection.contains("model.layers.1.self_attn.q_proj") && !selection.contains("lm_head"));
    assert_eq!(selection.used(), BTreeSet::from([0, 1]));
}

#[test]
fn a_choice_of_nothing_is_told_why() {
    for (asked, words) in [
        ((Some((1, 1)), &[][..], &[][..], &[][..]), "layers 1..1: the model has the blocks 0..2"),
        ((Some((0, 3)), &[], &[], &[]), "layers 0..3"),
        ((None, &["q_proj"], &[], &[]), "include q_proj: no layer of this name; names look like model.layers.0."),
        (
            (None, &["lm_head"], &[], &[]),
            "include lm_head matches nothing to compress: lm_head is a layer outside the blocks, and stays as it is",
        ),
        (
            (None, &["re:.*_proj", "re:.*head"], &[], &[]),
            "include re:.*head matches nothing to compress: lm_head is a layer outside",
        ),
        (
            (None, &["model.norm"], &[], &[]),
            "include model.norm matches nothing to compress: model.norm is not a matrix",
        ),
        ((None, &["re:.*embed.*"], &[], &[]), "model.embed_tokens is not a matrix"),
        (
            (None, &[], &[], &[("lm_head", true)]),
            "the override of lm_head matches nothing to compress: lm_head is a layer outside",
        ),
        ((None, &[], &["re:nothing"], &[]), "ignore re:nothing: no layer"),
        ((None, &["re:("], &[], &[]), "re:("),
        ((None, &[], &["re:.*"], &[]), "no layer is left to compress"),
        ((None, &[], &[], &[("re:nothing", true)]), "the override of re:nothing"),
        ((None, &[], &["re:.*down_proj"], &[("re:.*down_proj", true)]), "the override of re:.*down_proj has no effect"),
        ((None, &[], &[], &[("re:.*q_proj", true), ("re:.*self_attn.*", true)]), "the override of re:.*q_proj"),
    ] {
        let error = select(asked).err().unwrap_or_else(|| panic!("{asked:?}")).to_string();
        assert!(error.contains(words), "{error}: not {words}");
    }
}

#[test]
fn a_pattern_that_also_matches_the_head_is_noted() {
    let notes = |include: &[&str], ignore: &[&str]| {
        let [include, ignore] = [include, ignore].map(|names| names.iter().map(|name| name.to_string()).collect());
        let recipe = recipe("rtn", None, Some(Rounding::int(4, Some(16))), None);
        left(&Plan { include, ignore, ..Plan::new("", recipe) }, golden().as_ref()).unwrap()
    };
    assert_eq!(notes(&["re:.*_proj"], &[]).len() + notes(&["re:.*"], &["lm_head"]).len(), 0);
    let noted = notes(&["re:.*_proj", "re:.*"], &[]);
    assert!(
        noted.len() == 1 && noted[0].to_string().starts_with("lm_head stays as it is, although re:.*"),
        "{noted:?}"
    );
}

#[test]
fn other_words_for_the_same_linears() {
    let named = |modifier: &str, targets: &[&str], ignore: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Named { modifier: modifier.into(), targets: owned(targets), ignore: owned(ignore) }
    };
    let check = |first, second| {
        check_alike(&Alike { place: "r.yaml, line 3".into(), first, second }, golden().as_ref())
            .map_err(|e| e.to_string())
    };
    let all = || named("B", &["Linear"], &["lm_head"]);
    for (targets, ignore) in [(&["Linear"][..], &[][..]), (&["re:.*_proj"], &["re:.*lm_head"]), (&["re:.*"], &[])] {
        assert_eq!(check(named("A", targets, ignore), all()), Ok(()));
    }
    let error = check(named("A", &["re:.*mlp.*"], &[]), all()).unwrap_err();
    let expected = "r.yaml, line 3: B and A have different targets (model.layers.0.self_attn.q_proj belongs to \
        B, but not to \
        A); give both the same";
    assert_eq!(error, expected);
}
