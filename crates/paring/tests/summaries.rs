//! Summaries of a small trained model, and the requests that it gets.

use std::path::Path;
use std::sync::Arc;

use paring::commands::summaries::{Summarizer, SummaryOptions, prompt};
use paring::report::LayerReport;
use paring::report::progress::{EvalProgress, Observer};
use paring::request::{Generator, Sources, TaskOptions};
use paring_data::tokenizer::tokenizer_from;
use paring_generate::settings::Length;
use paring_generate::{EarlyStopping, Settings, beam};
use paring_kernels::device::Device;
use paring_tasks::Article;
use paring_tasks::rouge::{Kind, Rouge};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../paring-cli/demo");
const BYTES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/chats/tokenizer.json");

/// The prompt of Stanford Alpaca's data with an input, as Model-Optimizer's scripts render it.
const RENDERED: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
    response that appropriately completes the request.\n\n### Instruction:\nSummarize the following news article:\n\n### \
    Input:\nThe lake froze.\nNobody skated.\n\n### Response:";

/// An observer that stops after so many summaries.
#[derive(Default)]
struct Follower {
    stop_after: Option<usize>,
    last: Option<EvalProgress>,
    notes: Vec<String>,
}

impl Observer for Follower {
    fn start(&mut self, _: usize, _: usize, _: usize) {}
    fn linear(&mut self, _: &LayerReport) {}
    fn block(&mut self, _: usize) {}
    fn note(&mut self, text: &str) {
        self.notes.push(text.to_string());
    }
    fn stop(&mut self) -> bool {
        self.stop_after.is_some_and(|most| self.last.is_some_and(|last| last.done >= most))
    }
    fn measured(&mut self, measured: &EvalProgress) {
        self.last = Some(*measured);
    }
}

fn demo() -> Generator {
    Sources::default().generator(DEMO, None, &Device::Cpu, None, &mut |_, _| {}).unwrap()
}

