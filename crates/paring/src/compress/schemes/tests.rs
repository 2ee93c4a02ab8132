//! Layouts, schemes and configurations of choices, as tables.

use paring_format::{Element, ScaleType, Strategy};

use super::*;
use crate::compress::tests::{golden, recipe};
use crate::plan::{Grouping, Override, Pattern};

const HALF: Option<Pattern> = Some(Pattern::NofM { keep: 2, of: 4 });

fn int(bits: u32, group_size: usize) -> Rounding {
    Rounding::int(bits, (group_size > 0).then_some(group_size))
}

fn symmetric(rounding: Rounding) -> Rounding {
    Rounding { symmetric: true, ..rounding }
}

fn ordered(act_order: ActOrder) -> Rounding {
    Rounding { act_order, ..symmetric(int(4, 128)) }
}

fn rtn(rounding: Rounding) -> Recipe {
    recipe("rtn", None, Some(rounding), None)
}

fn pruned(pattern: Pattern, rounding: Option<Rounding>) -> Recipe {
    recipe("sparsegpt", Some(pattern), rounding, None)
}

fn spqr(rounding: Rounding, spqr: Spqr) -> Recipe {
    recipe("spqr", None, Some(rounding), Some(spqr))
}

/// The choice that the SpQR package can read.
fn package() -> Spqr {
    Spqr { scale_bits: Some(3), zero_bits: Some(3), second_rows: 16, ..Spqr::default() }
}

/// With 8-bit inputs whose scales are found as the model runs.
fn with_inputs(recipe: Recipe) -> Recipe {
    let input = QuantArgs { strategy: Strategy::Token, symmetric: true, ..QuantArgs::new(Element::Int(8)) };
    Recipe { input: Some(input), ..recipe }
}

/// The same in 8-bit floats.
fn with_float_inputs(recipe: Recipe) -> Recipe {
    let input = QuantArgs { strategy: Strategy::Token, symmetric: true, ..QuantArgs::new(Element::E4m3) };
    Recipe { input: Some(input), ..recipe }
}

fn choice<'a>(recipe: &'a Recipe, format: Option<&'a str>) -> Choice<'a> {
    Choice { recipe, outlier_share: None, format }
}

#[test]
fn a_choice_has_a_layout() {
    let e4m3 = Rounding { element: Element::E4m3, ..symmetric(int(8, 0)) };
    let e2m1 = Rounding { element: Element::E2m1, ..symmetric(int(4, 32)) };
    let nvfp4 = Rounding { grouping: Grouping::Columns(16), scale_type: ScaleType::E4m3, ..e2m1 };
    let mxfp4 = Rounding { scale_type: ScaleType::Exponent, ..e2m1 };
    for (recipe, format, expected) in [
        (rtn(int(4, 128)), None, "pack-quantized"),
        (rtn(int(3, 0)), None, "pack-quantized"),
        (rtn(symmetric(int(8, 0))), Some("int-quantized"), "int-quantized"),
        (with_inputs(rtn(symmetric(int(8, 0)))), None, "int-quantized"),
        (with_inputs(rtn(symmetric(int(4, 0)))), None, "int-quantized"),
        (rtn(e4m3), None, "naive-quantized"),
        (with_float_inputs(rtn(e4m3)), None, "float-quantized"),
        (rtn(nvfp4), None, "nvfp4-pack-quantized"),
        (rtn(mxfp4), None, "mxfp4-pack-quantized"),
        (rtn(Rounding { element: Element::E2m3, ..mxfp4 }), None, "mxfp6-pack-quantized"),
        (rtn(int(4, 128)), Some("dense"), "dense"),
        (rtn(ordered(ActOrder::Static)), None, "pack-quantized"),
        (rtn(ordered(ActOrder::Group)), Some("dense"), "dense"),
        (pruned(HALF.unwrap(), None), None, "dense"),
        (pruned(HALF.unwrap(), Some(int(4, 128))), None, "pack-quantized"),
        (pruned(HALF.unwrap(), None), Some("sparse-24-bitmask"), "sparse-24-bitmask"),
        (pruned(Pattern::NofM { keep: 1, of: 4 }, None), Some("sparse-24-bitmask"), "sparse-24-bitmask"),
        (pruned(Pattern::Unstructured(0.5), None), Some("sparse-bitmask"), "sparse-bitmask"),
        (pruned(HALF.unwrap(), Some(symmetric(int(4, 128)))), Some("marlin-24"), "marlin-24"),
        (spqr(int(3, 16), Spqr::default()), None, "paring-spqr"),
        (spqr(int(3, 16), package()), Some("spqr"), "spqr"),
        (spqr(int(3, 16), package()), Some("dense"), "dense"),
    ] {
        let kind = Kind::of(&choice(&recipe, format)).unwrap();
        assert_eq!(kind.layout.name(), expected, "{recipe:?} {format:?}");
        // Dense weights have no scheme; legacy layouts name themselves for dense weights, too.
        assert_eq!(kind.scheme.is_none(), expected == "dense", "{recipe:?} {format:?}");
        if let Some(scheme) = kind.scheme {
            assert_eq!(scheme.format, expected);
            assert_eq!(scheme.input, recipe.input);
        }
    }
}

