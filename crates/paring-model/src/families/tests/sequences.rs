//! Sequences that grow: in one pass, token by token, in pieces, alone and in batches.

use std::sync::Arc;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_kernels::attention::CacheType;
use serde_json::{Value, json};

use super::{distance, flat, folder, golden, hidden, stored};
use crate::sequence::{Next, Sequence, extend};
use crate::{Arithmetic, Block, Decoder, Error, Precision, open};

/// Every family, with all that distinguishes an attention: grouped queries, scaled rotations, biases, norms of heads,
/// windows in all or some blocks; learned positions with norms before and after; Falcon's three layouts and alibi.
const NAMES: [&str; 19] = [
    "llama",
    "rope_linear",
    "rope_llama3",
    "bias_tied",
    "wide_heads",
    "mistral_full",
    "mistral_window",
    "qwen2",
    "qwen2_window",
    "qwen2_layers",
    "qwen3",
    "opt_plain",
    "opt_350m",
    "opt_bare",
    "falcon_7b",
    "falcon_11b",
    "falcon_40b",
    "falcon_heads",
    "falcon_rw",
];

/// A model with all its blocks in memory.
struct Loaded {
    decoder: Box<dyn Decoder>,
    blocks: Vec<Box<dyn Block>>,
}

impl Loaded {
    fn new(decoder: Box<dyn Decoder>) -> Self {
        Self { blocks: (0..decoder.blocks()).map(|i| decoder.block(i).unwrap()).collect(), decoder }
    }

    fn sequence(&self, cache_type: CacheType) -> Sequence {
        Sequence::new(&*self.decoder, cache_type).unwrap()
    }

