use std::path::Path;

use paring_data::tokenizer::tokenizer_from;
use paring_model::{CacheType, Precision};

use super::*;
use crate::engine::CHUNK;
use crate::settings::Length;
use crate::tests::{engine, root};

const DEMO: &str = "crates/paring-cli/demo";

fn demo() -> Batch {
    let json = std::fs::read(root(&format!("{DEMO}/tokenizer.json"))).unwrap();
    let tokenizer = tokenizer_from(&json, Path::new("demo")).unwrap();
    Batch::new(engine(DEMO, Precision::Bf16, CacheType::F32), Some(Arc::new(tokenizer)), Limits::default())
}

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|i| (i * i * 7 + i * 5 + 3) % 640).collect()
}

fn settings(length: Length) -> Settings {
    Settings { length, ..Settings::default() }
}

/// All events of a batch.
fn run(batch: &mut Batch) -> Vec<Event> {
    let mut events = Vec::new();
    while !batch.is_idle() {
        events.extend(batch.step().unwrap());
    }
    events
}

#[test]
fn probabilities_are_those_of_the_model() {
    let mut batch = demo();
    let (prompt, most) = (prompt(9), 4);
    // Whatever settings do to the choice.
    let settings =
        Settings { repetition_penalty: 5.0, logit_bias: vec![(7, 100.0)], ..settings(Length::Exactly(most)) };
    let logprobs = (Some(3), Some(0));
    let request =
        Request { logprobs: logprobs.0, prompt_logprobs: logprobs.1, ..Request::new(prompt.clone(), settings) };
    batch.add(request).unwrap();
    let events = run(&mut batch);
    let scored: Vec<&Scored> = events.iter().flat_map(|event| &event.prompt).collect();
    assert_eq!(scored.iter().map(|scored| scored.token).collect::<Vec<_>>(), prompt[1..]);
    let chosen: Vec<&Chosen> = events.iter().filter_map(|event| event.token.as_ref()).collect();
    assert!(chosen.len() == most && chosen.iter().all(|chosen| chosen.token == 7));
    // Against one pass over everything.
    let ids: Vec<u32> = prompt.iter().copied().chain([7; 3]).collect();
    let engine = batch.engine().clone();
    let mut sequence = engine.sequence().unwrap();
    let step = Step { sequence: &mut sequence, tokens: &ids, want: Want::All };
    let logits = engine.advance(&mut [step]).unwrap().remove(0);
    for (i, logits) in logits.chunks_exact(engine.vocab()).enumerate() {
        let logs = log_softmax(logits);
        let got = match i.checked_sub(prompt.len() - 1) {
            Some(i) => chosen[i].scored.as_ref().unwrap(),
            None => scored[i],
        };
        assert!((got.logprob - logs[got.token as usize]).abs() < 1e-3, "{i}: {got:?}");
        let mut sorted = logs.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(got.top.len(), if i + 1 < prompt.len() { 0 } else { 3 });
        assert!(got.top.iter().zip(sorted).all(|(got, want)| (got.1 - want).abs() < 1e-3), "{i}: {got:?}");
    }
}

#[test]
fn a_text_can_be_scored_without_a_new_token() {
    let mut batch = demo();
    let request = Request::new(prompt(CHUNK as u32 / 4), settings(Length::Exactly(0)));
    batch.add(Request { prompt_logprobs: Some(1), ..request }).unwrap();
    let events = run(&mut batch);
    assert_eq!(events.iter().map(|event| event.prompt.len()).sum::<usize>(), CHUNK / 4 - 1);
    let finished = events.last().unwrap().finished.as_ref().unwrap();
    assert!(matches!(finished.reason, Finish::Length) && events.iter().all(|event| event.token.is_none()));
    assert_eq!((finished.timing.prompt_tokens, finished.timing.decode_steps), (CHUNK / 4, 0));
}

