use paring_format::{Dtype, Element, ScaleType};
use paring_kernels::allocator::{LARGE, POOL_RESERVE, Pool};

use super::ledger::Ledger;
use super::stored;
use crate::compress::Kind;
use crate::plan::{Choice, Grouping, MethodInfo, Pattern, Permutation, Recipe, Rounding, Spqr};

const MIB: usize = 1 << 20;

#[test]
fn what_is_freed_is_held_until_it_is_too_much() {
    let mut ledger = Ledger::new(10 * MIB, Pool::EMPTY);
    ledger.at("one");
    let first = ledger.take("a", POOL_RESERVE);
    let small = ledger.take("b", LARGE / 2);
    ledger.free(first);
    // The same size is given out again, and nothing is added.
    let again = ledger.take("c", POOL_RESERVE);
    ledger.free_all(vec![again, small]);
    ledger.at("two");
    let other = ledger.take("d", 40 * MIB);
    ledger.free(other);
    // What is used now is more than ever was, and beside it 40 MiB more than may be kept: the oldest mapping goes.
    let last = ledger.take("e", POOL_RESERVE + 64 * MIB);
    ledger.free(last);
    let held = ledger.finish();
    assert_eq!(held.by_stage["one"], 10 * MIB + POOL_RESERVE + LARGE / 2);
    assert_eq!(held.by_stage["two"], 10 * MIB + 40 * MIB + POOL_RESERVE + 64 * MIB + LARGE / 2);
    assert_eq!((held.peak.at, held.peak.bytes()), ("two", held.by_stage["two"] as u64));
    let of = |name: &str| held.peak.parts.iter().find(|part| part.name == name).map(|part| part.bytes as usize);
    assert_eq!(
        (of("e"), of("a"), of("program and what is open")),
        (Some(POOL_RESERVE + 64 * MIB), None, Some(10 * MIB))
    );
    assert_eq!(of("kept for the next request"), Some(40 * MIB + LARGE / 2));
}

#[test]
fn zeros_that_nobody_touches_take_no_memory_until_they_were_used() {
    let mut ledger = Ledger::new(0, Pool::EMPTY);
    ledger.at("fresh");
    let fresh = ledger.touched("zeros", 64 * MIB, 3 * MIB);
    ledger.free(fresh);
    ledger.at("used");
    let used = ledger.take("numbers", 64 * MIB);
    ledger.free(used);
    ledger.file(5 * MIB);
    ledger.close(5 * MIB);
    let held = ledger.finish();
    // Touched pages are huge ones.
    assert_eq!((held.by_stage["fresh"], held.by_stage["used"]), (4 * MIB, 69 * MIB));
}

fn recipe(method: &'static str, pattern: Option<Pattern>, rounding: Option<Rounding>, spqr: Option<Spqr>) -> Recipe {
    let method = MethodInfo::named(method).unwrap();
    Recipe { method, pattern, rounding, spqr, input: None, percdamp: 0.01, blocksize: 128 }
}

#[test]
fn bytes_of_many_rows_follow_from_those_of_few() {
    let int = |bits, group| Rounding::int(bits, group);
    let sym = |rounding| Rounding { symmetric: true, ..rounding };
    let block = Grouping::Tile(64, 32);
    let e4m3 = Rounding { element: Element::E4m3, grouping: block, ..sym(int(8, None)) };
    let four = Rounding { element: Element::E2m1, ..sym(int(4, Some(32))) };
    let nv = Rounding { grouping: Grouping::Columns(16), scale_type: ScaleType::E4m3, ..four };
    let mx = Rounding { scale_type: ScaleType::Exponent, ..four };
    let half = Some(Pattern::NofM { keep: 2, of: 4 });
    let coded = Spqr { scale_bits: Some(3), zero_bits: Some(3), permutation: Permutation::ActOrder, ..Spqr::default() };
    let tall = Spqr { second_rows: 48, ..coded.clone() };
    let runs = [
        (recipe("sparsegpt", half, None, None), None),
        (recipe("sparsegpt", half, None, None), Some("sparse-24-bitmask")),
        (recipe("magnitude", Some(Pattern::Unstructured(0.5)), None, None), Some("sparse-bitmask")),
        (recipe("sparsegpt", half, Some(sym(int(4, Some(128)))), None), Some("marlin-24")),
        (recipe("rtn", None, Some(int(3, Some(32))), None), None),
        (recipe("rtn", None, Some(int(5, None)), None), None),
        (recipe("rtn", None, Some(sym(int(8, None))), None), Some("int-quantized")),
        (recipe("rtn", None, Some(e4m3), None), None),
        (recipe("rtn", None, Some(nv), None), None),
        (recipe("rtn", None, Some(mx), None), None),
        (recipe("rtn", None, Some(sym(int(4, Some(64)))), None), Some("dense")),
        (recipe("spqr", None, Some(int(3, Some(16))), Some(coded)), None),
        (recipe("spqr", None, Some(int(3, Some(16))), Some(tall)), None),
        (recipe("spqr", None, Some(int(4, Some(32))), Some(Spqr::default())), None),
    ];
    for (recipe, format) in runs {
        let kind = Kind::of(&Choice { recipe: &recipe, outlier_share: None, format }).unwrap();
        let dtype = kind.stored(Dtype::Bf16).dtype;
        for rows in [64, 1024, 1088] {
            let shape = [rows, 256];
            let direct = stored::encoded(&kind, &recipe, shape, dtype, 0.0).unwrap();
            let parts = stored::parts(&kind, &recipe, shape, dtype, 0.0).unwrap();
            assert_eq!(parts, direct, "{} {format:?}, {rows} rows", recipe.method);
        }
    }
}
