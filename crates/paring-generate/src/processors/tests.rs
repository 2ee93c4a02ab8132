//! Against the processors and filters of transformers (tests/golden/generation/filters.json), and by hand what servers add.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::Choices;

fn settings(value: &Value) -> Settings {
    let model = Choices::of_model(Some(("filters.json", value)), &Value::Null).unwrap();
    let settings = Settings::resolve(&Choices::default(), &model).unwrap();
    let top_k = value.get("top_k").map_or(0, |_| settings.top_k);
    Settings { top_k, ..settings }
}

#[test]
fn all_cases_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/generation/filters.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let history: Vec<u32> = serde_json::from_value(golden["history"].clone()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4 * 27);
    for case in cases {
        let name = case["logits"].as_str().unwrap();
        let mut asked = case["settings"].clone();
        let prompt = asked.get("prompt_length").and_then(Value::as_u64).map_or(history.len(), |n| n as usize);
        asked.as_object_mut().unwrap().remove("prompt_length");
        let settings = settings(&asked);
        let mut scores: Vec<f32> = numbers(&golden["logits"][name]).iter().map(|&v| v as f32).collect();
        process(&mut scores, History { ids: &history, prompt }, &settings);
        Filters::new(&settings).apply(&mut scores);
        let (mut got, mut want) = (softmax(&scores), numbers(&case["probabilities"]));
        let kept = scores.iter().filter(|score| score.is_finite()).count();
        assert_eq!(kept as u64, case["kept"].as_u64().unwrap(), "{name} {asked}");
        if name == "ties" {
            got.sort_by(f64::total_cmp);
            want.sort_by(f64::total_cmp);
        }
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-6, "{name} {asked}: {got}, expected {want}");
        }
    }
}

#[test]
fn penalties_of_servers_count_the_output_alone() {
    let settings = Settings {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(3, -100.0), (0, 2.0), (99, 1.0)],
        ..Settings::default()
    };
    let mut scores = vec![1.0; 4];
    process(&mut scores, History { ids: &[0, 1, 1, 2, 1], prompt: 2 }, &settings);
    assert_eq!(scores, [3.0, 1.0 - 0.5 - 0.5, 1.0 - 0.5 - 0.25, -99.0]);
}

#[test]
fn runs_need_their_beginning() {
    let after = |ids: &[u32], n| {
        let mut scores = vec![0.0; 4];
        let settings = Settings { no_repeat_ngram_size: n, ..Settings::default() };
        process(&mut scores, History { ids, prompt: ids.len() }, &settings);
        (0..4).filter(|&id| scores[id] == f32::NEG_INFINITY).collect::<Vec<_>>()
    };
    assert_eq!(after(&[1, 2, 3, 1], 2), [2]);
    assert_eq!(after(&[1, 2, 3, 1], 1), [1, 2, 3]);
    assert_eq!(after(&[1, 2, 3, 1, 2], 3), [3]);
    assert!(after(&[1, 2], 3).is_empty() && after(&[1], 3).is_empty() && after(&[], 2).is_empty());
}

#[test]
fn beams_keep_a_token_more_than_there_are_ends() {
    for settings in [
        Settings { top_k: 1, ..Settings::default() },
        Settings { top_k: 0, top_p: 0.1, ..Settings::default() },
        Settings { top_k: 0, min_p: 1.0, ..Settings::default() },
        Settings { top_k: 0, epsilon_cutoff: 0.9, ..Settings::default() },
        Settings { top_k: 0, eta_cutoff: 0.9, ..Settings::default() },
        Settings { top_k: 0, typical_p: 0.01, ..Settings::default() },
    ] {
        let settings = Settings { eos: vec![0, 1], ..settings };
        let left = |filters: Filters<'_>| {
            let mut scores = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
            filters.apply(&mut scores);
            finite_count(&scores)
        };
        assert_eq!((left(Filters::new(&settings)), left(Filters::of_beams(&settings))), (1, 3), "{settings:?}");
    }
}

fn finite_count(scores: &[f32]) -> usize {
    scores.iter().filter(|score| score.is_finite()).count()
}