#[test]
fn text_comes_with_tokens_and_ends_before_a_stop_string() {
    let mut batch = demo();
    batch.add(Request::new(prompt(5), settings(Length::Exactly(12)))).unwrap();
    let events = run(&mut batch);
    let tokens: Vec<u32> = events.iter().flat_map(|event| &event.token).map(|chosen| chosen.token).collect();
    let text: String = events.iter().map(|event| event.text.as_str()).collect();
    let tokenizer = batch.tokenizer.clone().unwrap();
    let whole = |ids: &[u32]| tokenizer.decode(ids, true).unwrap();
    assert_eq!(whole(&prompt(5)) + &text, whole(&[prompt(5), tokens.clone()].concat()));
    let finished = events.last().unwrap().finished.as_ref().unwrap();
    assert_eq!((finished.timing.prompt_tokens, finished.timing.decode_steps), (5, 11));
    assert_eq!(finished.sequence.ids(), [prompt(5), tokens[..11].to_vec()].concat());

    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let stop = vec![words[6].to_string()];
    let before = text[..text.find(words[6]).unwrap()].to_string();
    batch.add(Request::new(prompt(5), Settings { stop, ..settings(Length::Exactly(12)) })).unwrap();
    let events = run(&mut batch);
    assert_eq!(events.iter().map(|event| event.text.as_str()).collect::<String>(), before);
    assert!(matches!(events.last().unwrap().finished.as_ref().unwrap().reason, Finish::Stop));

    // An end is the last of the tokens.
    let end = Settings { eos: vec![tokens[3]], ..settings(Length::Exactly(12)) };
    batch.add(Request::new(prompt(5), end)).unwrap();
    let events = run(&mut batch);
    let first = tokens.iter().position(|token| *token == tokens[3]).unwrap();
    assert_eq!(events.iter().filter(|event| event.token.is_some()).count(), first + 1);
    assert!(matches!(events.last().unwrap().finished.as_ref().unwrap().reason, Finish::End));
}

#[test]
fn what_the_model_has_seen_is_not_computed_again() {
    let mut batch = demo();
    let model = batch.engine().clone();
    let ask = |seen| Request { seen, ..Request::new(prompt(40), settings(Length::Exactly(5))) };
    let mut answer = |request| {
        batch.add(request).unwrap();
        let mut events = run(&mut batch);
        let tokens: Vec<u32> = events.iter().flat_map(|event| &event.token).map(|chosen| chosen.token).collect();
        (tokens, events.pop().unwrap().finished.unwrap())
    };
    let (tokens, finished) = answer(ask(None));
    assert_eq!(finished.timing.prompt_tokens, 40);
    // All but the last token of the prompt, whose logits are needed.
    let (again, finished) = answer(ask(Some(finished.sequence)));
    assert_eq!((again, finished.timing.prompt_tokens), (tokens.clone(), 1));
    // A sequence that is another from the eleventh token on.
    let mut other = finished.sequence;
    other.truncate(10).unwrap();
    model.advance(&mut [Step { sequence: &mut other, tokens: &[1, 2, 3], want: Want::Nothing }]).unwrap();
    let (again, finished) = answer(ask(Some(other)));
    assert_eq!((again, finished.timing.prompt_tokens), (tokens, 30));
}

