//! Unit tests of attention; its cases are in [`crate::cases`].

use super::*;
use crate::cases::attention::slopes;
use candle_core::Device;

const SCALE: f32 = 0.3;

fn random((b, t, heads, d): (usize, usize, usize, usize), size: f32, seed: u64) -> Tensor {
    Tensor::from_vec(crate::test_values(b * t * heads * d, size, seed), (b, t, heads, d), &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_window_that_reaches_back_to_the_first_key_changes_no_bit() {
    let (q, k, v) = (random((1, 200, 4, 16), 1.0, 1), random((1, 200, 2, 16), 1.0, 2), random((1, 200, 2, 16), 1.0, 3));
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |window| {
            let scores = Scores { window, ..Scores::scaled(SCALE) };
            flat(&causal(&q, &k, &v, &scores, precision).unwrap())
        };
        assert!(run(Some(200)) == run(None), "{precision:?}");
        assert!(run(Some(199)) != run(None), "{precision:?}");
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (q, k, v) = (random((2, 200, 4, 32), 1.0, 1), random((2, 200, 2, 32), 1.0, 2), random((2, 200, 2, 32), 1.0, 3));
    let bias = slopes(4, 200, &Device::Cpu).unwrap();
    let scores = Scores { scale: 0.2, window: Some(70), bias: Some(&bias) };
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            flat(&pool.install(|| causal(&q, &k, &v, &scores, precision).unwrap()))
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(one == run(threads), "{precision:?} with {threads} threads");
        }
    }
}

#[test]
fn tiles_of_a_gpu_stay_within_their_memory() {
    // Llama 2 7B at 2048 tokens: whole tiles, 64 MiB of scores.
    assert_eq!(gpu_tile(2048, 2048, 32, usize::MAX), (256, 2048));
    assert_eq!(gpu_scratch(2048, 32, 32, 128, None, Precision::F32), (64 << 20) + 4 * 32 * 256);
    let parts = 2048 * 4096 * 14;
    assert_eq!(gpu_scratch(2048, 32, 32, 128, None, Precision::Bf16), (96 << 20) + 4 * 32 * 256 + parts);
    // Long sequences have fewer queries, until one is left.
    assert_eq!(gpu_tile(1 << 17, 1 << 17, 64, usize::MAX), (4, 1 << 17));
    assert_eq!(gpu_tile(1 << 20, 1 << 20, 64, usize::MAX), (1, 1 << 20));
    // A window saves keys; short sequences save all.
    assert_eq!(gpu_tile(1 << 17, 1 << 17, 32, 4096), (237, 4416));
    assert_eq!(gpu_tile(7, 7, 4, usize::MAX), (7, 7));
    // One query after many keys.
    assert_eq!(gpu_tile(1, 3000, 4, usize::MAX), (1, 3000));
}