#[test]
fn a_choice_for_no_layout_is_told_why() {
    for (recipe, format, words) in [
        (rtn(int(4, 128)), "nothing", "format nothing: no such format; known: "),
        (rtn(int(4, 128)), "paring-spqr", "needs method spqr"),
        (rtn(int(4, 128)), "int-quantized", "stores a byte for every weight; use pack-quantized for wbits 4"),
        (rtn(int(4, 128)), "float-quantized", "; use pack-quantized"),
        (with_inputs(rtn(symmetric(int(8, 0)))), "dense", "cannot store quantized activations; leave it out"),
        (rtn(ordered(ActOrder::Group)), "pack-quantized", "actorder group needs a group for each column"),
        (pruned(HALF.unwrap(), None), "pack-quantized", "pruning alone makes none; add bits"),
        (pruned(Pattern::NofM { keep: 4, of: 8 }, None), "sparse-24-bitmask", "prune with pattern 2:4"),
        (pruned(Pattern::Unstructured(0.5), None), "sparse-24-bitmask", "prune with pattern 2:4"),
        (pruned(HALF.unwrap(), None), "marlin-24", "add wbits 4 sym"),
        (pruned(HALF.unwrap(), Some(int(4, 128))), "marlin-24", "add sym"),
        (pruned(HALF.unwrap(), Some(symmetric(int(3, 128)))), "marlin-24", "holds integers of 4 or 8 bits"),
        (pruned(HALF.unwrap(), Some(symmetric(int(4, 128)))), "sparse-bitmask", "holds integers of 8 bits"),
        (pruned(HALF.unwrap(), Some(ordered(ActOrder::Group))), "marlin-24", "use actorder static"),
        (spqr(int(3, 16), Spqr::default()), "pack-quantized", "cannot hold SpQR's fractional zeros"),
        (spqr(int(3, 16), Spqr::default()), "marlin-24", "cannot hold SpQR's fractional zeros"),
        (spqr(int(4, 16), package()), "spqr", "can hold only wbits 3 groupsize 16"),
        (spqr(int(3, 16), Spqr { keep_last_columns: 1, ..package() }), "spqr", "can hold only wbits 3 groupsize 16"),
    ] {
        let error = Kind::of(&choice(&recipe, Some(format))).err().unwrap_or_else(|| panic!("{format} {recipe:?}"));
        let text = error.to_string();
        assert!(text.contains(words), "{text}: not {words}");
    }
}

/// A plan of these choices, the first for what no other one names.
fn mixed(first: (Recipe, Option<&str>), others: &[(&str, Option<Recipe>, Option<&str>)]) -> Plan {
    let overrides = others.iter().map(|(target, recipe, format)| Override {
        targets: vec![target.to_string()],
        recipe: recipe.clone(),
        outlier_share: None,
        format: format.map(String::from),
    });
    Plan { format: first.1.map(String::from), overrides: overrides.collect(), ..Plan::new("", first.0) }
}