#[test]
fn what_prompts_have_in_common_is_computed_once() {
    // The second and third are the first to their end, or to the 60th token; the fourth begins in another way, and the last one
    // asks for all probabilities.
    let other = [prompt(60), vec![1, 2, 3]].concat();
    let prompts = [prompt(80), prompt(80), other, prompt(80)[1..].to_vec(), prompt(80)];
    let request = |number: usize| {
        let prompt_logprobs = (number == 4).then_some(0);
        let request = Request::new(prompts[number].clone(), settings(Length::Exactly(4)));
        Request { prompt_logprobs, ..request }
    };
    let of = |events: &[Event], id: Id| -> (Vec<u32>, usize) {
        let own = || events.iter().filter(|event| event.id == id);
        let tokens = own().flat_map(|event| &event.token).map(|chosen| chosen.token).collect();
        (tokens, own().find_map(|event| event.finished.as_ref()).unwrap().timing.prompt_tokens)
    };
    let alone: Vec<_> = (0..5)
        .map(|number| {
            let mut batch = demo();
            let id = batch.add(request(number)).unwrap();
            of(&run(&mut batch), id).0
        })
        .collect();
    for limits in [Limits::default(), Limits { sequences: 2, prompt_tokens: 20 }] {
        let mut batch = Batch { limits, ..demo() };
        let ids: Vec<Id> = (0..5).map(|number| batch.add(request(number)).unwrap()).collect();
        let events = run(&mut batch);
        let computed: Vec<usize> = ids.iter().map(|&id| of(&events, id).1).collect();
        assert_eq!(computed, [80, 1, 3, 79, 80]);
        assert_eq!(ids.iter().map(|&id| of(&events, id).0).collect::<Vec<_>>(), alone);
    }
}

#[test]
fn requests_can_be_cancelled_and_wait_for_their_turn() {
    let mut batch = demo();
    batch.limits = Limits { sequences: 2, prompt_tokens: 10 };
    let ids: Vec<Id> =
        (0..4).map(|i| batch.add(Request::new(prompt(6 + i), settings(Length::Exactly(3)))).unwrap()).collect();
    assert_eq!(batch.load(), (0, 4));
    batch.step().unwrap();
    assert_eq!(batch.load(), (2, 2));
    assert_eq!(batch.cancel(ids[0]).unwrap().ids(), prompt(6));
    assert!(batch.cancel(ids[3]).unwrap().is_empty());
    assert!(batch.cancel(ids[0]).is_none());
    let mut ended: Vec<Id> = run(&mut batch).into_iter().filter_map(|event| event.finished.map(|_| event.id)).collect();
    ended.sort();
    assert_eq!(ended, ids[1..3]);
    assert!(batch.step().unwrap().is_empty());
}

#[test]
fn requests_that_cannot_be_answered_are_refused() {
    let mut batch = demo();
    let mut refused = |request: Request| batch.add(request).unwrap_err().to_string();
    let of = |settings| Request::new(prompt(3), settings);
    for (request, words) in [
        (Request::new(Vec::new(), Settings::default()), "the prompt has no token"),
        (Request::new(vec![640], Settings::default()), "token 640 is outside the model's vocabulary of 640"),
        (Request::new(prompt(256), Settings::default()), "the prompt has 256 tokens, and the model's context is 256"),
        (of(settings(Length::Exactly(254))), "3 tokens of the prompt and 254 new ones are more than"),
        (of(Settings { temperature: 0.0, ..Settings::default() }), "temperature 0: must be above 0"),
        (of(Settings { num_beams: 2, ..Settings::default() }), "num-beams 2: must be 1"),
    ] {
        let error = refused(request);
        assert!(error.contains(words), "{error}");
    }
    let mut without = Batch::new(batch.engine().clone(), None, Limits::default());
    let error = without.add(of(Settings { stop: vec!["a".into()], ..Settings::default() })).unwrap_err();
    assert_eq!(error.to_string(), "stop needs a tokenizer, and the model has none; add its tokenizer.json");
    // What leaves no token ends that request alone.
    let vocab = 640u32;
    let nothing =
        Settings { logit_bias: (0..vocab).map(|id| (id, f32::NEG_INFINITY)).collect(), ..Settings::default() };
    let bad = batch.add(of(nothing)).unwrap();
    batch.add(of(settings(Length::Exactly(2)))).unwrap();
    let events = run(&mut batch);
    let failed = |event: &Event| event.finished.as_ref().is_some_and(|end| matches!(end.reason, Finish::Failed(_)));
    assert!(events.iter().all(|event| failed(event) == (event.id == bad)));
    assert_eq!(events.len(), 3);
}