    /// Logits of the next tokens of some sequences, joined.
    fn next(&self, nexts: &mut [Next<'_>]) -> Vec<f32> {
        let h = extend(&*self.decoder, &self.blocks, nexts).unwrap();
        flat(&self.decoder.logits(&h).unwrap())
    }

    /// Logits of a text in pieces of these lengths, the last as long as need be.
    fn in_pieces(&self, ids: &[u32], cache_type: CacheType, pieces: &[usize]) -> Vec<f32> {
        let (mut sequence, mut logits) = (self.sequence(cache_type), Vec::new());
        for &piece in pieces.iter().chain(&[ids.len()]) {
            let rest = &ids[sequence.len()..];
            let ids = &rest[..piece.min(rest.len())];
            if !ids.is_empty() {
                logits.extend(self.next(&mut [Next { sequence: &mut sequence, ids }]));
            }
        }
        assert_eq!(sequence.len(), ids.len());
        logits
    }
}

/// A text that repeats nothing for long.
fn text(len: u32, seed: u32) -> Vec<u32> {
    (0..len).map(|i| (i * i * 7 + i * (seed + 3) + seed) % 61).collect()
}

#[test]
fn pieces_of_a_text_give_what_the_whole_gives() {
    for name in NAMES {
        let model = Loaded::new(golden(name));
        let ids = text(33, 5);
        let expected = flat(&model.decoder.logits(&hidden(&*model.decoder, &ids, 1)).unwrap());
        let size = expected.iter().fold(1f32, |a, b| a.max(b.abs()));
        for pieces in [&[][..], &[1; 33], &[13, 1, 7, 1, 1, 6], &[1, 32], &[32, 1]] {
            let error = distance(&model.in_pieces(&ids, CacheType::F32, pieces), &expected);
            assert!(error < 1e-5 * size, "{name} in pieces {pieces:?}: {error} of {size}");
        }
    }
}

#[test]
fn a_ragged_batch_gives_what_each_sequence_gives_alone() {
    let texts = [text(20, 1), text(7, 2), text(30, 3), text(1, 4)];
    // Of each text, tokens in each of some passes; the last takes the rest.
    let schedule = [[5, 0, 12, 1], [1, 3, 1, 0], [1, 0, 10, 0], [13, 4, 7, 0]];
    for name in NAMES {
        let model = Loaded::new(golden(name));
        let mut sequences = [0; 4].map(|_| model.sequence(CacheType::F32));
        let mut together = [0; 4].map(|_| Vec::new());
        for counts in schedule {
            let parts = sequences.iter_mut().zip(&texts).zip(counts);
            let mut nexts: Vec<Next<'_>> =
                parts.map(|((sequence, ids), count)| Next { ids: &ids[sequence.len()..][..count], sequence }).collect();
            let logits = model.next(&mut nexts);
            let vocab = logits.len() / counts.iter().sum::<usize>();
            let mut rest = logits.as_slice();
            for (together, count) in together.iter_mut().zip(counts) {
                let own = rest.split_off(..count * vocab).unwrap();
                together.extend_from_slice(own);
            }
        }
        for (ids, together) in texts.iter().zip(&together) {
            let alone = flat(&model.decoder.logits(&hidden(&*model.decoder, ids, 1)).unwrap());
            let size = alone.iter().fold(1f32, |a, b| a.max(b.abs()));
            let error = distance(together, &alone);
            assert!(error < 1e-5 * size, "{name}, {} tokens: {error} of {size}", ids.len());
        }
    }
}

#[test]
fn smaller_caches_are_near_and_do_not_depend_on_pieces() {
    for name in ["llama", "opt_plain", "falcon_rw"] {
        let model = Loaded::new(golden(name));
        let ids = text(33, 5);
        let expected = model.in_pieces(&ids, CacheType::F32, &[]);
        let size = expected.iter().fold(1f32, |a, b| a.max(b.abs()));
        let error = |cache_type, pieces: &[usize]| {
            let whole = model.in_pieces(&ids, cache_type, &[]);
            let moved = distance(&model.in_pieces(&ids, cache_type, pieces), &whole);
            (distance(&whole, &expected) / size, moved / size)
        };
        let (bf16, moved) = error(CacheType::Bf16, &[1; 33]);
        assert!(bf16 > 1e-6 && bf16 < 0.02, "{name}: {bf16}");
        // Another order of sums can decide how a key is rounded.
        assert!(moved < 0.5 * bf16, "{name}: {moved}, {bf16}");
        let (fp8, moved) = error(CacheType::E4m3, &[4, 1, 1, 9]);
        assert!(fp8 > bf16 && fp8 < 0.3, "{name}: {fp8}");
        assert!(moved < 0.5 * fp8, "{name}: {moved}, {fp8}");
        let bytes = |cache_type| {
            let mut sequence = model.sequence(cache_type);
            model.next(&mut [Next { sequence: &mut sequence, ids: &ids }]);
            sequence.bytes()
        };
        assert_eq!(bytes(CacheType::F32), 2 * bytes(CacheType::Bf16));
        assert_eq!(bytes(CacheType::F32), 4 * bytes(CacheType::E4m3));
    }
}

#[test]
fn products_in_bfloat16_and_rounded_activations_and_caches() {
    let ids = text(24, 9);
    let root = folder("llama").join("../../ct_models");
    for name in ["fp8_kvcache_bf16", "int_w8a8_static_asym_f32"] {
        let checkpoint = Arc::new(Checkpoint::open(&root.join(name)).unwrap());
        for precision in [Precision::F32, Precision::Bf16] {
            let model = Loaded::new(open(Arc::clone(&checkpoint), Arithmetic::from(precision)).unwrap());
            let expected = flat(&model.decoder.logits(&hidden(&*model.decoder, &ids, 1)).unwrap());
            let size = expected.iter().fold(1f32, |a, b| a.max(b.abs()));
            let close = if precision == Precision::F32 { 1e-5 } else { 0.02 };
            let error = distance(&model.in_pieces(&ids, CacheType::F32, &[]), &expected) / size;
            assert!(error < close, "{name} {precision:?}: {error}");
            if name == "fp8_kvcache_bf16" {
                // The scales of the checkpoint: what the cache gives back is in it already.
                let fp8 = model.in_pieces(&ids, CacheType::E4m3, &[]);
                assert_eq!(fp8, model.in_pieces(&ids, CacheType::F32, &[]), "{precision:?}");
            }
        }
    }
}

/// Greedy tokens of transformers with its cache, and the logits of their first steps (tests/golden/generation).
#[test]
fn greedy_tokens_are_those_of_transformers() {
    let root = folder("llama").join("../../generation");
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let mut count = 0;
    for path in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        // Those that were trained are run by paring-generate alone.
        if path.extension().is_none_or(|extension| extension != "safetensors") || !folder(name).exists() {
            continue;
        }
        count += 1;
        let model = Loaded::new(golden(name));
        let file = |extension: &str| std::fs::read(path.with_extension(extension)).unwrap();
        let (cases, file): (Value, _) = (serde_json::from_slice(&file("json")).unwrap(), file("safetensors"));
        let runs = cases["runs"].as_array().unwrap().iter();
        let plain: Vec<&Value> = runs.filter(|run| run["settings"] == json!({"max_new_tokens": 52})).collect();
        assert_eq!(plain.len(), 2);
        for (number, run) in plain.into_iter().enumerate() {
            let (mut next, expected) = (ids(&cases["prompts"][number]), ids(&run["tokens"]));
            let logits = stored(&file, &format!("logits.{number}"), f32::from_le_bytes);
            let (mut sequence, mut got) = (model.sequence(CacheType::F32), Vec::<u32>::new());
            let vocab = model.decoder.vocab_size();
            for step in 0..expected.len() {
                let all = model.next(&mut [Next { sequence: &mut sequence, ids: &next }]);
                let last = &all[all.len() - vocab..];
                if let Some(want) = logits.chunks_exact(vocab).nth(step) {
                    let error = distance(last, want);
                    assert!(error < 1e-4, "{name}, prompt {number}, step {step}: off by {error}");
                }
                let best = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                next = vec![last.iter().position(|&v| v == best).unwrap() as u32];
                got.extend(&next);
            }
            assert_eq!(got, expected, "{name}, prompt {number}");
        }
    }
    assert_eq!(count, 17);
}

