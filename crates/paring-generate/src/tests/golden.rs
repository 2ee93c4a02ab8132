//! Against transformers (tests/golden/generation): logits of each step, greedy decoding with penalties, and beam search.

use paring_model::{CacheType, Precision};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{answers, engine, root};
use crate::beam::search;
use crate::engine::{Step, Want};
use crate::sampler::best;
use crate::settings::Length;
use crate::{Choices, Engine, Limits, Request, Settings};

/// The models: each family, with all that distinguishes an attention, and three that were trained.
const NAMES: [&str; 20] = [
    "demo",
    "falcon_alibi",
    "falcon_multi_query",
    "falcon_new_decoder",
    "falcon_rw",
    "llama",
    "mistral_full",
    "mistral_window",
    "opt",
    "opt_350m",
    "opt_post_norm",
    "qwen2",
    "qwen2_layers",
    "qwen2_window",
    "qwen3",
    "rope_dynamic",
    "rope_linear",
    "rope_llama3",
    "trained_falcon",
    "trained_opt",
];

/// The cases of a model.
struct Golden {
    name: &'static str,
    cases: Value,
    prompts: Vec<Vec<u32>>,
    engine: std::sync::Arc<Engine>,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let file = std::fs::read(root(&format!("tests/golden/generation/{name}.json"))).unwrap();
        let cases: Value = serde_json::from_slice(&file).unwrap();
        let engine = engine(cases["model"].as_str().unwrap(), Precision::F32, CacheType::F32);
        let prompts = serde_json::from_value(cases["prompts"].clone()).unwrap();
        Self { name, cases, prompts, engine }
    }

    /// The runs that have a key, with their prompts and settings.
    fn runs<'a>(&'a self, key: &str) -> Vec<(Vec<u32>, Settings, &'a Value)> {
        let runs = self.cases["runs"].as_array().unwrap().iter().filter(|run| run.get(key).is_some());
        let of = |run: &'a Value| {
            let mut asked = Choices::of_model(Some(("golden", &run["settings"])), &Value::Null).unwrap();
            asked.num_return_sequences = asked.num_beams;
            let settings = Settings::resolve(&asked, &Choices::default()).unwrap();
            (self.prompts[run["prompt"].as_u64().unwrap() as usize].clone(), settings, run)
        };
        runs.map(of).collect()
    }
}

#[test]
fn logits_of_each_step() {
    let mut worst = 0f32;
    for name in NAMES {
        let golden = Golden::open(name);
        let file = std::fs::read(root(&format!("tests/golden/generation/{name}.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        for (number, prompt) in golden.prompts.iter().enumerate() {
            let tensor = tensors.tensor(&format!("logits.{number}")).unwrap();
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let vocab = golden.engine.vocab();
            assert_eq!(tensor.shape(), [8, vocab]);
            let (mut sequence, mut next) = (golden.engine.sequence().unwrap(), prompt.clone());
            for (step, want) in values.chunks_exact(vocab).enumerate() {
                let steps = &mut [Step { sequence: &mut sequence, tokens: &next, want: Want::Last }];
                let logits = golden.engine.advance(steps).unwrap().pop().unwrap();
                let error = logits.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(error < 1e-4, "{name}, prompt {number}, step {step}: off by {error}");
                worst = worst.max(error);
                next = vec![best(&logits).unwrap()];
            }
        }
    }
    assert!(worst < 5e-5, "{worst}");
}

#[test]
fn greedy_decoding_with_penalties_and_ends() {
    let mut count = 0;
    for name in NAMES {
        let golden = Golden::open(name);
        let runs = golden.runs("tokens");
        count += runs.len();
        // All of a model's runs in one batch.
        let requests = runs.iter().map(|(prompt, settings, _)| Request::new(prompt.clone(), settings.clone()));
        let got = answers(&golden.engine, requests.collect(), Limits::default());
        for ((tokens, reason), (_, settings, run)) in got.into_iter().zip(&runs) {
            let want: Vec<u32> = serde_json::from_value(run["tokens"].clone()).unwrap();
            assert_eq!(tokens, want, "{}, prompt {}, {}", golden.name, run["prompt"], run["settings"]);
            let ended = want.last().is_some_and(|last| settings.eos.contains(last));
            assert_eq!(reason, if ended { "end" } else { "length" });
        }
    }
    assert_eq!(count, 215);
}

#[test]
fn beam_search() {
    let mut count = 0;
    for name in NAMES {
        let golden = Golden::open(name);
        for (prompt, settings, run) in golden.runs("sequences") {
            let found = search(&golden.engine, &prompt, &settings, &mut || false).unwrap();
            let place = format!("{name}, prompt {}, {}", run["prompt"], run["settings"]);
            let sequences: Vec<Vec<u32>> = serde_json::from_value(run["sequences"].clone()).unwrap();
            let scores: Vec<f32> = serde_json::from_value(run["scores"].clone()).unwrap();
            assert_eq!(found.beams.iter().map(|beam| beam.tokens.clone()).collect::<Vec<_>>(), sequences, "{place}");
            for (beam, score) in found.beams.iter().zip(scores) {
                let error = (beam.score - score).abs() / score.abs().max(1.0);
                assert!(error < 1e-4, "{place}: {}, expected {score}", beam.score);
                assert_eq!(beam.ended, settings.eos.contains(beam.tokens.last().unwrap()), "{place}");
            }
            count += 1;
        }
    }
    assert_eq!(count, 338);
}

#[test]
fn beams_end_where_they_are_told_and_draw_what_the_seed_says() {
    let engine = engine("tests/golden/models/llama", Precision::F32, CacheType::F32);
    let settings = Settings { num_beams: 3, num_return_sequences: 3, do_sample: true, ..Settings::default() };
    let prompt = [24, 49, 59, 54, 21];
    let tokens = |settings: &Settings| {
        let found = search(&engine, &prompt, settings, &mut || false).unwrap();
        found.beams.into_iter().map(|beam| beam.tokens).collect::<Vec<_>>()
    };
    let drawn = tokens(&settings);
    assert_eq!((drawn.len(), drawn[0].len()), (3, 20));
    assert_eq!(tokens(&settings), drawn);
    assert_ne!(tokens(&Settings { seed: 1, ..settings.clone() }), drawn);
    let mut asked = 0;
    let stop = &mut || {
        asked += 1;
        asked > 3
    };
    let found = search(&engine, &prompt, &settings, stop).unwrap();
    assert_eq!((found.beams.len(), found.timing.decode_steps, found.timing.prompt_tokens), (0, 3, 5));
    let short = Settings { length: Length::Exactly(1), ..settings };
    let found = search(&engine, &prompt, &short, &mut || false).unwrap();
    assert!(found.beams.iter().all(|beam| beam.tokens.len() == 1) && found.timing.decode_steps == 0);
}
