//! A request gets the same answer whatever else is in the batch.

use paring_model::{CacheType, Precision};

use super::{answers, engine};
use crate::engine::{Step, Want};
use crate::settings::Length;
use crate::{Engine, Limits, Request, Settings};

/// A text that repeats nothing for long.
fn text(len: u32, seed: u32) -> Vec<u32> {
    (0..len).map(|i| (i * i * 7 + i * (seed + 3) + seed) % 61).collect()
}

/// The logits after each of some texts, extended by a token at a time, alone or together.
fn logits(engine: &Engine, texts: &[Vec<u32>], together: bool) -> Vec<Vec<f32>> {
    let mut sequences: Vec<_> = texts.iter().map(|_| engine.sequence().unwrap()).collect();
    let mut logits = vec![Vec::new(); texts.len()];
    for round in 0..3 {
        let tokens: Vec<Vec<u32>> =
            texts.iter().map(|text| if round == 0 { text.clone() } else { vec![round + 5] }).collect();
        let mut steps: Vec<Step<'_>> = sequences
            .iter_mut()
            .zip(&tokens)
            .map(|(sequence, tokens)| Step { sequence, tokens, want: Want::Last })
            .collect();
        let got: Vec<Vec<f32>> = match together {
            true => engine.advance(&mut steps).unwrap(),
            false => steps.chunks_mut(1).flat_map(|step| engine.advance(step).unwrap()).collect(),
        };
        logits.iter_mut().zip(got).for_each(|(all, got)| all.extend(got));
    }
    logits
}

/// With products of dense bfloat16 they are so to the last bit. Products of f32, and with packed weights, add in an order that
/// depends on how many rows there are.
#[test]
fn logits_are_those_of_the_sequence_alone() {
    let texts = [text(20, 1), text(7, 2), text(1, 4), text(13, 9), text(2, 3)];
    for folder in ["tests/golden/models/llama", "tests/golden/models/opt", "crates/paring-cli/demo"] {
        for (precision, close) in [(Precision::Bf16, 0.0), (Precision::F32, 2e-5)] {
            for cache_type in [CacheType::F32, CacheType::Bf16, CacheType::E4m3] {
                let engine = engine(folder, precision, cache_type);
                let (alone, together) = (logits(&engine, &texts, false), logits(&engine, &texts, true));
                let pairs = alone.iter().flatten().zip(together.iter().flatten());
                let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Another last bit of a key can decide how it is rounded.
                let close = if cache_type == CacheType::F32 { close } else { 1e4 * close };
                assert!(error <= close, "{folder}, {precision:?}, {cache_type:?}: off by {error}");
            }
        }
    }
}

#[test]
fn answers_do_not_depend_on_company() {
    let engine = engine("crates/paring-cli/demo", Precision::Bf16, CacheType::F32);
    let request = |i: u32| {
        let settings = Settings {
            do_sample: i.is_multiple_of(2),
            seed: u64::from(i),
            length: Length::Exactly(10 + i as usize),
            repetition_penalty: 1.0 + i as f32 / 50.0,
            ..Settings::default()
        };
        Request { stream: u64::from(i), ..Request::new(text(5 + 9 * i, i), settings) }
    };
    let alone: Vec<_> = (0..8).flat_map(|i| answers(&engine, vec![request(i)], Limits::default())).collect();
    for limits in [Limits::default(), Limits { sequences: 3, prompt_tokens: 20 }] {
        assert_eq!(answers(&engine, (0..8).map(request).collect(), limits), alone);
    }
    assert!(alone.iter().enumerate().all(|(i, (tokens, reason))| tokens.len() == 10 + i && *reason == "length"));
}