#[test]
fn dynamic_scaling_depends_on_pieces_only_beyond_the_positions() {
    let model = Loaded::new(golden("rope_dynamic"));
    let ids = text(40, 3);
    let whole = |len: usize| flat(&model.decoder.logits(&hidden(&*model.decoder, &ids[..len], 1)).unwrap());
    for len in [16, 40] {
        assert!(distance(&model.in_pieces(&ids[..len], CacheType::F32, &[]), &whole(len)) < 1e-4);
    }
    assert!(distance(&model.in_pieces(&ids[..16], CacheType::F32, &[1; 16]), &whole(16)) < 1e-4);
    assert!(distance(&model.in_pieces(&ids, CacheType::F32, &[1; 40]), &whole(40)) > 1e-2);
}

#[test]
fn forks_and_errors_leave_a_sequence_as_it_was() {
    let model = Loaded::new(golden("qwen3"));
    let ids = text(20, 8);
    let expected = model.in_pieces(&ids, CacheType::F32, &[12]);
    let mut sequence = model.sequence(CacheType::F32);
    assert!(sequence.is_empty());
    model.next(&mut [Next { sequence: &mut sequence, ids: &ids[..12] }]);
    let mut fork = sequence.clone();
    model.next(&mut [Next { sequence: &mut fork, ids: &[1, 2, 3] }]);
    assert_eq!((sequence.len(), fork.len()), (12, 15));
    fork.truncate(12).unwrap();

    let mut other = Sequence::new(&*golden("falcon_40b"), CacheType::F32).unwrap();
    let mut extend_by = |ids: &[u32], other_ids: Option<&[u32]>| {
        let mut nexts = vec![Next { sequence: &mut sequence, ids }];
        nexts.extend(other_ids.map(|ids| Next { sequence: &mut other, ids }));
        let error = extend(&*model.decoder, &model.blocks, &mut nexts).err().unwrap();
        assert!(nexts.iter().map(|next| next.sequence.len()).eq([12, 0].into_iter().take(nexts.len())));
        error
    };
    assert!(matches!(extend_by(&[64], None), Error::TokenOutOfRange { token: 64, .. }));
    let long = text(60, 1);
    assert!(matches!(extend_by(&long, None), Error::TooLong { tokens: 72, .. }));
    assert!(matches!(extend_by(&[], None), Error::UnevenRows { .. }));
    // The keys of the first sequence are in the cache when the second one's heads do not fit.
    let error = extend_by(&ids[12..], Some(&[1, 2])).to_string();
    assert!(error.contains("for a cache of"), "{error}");

    let rest = model.next(&mut [Next { sequence: &mut sequence, ids: &ids[12..] }]);
    assert_eq!(rest, expected[12 * model.decoder.vocab_size()..]);
    assert_eq!(model.next(&mut [Next { sequence: &mut fork, ids: &ids[12..] }]), rest);
}

#[test]
fn a_pass_needs_the_activations_of_its_tokens() {
    let model = Loaded::new(golden("llama"));
    let mut sequence = model.sequence(CacheType::F32);
    model.next(&mut [Next { sequence: &mut sequence, ids: &[1, 2] }]);
    assert!(matches!(
        model.decoder.embed_next(&[1, 2, 3], &[0..2, 4..6]),
        Err(Error::SpanTokens { tokens: 3, expected: 4, sequences: 2 })
    ));
    let mut cache = model.decoder.key_values(0, CacheType::F32).unwrap();
    let h =
        Tensor::zeros((1, 3, model.decoder.hidden_size()), candle_core::DType::F32, model.decoder.device()).unwrap();
    let pieces = vec![crate::Piece { tokens: 2, cache: &mut cache }];
    let error = model.blocks[0].run(&h, &mut crate::Pass::next(pieces, &mut ())).err().unwrap();
    assert_eq!(error.to_string(), "activations of 3 tokens in a pass of 2 tokens of 1 sequences");
}
