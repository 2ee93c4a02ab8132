use paring_format::{Dtype, Element, ScaleType};
use paring_kernels::allocator::POOL_RESERVE;

use super::LLAMAS;
use super::memory::{SMALL, UNSEEN};
use crate::Precision;
use crate::compress::{Kind, stored};
use crate::plan::{Choice, Grouping, MethodInfo, Pattern, Permutation, Recipe, Rounding, Spqr};

fn recipe(method: &'static str, pattern: Option<Pattern>, rounding: Option<Rounding>, spqr: Option<Spqr>) -> Recipe {
    let method = MethodInfo::named(method).unwrap();
    Recipe { pattern, rounding, spqr, ..Recipe::new(method) }
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
        (recipe("rtn", None, Some(Rounding { element: Element::E2m3, ..mx }), None), None),
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

#[test]
fn memory_of_a_block_of_seven_billion_is_counted_by_hand() {
    let four_bits = Rounding { symmetric: true, ..Rounding::int(4, Some(128)) };
    let recipe = recipe("gptq", None, Some(four_bits), None);
    let mut sheet = LLAMAS[0].sheet(&recipe, 128, 2048).unwrap();
    let (base, freed) = (300 << 20, 100 << 20);
    let peak = sheet.host_peak(base, freed);
    let (dim, inner) = (4096, 11008);
    // The last fan is the fullest: its Gram matrix, its factor and the factor's workspace are the largest.
    let square = 4 * inner * inner;
    let weights = 4 * dim * dim + 3 * dim * inner;
    // Four bits each, a scale in bfloat16 for 128 of them, and a shape for each linear.
    let shard = weights / 2 + 2 * weights / 128 + 7 * 16;
    let expected = [
        ("weights of the block", 2 * weights),
        ("activations of all windows", 4 * 128 * 2048 * dim),
        ("Gram matrices", square),
        ("factor", square),
        ("workspace", square / 2),
        ("weights of a fan", 10 * dim * inner),
        ("weights in the sweep", 4 * dim * inner),
        ("shards", 2 * shard),
        ("kept for the next request", POOL_RESERVE),
        // The embedding or the head, which is copied at the end.
        ("pages of files", 2 * 32000 * dim),
        ("buffers of threads", SMALL + 8 * inner * 512),
        ("program and what is open", base - freed + UNSEEN),
    ];
    assert_eq!(peak.at, "sweep");
    let parts: Vec<(&str, usize)> = peak.parts.iter().map(|part| (part.name, part.bytes as usize)).collect();
    assert_eq!(parts, expected);
    // With longer batches a batch is the fullest: the MLP's part in f32, which in bfloat16 is no more than the attention's.
    sheet.batches = vec![16; 8];
    let numbers = (dim + 3 * dim) + 2 * dim + (dim + dim) + dim;
    let batch = 16 * 2048 * (4 * numbers + 2 * inner);
    let peak = sheet.host_peak(base, freed);
    assert_eq!(peak.at, "gram");
    assert!(peak.parts.iter().any(|part| part.name == "activations of a batch" && part.bytes == batch as u64));
    sheet.precision = Precision::F32;
    let numbers = (dim + 2 * inner) + (inner + dim) + dim;
    let batch = 16 * 2048 * 4 * numbers;
    let peak = sheet.host_peak(base, freed);
    assert!(peak.parts.iter().any(|part| part.name == "activations of a batch" && part.bytes == batch as u64));
}

#[test]
fn a_run_without_data_holds_a_fan_and_shards() {
    let recipe = recipe("rtn", None, Some(Rounding::int(4, Some(128))), None);
    let sheet = LLAMAS[1].sheet(&recipe, 0, 2048).unwrap();
    let peak = sheet.host_peak(1 << 20, 0);
    // The embedding or the head, in bfloat16, is more than any block's.
    assert_eq!(peak.at, "write");
    let matrix = 2 * 128_256 * 4096;
    let names = ["shards", "kept for the next request", "pages of files", "program and what is open"];
    assert_eq!(peak.parts.iter().map(|part| part.name).collect::<Vec<_>>(), names);
    assert_eq!((peak.parts[0].bytes, peak.parts[2].bytes), (2 * matrix, matrix));
    // Gate and up as they were, as swept and as codes, with their masks, and one more of them.
    assert_eq!(peak.parts[1].bytes, POOL_RESERVE.min((2 * 10 + 4) * 4096 * 14336) as u64);
}

#[test]
fn a_shift_that_keeps_zeros_holds_two_more_matrices() {
    let four_bits = Rounding { symmetric: true, ..Rounding::int(4, Some(128)) };
    let matrix = |recipe: Recipe| {
        let mut sheet = LLAMAS[0].sheet(&recipe, 1, 128).unwrap();
        (sheet.dense, sheet.sequential) = (true, true);
        let peak = sheet.host_peak(1 << 20, 0);
        assert_eq!(peak.at, "shift");
        peak.parts.iter().find(|part| part.name == "matrix of the shift").unwrap().bytes
    };
    let half = Some(Pattern::NofM { keep: 2, of: 4 });
    // A factor in f64 and the matrix as it was; where nothing is pruned, the matrix that weights beside zeros are fitted by too, twice.
    assert_eq!(matrix(recipe("gptq", None, Some(four_bits), None)), 5 * 4 * 11008 * 11008);
    assert_eq!(matrix(recipe("sparsegpt", half, None, None)), 3 * 4 * 11008 * 11008);
}