/// Three articles of words that the model knows, the second longer than its context.
fn articles() -> Vec<Article> {
    let tokenizer = std::fs::read_to_string(Path::new(DEMO).join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let words: Vec<&String> = tokenizer["model"]["vocab"].as_object().unwrap().keys().collect();
    let text = |count: usize, step: usize| {
        (10..10 + count).map(|i| words[i * step % words.len()].as_str()).collect::<Vec<_>>().join(" ")
    };
    let dir = tempfile::tempdir().unwrap();
    let lines = [(40, 7), (400, 11), (12, 3)].map(|(count, step)| {
        let (article, highlights) = (text(count, step), format!(" {} .\nNobody skated .\n", text(20, step)));
        format!("{}\n", serde_json::json!({"id": step, "article": article, "highlights": highlights}))
    });
    std::fs::create_dir(dir.path().join("cnn_dailymail")).unwrap();
    std::fs::write(dir.path().join("cnn_dailymail/test.jsonl"), lines.concat()).unwrap();
    let options = TaskOptions {
        names: vec!["cnn_dailymail".into()],
        data_dir: Some(dir.path().into()),
        ..TaskOptions::default()
    };
    Sources::default().articles(&options).unwrap().remove(0).1
}

/// Short summaries, so that prompts have a place in a context of 256 tokens.
fn short() -> SummaryOptions {
    SummaryOptions { min_new_tokens: 5, max_new_tokens: 24, ..SummaryOptions::default() }
}

#[test]
fn prompts_and_their_tokens() {
    let options = SummaryOptions::default();
    assert_eq!(prompt(&options.instruction, "The lake froze.\nNobody skated."), RENDERED);
    assert_eq!((options.longest_input, options.beams), (1024, 4));
    assert_eq!((options.min_new_tokens, options.max_new_tokens), (30, 128));
    // A token for most bytes, and <s> in front, which the demo's does without.
    let json = std::fs::read(BYTES).unwrap();
    let tokenizer = Arc::new(tokenizer_from(&json, Path::new(BYTES)).unwrap());
    let generator = demo();
    let model = Summarizer { engine: &generator.engine, tokenizer: &tokenizer, choices: &generator.choices };
    let tokens = |most| model.tokens(&options.instruction, "The lake froze.\nNobody skated.", most).unwrap();
    let (expected, is_cut) = tokens(1024);
    assert_eq!((expected[0], is_cut), (266, false));
    assert_eq!(tokenizer.decode(&expected[1..], false).unwrap(), RENDERED);
    assert_eq!(expected, tokenizer.tokens(RENDERED).unwrap());
    assert_eq!(tokens(expected.len()), (expected.clone(), false));
    // The end is lost, and what is in front stays.
    assert_eq!(tokens(10), (expected[..10].to_vec(), true));
}

#[test]
fn beams_find_what_a_search_finds() {
    let (generator, articles) = (demo(), articles());
    let mut follower = Follower::default();
    let made = generator.summaries(articles.clone(), &short(), &mut follower).unwrap();
    assert_eq!((made.articles, made.of, made.cut, made.beams, made.longest_input), (3, 3, 1, 4, 256 - 24));
    assert_eq!(follower.last.map(|last| (last.done, last.of)), Some((3, 3)));
    let note = "prompts are cut after 232 tokens: the model takes no more with 24 new tokens";
    assert_eq!(follower.notes, [note]);
    // The model's own file asks for drawn tokens.
    let settings = Settings {
        length: Length::Exactly(24),
        min_new_tokens: 5,
        num_beams: 4,
        early_stopping: EarlyStopping::Yes,
        do_sample: true,
        eos: vec![4],
        pad: Some(4),
        ..Settings::default()
    };
    let (rouge, mut f) = (Rouge { stemming: true }, 0.0);
    for (article, prediction) in articles.iter().zip(&made.predictions) {
        let mut tokens = generator.tokenizer.tokens(&prompt(&short().instruction, &article.article)).unwrap();
        tokens.truncate(232);
        let found = beam::search(&generator.engine, &tokens, &settings, &mut || false).unwrap();
        let text = generator.tokenizer.decode(&found.beams[0].tokens, true).unwrap();
        assert_eq!(*prediction, text.trim());
        f += 100.0 * rouge.overlaps(&article.highlights, prediction).of(Kind::Rouge1).f / 3.0;
    }
    // Rounded to 4 digits.
    assert_eq!((made.rouge[0].kind, made.rouge[3].kind), ("rouge1", "rougeLsum"));
    assert!((made.rouge[0].f - f).abs() <= 0.5001e-4, "{} {f}", made.rouge[0].f);
    assert_eq!(made.rouge.iter().map(|figure| figure.is_approximate).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn summaries_are_like_themselves() {
    let (generator, mut articles) = (demo(), articles());
    for beams in [1, 2] {
        let options = SummaryOptions { beams, seed: 3, ..short() };
        let first = generator.summaries(articles.clone(), &options, &mut ()).unwrap();
        assert!(first.predictions.iter().all(|text| !text.is_empty()));
        assert!((3 * 5..=3 * 24).contains(&first.new_tokens), "{}", first.new_tokens);
        articles.iter_mut().zip(&first.predictions).for_each(|(article, text)| article.highlights.clone_from(text));
        let again = generator.summaries(articles.clone(), &options, &mut ()).unwrap();
        assert_eq!(again.predictions, first.predictions, "{beams} beams");
        for figure in again.rouge {
            assert_eq!((figure.f, figure.stderr), (100.0, Some(0.0)), "{}, {beams} beams", figure.kind);
        }
    }
}

#[test]
fn a_stop_leaves_what_is_done() {
    let (generator, articles) = (demo(), articles());
    let stopped = |beams, stop_after| {
        let mut follower = Follower { stop_after: Some(stop_after), ..Follower::default() };
        generator.summaries(articles.clone(), &SummaryOptions { beams, ..short() }, &mut follower)
    };
    let one = stopped(4, 1).unwrap();
    assert_eq!((one.articles, one.of, one.predictions.len(), one.rouge[0].stderr), (1, 3, 1, None));
    for beams in [1, 4] {
        let error = stopped(beams, 0).unwrap_err().to_string();
        assert_eq!(error, "stopped before the first summary");
    }
    let error = generator.summaries(Vec::new(), &short(), &mut ()).unwrap_err().to_string();
    assert_eq!(error, "no articles to summarize");
    let options = SummaryOptions { max_new_tokens: 256, ..short() };
    let error = generator.summaries(articles.clone(), &options, &mut ()).unwrap_err().to_string();
    assert!(error.contains("256 new tokens leave no place for an article, of the model's 256 tokens"), "{error}");
    let options = SummaryOptions { min_new_tokens: 25, ..short() };
    assert!(generator.summaries(articles, &options, &mut ()).is_err());
}