#[test]
fn wrong_shapes_are_errors() {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
    let x = |n: usize| zeros(&[1, 4, n, 8]);
    let run = |q: usize, k: usize, v: usize, scores: Scores<'_>| {
        causal(&x(q), &x(k), &x(v), &scores, Precision::F32).map_err(|e| e.to_string())
    };
    let plain = Scores::scaled(1.0);
    assert!(run(2, 2, 2, plain).is_ok());
    assert!(run(3, 2, 2, plain).is_err());
    assert!(run(2, 2, 1, plain).is_err());
    let error = run(2, 2, 2, Scores { window: Some(0), ..plain }).unwrap_err();
    assert!(error.starts_with("attention with a window of 0 keys"), "{error}");
    for dims in [[1, 4], [2, 3]] {
        let error = run(2, 2, 2, Scores { bias: Some(&zeros(&dims)), ..plain }).unwrap_err();
        let expected = format!("attention of 2 heads over 4 keys with a bias of shape {dims:?}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

/// A cache of these keys and values, appended in pieces of `step` positions.
fn cache(cache_type: CacheType, k: &Tensor, v: &Tensor, step: usize) -> KeyValues {
    let (len, groups, dim) = k.dims3().unwrap();
    let mut cache = KeyValues::new(cache_type, groups, dim, [&[0.02], &[0.03]], &Device::Cpu).unwrap();
    for first in (0..len).step_by(step) {
        let count = step.min(len - first);
        cache.append(&k.narrow(0, first, count).unwrap(), &v.narrow(0, first, count).unwrap()).unwrap();
    }
    cache
}

const CACHE_TYPES: [CacheType; 3] = [CacheType::F32, CacheType::Bf16, CacheType::E4m3];

#[test]
fn caches_do_not_depend_on_pieces_and_forget() {
    let (q, k, v) = (random((1, 20, 4, 16), 1.0, 1), random((1, 90, 2, 16), 1.0, 2), random((1, 90, 2, 16), 1.0, 3));
    let (k, v) = (k.squeeze(0).unwrap(), v.squeeze(0).unwrap());
    for cache_type in CACHE_TYPES {
        let run = |cache: &KeyValues| {
            let span = Span { queries: 20, cache };
            flat(&ragged(&q, &[span], &Scores::scaled(SCALE), Precision::F32).unwrap())
        };
        let whole = cache(cache_type, &k, &v, 90);
        assert_eq!(whole.len(), 90);
        assert_eq!(
            whole.bytes(),
            2 * 90 * 2 * 16 * [4, 2, 1][CACHE_TYPES.iter().position(|t| *t == cache_type).unwrap()]
        );
        let expected = run(&whole);
        for step in [1, 7, 64] {
            assert!(run(&cache(cache_type, &k, &v, step)) == expected, "{cache_type:?}");
        }
        // A fork goes its own way, and positions that were forgotten can be filled again.
        let mut fork = whole.clone();
        fork.truncate(100).unwrap();
        assert!(run(&fork) == expected);
        fork.truncate(60).unwrap();
        assert_eq!((fork.len(), fork.is_empty()), (60, false));
        assert!(run(&fork) != expected && run(&whole) == expected);
        let prefix = whole.prefix(60).unwrap();
        assert_eq!((prefix.len(), prefix.bytes()), (60, fork.bytes()));
        assert!(run(&prefix) == run(&fork) && run(&whole.prefix(100).unwrap()) == expected);
        fork.append(&k.narrow(0, 60, 30).unwrap(), &v.narrow(0, 60, 30).unwrap()).unwrap();
        assert!(run(&fork) == expected);
    }
}

#[test]
fn a_batch_gives_what_each_sequence_gives_alone() {
    let lengths = [(3usize, 3usize), (40, 1), (80, 70), (9, 0)];
    let (q, k) = (random((1, 74, 6, 8), 1.0, 1), random((1, 200, 2, 8), 1.0, 2).squeeze(0).unwrap());
    let caches: Vec<KeyValues> = lengths
        .iter()
        .map(|&(len, _)| cache(CacheType::F32, &k.narrow(0, len, len).unwrap(), &k.narrow(0, 0, len).unwrap(), len))
        .collect();
    let bias = slopes(6, 80, &Device::Cpu).unwrap();
    let scores = Scores { window: Some(60), bias: Some(&bias), ..Scores::scaled(SCALE) };
    for precision in [Precision::F32, Precision::Bf16] {
        let spans = |threads: usize| {
            let spans: Vec<Span<'_>> =
                caches.iter().zip(lengths).map(|(cache, (_, queries))| Span { queries, cache }).collect();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            flat(&pool.install(|| ragged(&q, &spans, &scores, precision).unwrap()))
        };
        let together = spans(1);
        assert!(together == spans(3), "{precision:?}");
        let (mut alone, mut first) = (Vec::new(), 0);
        for (cache, (_, queries)) in caches.iter().zip(lengths) {
            let q = q.narrow(1, first, queries).unwrap();
            alone.extend(flat(&ragged(&q, &[Span { queries, cache }], &scores, precision).unwrap()));
            first += queries;
        }
        assert!(together == alone, "{precision:?}");
    }
}

#[test]
fn caches_and_batches_of_wrong_shapes_are_errors() {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
    let new = |cache_type, groups, scales: &[f32]| {
        KeyValues::new(cache_type, groups, 8, [scales, scales], &Device::Cpu).map_err(|e| e.to_string())
    };
    assert!(new(CacheType::Bf16, 0, &[]).is_err());
    let error = new(CacheType::E4m3, 4, &[1.0; 3]).err().unwrap();
    assert!(error.starts_with("a cache of 4 heads with 3 scales"), "{error}");
    let mut cache = new(CacheType::F32, 2, &[]).unwrap();
    for (keys, values) in [([1, 2, 7], [1, 2, 7]), ([1, 3, 8], [1, 3, 8]), ([2, 2, 8], [1, 2, 8])] {
        let error = cache.append(&zeros(&keys), &zeros(&values)).unwrap_err().to_string();
        assert!(error.contains("for a cache of 2 heads of 8"), "{error}");
    }
    cache.append(&zeros(&[3, 2, 8]), &zeros(&[3, 2, 8])).unwrap();
    let run = |q: &[usize], queries: usize, scores: Scores<'_>| {
        let spans = [Span { queries, cache: &cache }];
        ragged(&zeros(q), &spans, &scores, Precision::F32).map(|_| ()).map_err(|e| e.to_string())
    };
    let plain = Scores::scaled(1.0);
    assert_eq!(run(&[1, 3, 4, 8], 3, plain), Ok(()));
    for (q, queries) in [([1, 4, 4, 8], 4), ([1, 2, 4, 8], 3), ([1, 3, 3, 8], 3), ([1, 3, 4, 6], 3), ([3, 1, 4, 8], 3)]
    {
        let error = run(&q, queries, plain).unwrap_err();
        assert!(error.starts_with("attention of queries "), "{error}");
    }
    let error = run(&[1, 3, 4, 8], 3, Scores { window: Some(0), ..plain }).unwrap_err();
    assert!(error.starts_with("attention with a window of 0 keys"), "{error}");
    let error = run(&[1, 3, 4, 8], 3, Scores { bias: Some(&zeros(&[4, 2])), ..plain }).unwrap_err();
    assert!(error.starts_with("attention of 4 heads over 3 keys with a bias"), "{error}");
}

#[test]
fn attention_of_nothing_is_nothing() {
    for (b, t, groups, many, d) in [(2, 0, 2, 2, 4), (2, 3, 2, 2, 0), (2, 3, 2, 0, 4), (0, 3, 2, 2, 4)] {
        let (q, k) = (random((b, t, groups * many, d), 1.0, 1), random((b, t, groups, d), 1.0, 2));
        for precision in [Precision::F32, Precision::Bf16] {
            let out = causal(&q, &k, &k, &Scores::scaled(SCALE), precision).unwrap();
            assert_eq!(out.dims(), [b, t, groups * many * d]);
        }
    }
    let mut cache = KeyValues::new(CacheType::F32, 2, 4, [&[], &[]], &Device::Cpu).unwrap();
    cache
        .append(&random((1, 3, 2, 4), 1.0, 1).squeeze(0).unwrap(), &random((1, 3, 2, 4), 1.0, 2).squeeze(0).unwrap())
        .unwrap();
    for (queries, heads) in [(0, 4), (3, 0)] {
        let q = random((1, queries, heads, 4), 1.0, 3);
        let out = ragged(&q, &[Span { queries, cache: &cache }], &Scores::scaled(SCALE), Precision::F32).unwrap();
        assert_eq!(out.dims(), [1, queries, heads * 4]);
    }
}
