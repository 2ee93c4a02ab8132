//! Probabilities of texts.

use paring_generate::engine::{Step, Want};
use paring_generate::sampler::log_softmax;
use serde_json::json;

use super::{Running, VOCAB};

#[test]
fn a_text_is_scored_as_the_model_does() {
    let server = Running::new();
    let ids: Vec<u32> = (0..70).map(|i| (i * i * 7 + 3) % VOCAB as u32).collect();
    let mut sequence = server.engine.sequence().unwrap();
    let step = Step { sequence: &mut sequence, tokens: &ids, want: Want::All };
    let logits = server.engine.advance(&mut [step]).unwrap().remove(0);
    let logs: Vec<Vec<f32>> = logits.chunks_exact(VOCAB).map(log_softmax).collect();
    for most in [0, 1] {
        let body =
            json!({"prompt": ids, "max_tokens": most, "echo": true, "logprobs": 1, "temperature": 0, "seed": 1234});
        let answer = server.complete(body);
        assert_eq!(answer["usage"]["completion_tokens"], most);
        let scored = &answer["choices"][0]["logprobs"];
        let list = |key: &str| scored[key].as_array().unwrap().clone();
        let (tokens, got, top) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
        assert!([&tokens, &got, &top, &list("text_offset")].iter().all(|list| list.len() == ids.len() + most));
        assert!(got[0].is_null() && top[0].is_null());
        for i in 1..ids.len() {
            let want = logs[i - 1][ids[i] as usize];
            assert!((got[i].as_f64().unwrap() - f64::from(want)).abs() < 2e-3, "{i}: {} {want}", got[i]);
            // One that is the best is among the best with the same number.
            let best = logs[i - 1].iter().copied().fold(f32::MIN, f32::max);
            let top = top[i].as_object().unwrap();
            assert!(top.contains_key(tokens[i].as_str().unwrap()) && top.len() <= 2, "{top:?}");
            let most = top.values().map(|log| log.as_f64().unwrap()).fold(f64::MIN, f64::max);
            assert!((most - f64::from(best)).abs() < 2e-3);
            assert_eq!(most == got[i].as_f64().unwrap(), want == best);
        }
    }
}

#[test]
fn offsets_are_the_places_of_tokens_in_the_text() {
    let server = Running::new();
    let prompt = "visae tesho gourt ;";
    let answer = server.complete(json!({"prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 9, "seed": 2}));
    let (choice, scored) = (&answer["choices"][0], &answer["choices"][0]["logprobs"]);
    let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    let (tokens, offsets) = (scored["tokens"].as_array().unwrap(), scored["text_offset"].as_array().unwrap());
    // The first token has a space, which is no part of a text's beginning.
    let shift = tokens.iter().map(|token| token.as_str().unwrap().chars().count()).sum::<usize>() - text.len();
    assert!(shift <= 1, "{tokens:?} of {text:?}");
    for (token, offset) in tokens.iter().zip(offsets).skip(1) {
        let at = offset.as_u64().unwrap() as usize - shift;
        assert!(text[at..].iter().copied().collect::<String>().starts_with(token.as_str().unwrap()), "{token} {at}");
    }
}