#[test]
fn what_one_checkpoint_cannot_hold_is_refused() {
    let four = || rtn(symmetric(int(4, 128)));
    let package = || spqr(int(3, 16), package());
    for (plan, words) in [
        (mixed((four(), None), &[("a", Some(package()), Some("spqr"))]), "no program reads both"),
        (
            mixed((pruned(HALF.unwrap(), None), Some("sparse-24-bitmask")), &[("a", Some(four()), None)]),
            "format sparse-24-bitmask is for all layers",
        ),
        (
            mixed((pruned(HALF.unwrap(), None), None), &[("a", Some(package()), Some("spqr"))]),
            "one of them needs all floats in its own type",
        ),
    ] {
        let error = kinds(&plan).err().expect(words).to_string();
        assert!(error.contains(words), "{error}: not {words}");
    }
    let fine = mixed((four(), None), &[("a", Some(rtn(int(8, 0))), None), ("b", None, None)]);
    let kinds = kinds(&fine).unwrap();
    let names: Vec<_> = kinds.iter().map(|kind| kind.as_ref().map(|kind| kind.layout.name())).collect();
    assert_eq!(names, [Some("pack-quantized"), Some("pack-quantized"), None]);
}

#[test]
fn a_config_says_of_every_linear_how_it_is_stored() {
    let decoder = golden();
    let four = || rtn(symmetric(int(4, 16)));
    let eight = || Some(rtn(symmetric(int(8, 16))));
    let down = "model.layers.0.mlp.down_proj";
    for (plan, targets, ignored) in [
        // One scheme for all: a class, and the head left out.
        (mixed((four(), None), &[]), &[&["Linear"][..]][..], &["lm_head"][..]),
        // A linear that stays dense.
        (mixed((four(), None), &[(down, None, None)]), &[&["Linear"]], &["lm_head", down]),
        // Two schemes; a portable pattern stays, and choices of one scheme share a group.
        (
            mixed((four(), None), &[("re:.*down_proj", eight(), None)]),
            &[&["Linear"], &["re:.*down_proj"]],
            &["lm_head"],
        ),
        (
            mixed((four(), None), &[(down, eight(), None), ("re:.*up_proj", eight(), None)]),
            &[&["Linear"], &[down, "re:.*up_proj"]],
            &["lm_head"],
        ),
        (mixed((four(), None), &[(down, Some(four()), None)]), &[&["Linear"]], &["lm_head"]),
        // A pattern that other programs may read otherwise is written as names.
        (mixed((four(), None), &[("re:.*0[.]mlp.down_proj", eight(), None)]), &[&["Linear"], &[down]], &["lm_head"]),
        // A later override decides, which readers that take the first match would not know.
        (
            mixed((four(), None), &[("re:.*down_proj", eight(), None), ("re:.*layers.1.*", Some(four()), None)]),
            &[&["Linear"], &[down]],
            &["lm_head"],
        ),
    ] {
        let selection = Selection::new(&plan, decoder.as_ref()).unwrap();
        let kinds = kinds(&plan).unwrap();
        let kept = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(|linear| linear.name);
        let kept = kept.filter(|name| !selection.contains(name)).collect();
        let config = config(&plan, &selection, &kinds, decoder.outer_linears(), kept).unwrap().unwrap();
        let found: Vec<&[String]> = config.groups.iter().map(|(_, scheme)| &scheme.targets[..]).collect();
        assert_eq!(found, targets, "{:?}", plan.overrides);
        assert_eq!(config.ignore, ignored, "{:?}", plan.overrides);
        for (name, number) in selection.iter() {
            let weights = kinds[number].as_ref().and_then(|kind| kind.scheme.as_ref()?.weights.clone());
            assert_eq!(config.scheme(name).unwrap().and_then(|scheme| scheme.weights.clone()), weights, "{name}");
        }
    }
    // Dense everywhere: no config at all.
    let dense = Plan::new("", pruned(HALF.unwrap(), None));
    let selection = Selection::new(&dense, decoder.as_ref()).unwrap();
    let made = config(&dense, &selection, &kinds(&dense).unwrap(), decoder.outer_linears(), Vec::new()).unwrap();
    assert!(made.is_none());
}

#[test]
fn patterns_that_every_program_reads_alike() {
    for (target, portable) in [
        ("model.layers.0.mlp.down_proj", true),
        ("re:.*down_proj", true),
        (r"re:model\.layers\.\d+\.mlp.*$", true),
        ("re:(a|b)+", true),
        ("re:(?i)a", false),
        ("re:[ab]", false),
        (r"re:\w+", false),
        ("re:a{2}", false),
        ("re:ä", false),
    ] {
        assert_eq!(is_portable(target), portable, "{target}");
    }
}
