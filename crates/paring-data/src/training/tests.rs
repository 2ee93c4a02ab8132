//! Examples of each form, and what is left out of them.

mod chats;
mod files;

use std::path::{Path, PathBuf};

use paring_format::Checkpoint;
use serde_json::{Value, json};

use super::*;
use crate::tokenizer::tokenizer;
use crate::worker::Isolation;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

/// Sentence pieces that mark a word's start and cut no words, or bytes in words.
fn model(name: &str) -> Tokenizer {
    let checkpoint = Checkpoint::open(&golden("tasks/models").join(name)).unwrap();
    tokenizer(&checkpoint, &Isolation::Thread).unwrap()
}

fn settings(seqlen: usize) -> Settings {
    Settings { seqlen, packing: None, limit: None, eos: None }
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| record.to_string() + "\n").collect()
}

/// A set of the lines of a file.
fn of(lines: &str, form: Option<Form>, tokenizer: &Tokenizer, settings: &Settings) -> Result<TrainingSet> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jsonl");
    std::fs::write(&path, lines).unwrap();
    TrainingData::open(&path, None, form)?.set(Some(tokenizer), settings, &mut |_| true)
}

/// The text that is learned, one for each run of labels.
fn learned(set: &TrainingSet, tokenizer: &Tokenizer) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    for Example { ids, learned } in &set.windows {
        for t in 0..ids.len() {
            if learned[t] && t > 0 && learned[t - 1] {
                runs.last_mut().unwrap().push(ids[t]);
            } else if learned[t] {
                runs.push(vec![ids[t]]);
            }
        }
    }
    runs.iter().map(|ids| tokenizer.decode(ids, false).unwrap()).collect()
}

#[test]
fn text_is_cut_as_for_perplexity() {
    let bytes = model("bytes");
    let texts: Vec<Value> = (0..40).map(|i| json!({"text": format!("the lake {i} froze.\nNobody skated.")})).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jsonl");
    std::fs::write(&path, lines(&texts)).unwrap();
    let windows = Data::open(&path, "text").unwrap().evaluation(Some(&bytes), Some(32), 512, None).unwrap();
    let set = TrainingData::open(&path, None, None).unwrap().set(Some(&bytes), &settings(32), &mut |_| true).unwrap();
    assert_eq!((set.form, set.windows.len()), (Form::Text, windows.count()));
    assert_eq!(set.windows.iter().flat_map(|window| window.ids.clone()).collect::<Vec<_>>(), windows.ids);
    // All is learned but what has nothing before it.
    assert!(set.windows.iter().all(|window| !window.learned[0] && window.labels() == 31));
    assert_eq!((set.tokens(), set.labels()), (windows.ids.len(), 31 * windows.count()));
    assert!(set.left_out.tail > 0 && set.left_out.tail < 32);
    let note = format!("{}: {} tokens at the end fill no window", path.display(), set.left_out.tail);
    assert_eq!(set.notes(), [note]);
    let error = of("{\"text\": \"a\"}\n", None, &bytes, &settings(32)).unwrap_err().to_string();
    assert!(error.ends_with("fill one window of 32; use more text or a smaller seqlen"), "{error}");
    let error = of("{\"text\": \"a\"}\n", None, &bytes, &settings(1)).unwrap_err().to_string();
    assert!(error.ends_with("windows of 1 tokens, expected 2 or more"), "{error}");
}

#[test]
fn stored_tokens_need_no_tokenizer() {
    let path = golden("data/tokens.pth");
    let data = TrainingData::open(&path, None, None).unwrap();
    let set = data.set(None, &settings(3), &mut |_| true).unwrap();
    let Content::Text(all) = &data.content else { panic!("rows are joined") };
    let crate::dataset::Content::Rows { ids, .. } = &all[0].content else { panic!("rows") };
    assert_eq!(set.windows[0].ids, ids[..3]);
    assert_eq!(set.windows.len(), ids.len() / 3);
}

/// `tests/golden/training/prompts.json`: what is learned begins after the tokens of the prompt alone, and the whole has the tokens of
/// the whole text, for tokenizers that mark the start of a word and for those that do not.
#[test]
fn the_prompts_of_alpaca() {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden("training/prompts.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    for name in ["pieces", "bytes"] {
        let tokenizer = model(name);
        let eos = tokenizer.ends().unwrap().eos.unwrap();
        let set = of(&lines(cases), None, &tokenizer, &settings(512)).unwrap();
        assert_eq!((set.form, set.pad, set.windows.len()), (Form::Instruction, eos, cases.len()));
        for (case, example) in cases.iter().zip(&set.windows) {
            let text = |key: &str| case[key].as_str().unwrap();
            let source = answers::alpaca(text("instruction"), text("input"));
            assert_eq!(source, text("source"));
            assert_eq!(source.chars().count() as u64, case["source_characters"].as_u64().unwrap());
            let prompt = tokenizer.tokens(&source).unwrap();
            let mut whole = tokenizer.tokens(&(source + text("output"))).unwrap();
            whole.push(eos);
            assert_eq!(*example, Example::after(whole, prompt.len()), "{name}");
            assert_eq!(example.labels(), example.ids.len() - prompt.len());
        }
        let ended: Vec<String> = cases.iter().map(|case| case["output"].as_str().unwrap().to_owned()).collect();
        let end = tokenizer.decode(&[eos], false).unwrap();
        let texts: Vec<String> =
            learned(&set, &tokenizer).iter().map(|text| text.replace(&end, "").trim().into()).collect();
        assert_eq!(texts, ended, "{name}");
    }
}

/// A prompt keeps, where a token would reach across the border, the tokens that it has when an answer is asked for.
#[test]
fn the_border_of_prompt_and_answer() {
    let record = |prompt: &str, completion: &str| lines(&[json!({"prompt": prompt, "completion": completion})]);
    for name in ["pieces", "bytes"] {
        let tokenizer = model(name);
        let eos = tokenizer.ends().unwrap().eos.unwrap();
        let bare = |text: &str| tokenizer.encode_all(&[text], true, &|_| String::new()).unwrap().concat();
        let mut across = 0;
        for (prompt, completion) in [
            ("the", "re is"),
            ("one two", " three"),
            ("Q: what\nA: ", "the lake"),
            ("a (", ")"),
            ("", "the lake"),
            ("wa", "ter"),
            ("the \n", "\n lake"),
            ("é", "ée"),
        ] {
            let set = of(&record(prompt, completion), None, &tokenizer, &settings(64)).unwrap();
            let example = &set.windows[0];
            let asked = tokenizer.tokens(prompt).unwrap();
            assert_eq!(example.ids[..asked.len()], asked, "{name}: {prompt:?}");
            let want = (0..example.ids.len()).map(|t| t > 0 && t >= asked.len()).collect::<Vec<_>>();
            assert_eq!(example.learned, want);
            let mut whole = tokenizer.tokens(&format!("{prompt}{completion}")).unwrap();
            whole.push(eos);
            if whole.starts_with(&asked) && !prompt.is_empty() {
                assert_eq!(example.ids, whole, "{name}: {prompt:?}");
            } else {
                across += 1;
                assert_eq!(example.ids, [asked, bare(completion), vec![eos]].concat(), "{name}: {prompt:?}");
            }
        }
        assert!(across > 1, "{name}");
    }
}

/// A word that the tokenizer does not know would swallow the first of the answer.
#[test]
fn unknown_words_at_the_border() {
    let words = crate::tokenizer::tokenizer_with(
        br#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordLevel",
            "vocab": {"[UNK]": 0, "one": 1, "two": 2, "</s>": 3}, "unk_token": "[UNK]"}}"#,
        br#"{"eos_token": "</s>"}"#,
        Path::new("tokenizer.json"),
    );
    let record = json!({"instruction": "one", "output": "two one"});
    let set = of(&lines(&[record]), None, &words.unwrap(), &settings(64)).unwrap();
    assert!(set.windows[0].ids.ends_with(&[0, 2, 1, 3]), "{set:?}");
    assert_eq!(set.labels(), 3);
}

#[test]
fn what_is_no_example() {
    let tokenizer = model("bytes");
    let record = |input: Value, output: &str| json!({"instruction": "Count.", "input": input, "output": output});
    let long = "one two three ".repeat(40);
    let records = [
        record(Value::Null, "one"),
        record("".into(), ""),
        record(Value::Null, &long),
        record(long.as_str().into(), "three"),
        json!({"instruction": null, "output": "four"}),
    ];
    let prompt = tokenizer.tokens(&answers::alpaca("Count.", "")).unwrap().len();
    let set = of(&lines(&records), None, &tokenizer, &settings(prompt + 20)).unwrap();
    let left_out = LeftOut { cut: 1, too_long: 1, empty: 1, null: 1, ..LeftOut::default() };
    assert_eq!((set.windows.len(), set.left_out), (2, left_out));
    assert_eq!((set.windows[1].ids.len(), set.windows[1].labels()), (prompt + 20, 20));
    let notes: Vec<String> = set.notes().iter().map(|note| note.split_once("jsonl: ").unwrap().1.into()).collect();
    let want = [
        format!("1 record has no answer within {} tokens and is left out", prompt + 20),
        format!("1 example is cut at {} tokens", prompt + 20),
        "1 record has an empty answer and is left out".into(),
        "1 record has null in a field and is left out".into(),
    ];
    assert_eq!(notes, want);
    // Only the first token of an answer, or none.
    assert_eq!(of(&lines(&records[..1]), None, &tokenizer, &settings(prompt + 1)).unwrap().labels(), 1);
    let error = of(&lines(&records[..1]), None, &tokenizer, &settings(prompt)).unwrap_err().to_string();
    let want = format!(
        "nothing to learn in it; 1 record has no answer within {prompt} tokens and is left out; use a larger seqlen"
    );
    assert!(error.ends_with(&want), "{error}");
    let error = of(&lines(&records[1..2]), None, &tokenizer, &settings(99)).unwrap_err().to_string();
    assert!(error.ends_with("1 record has an empty answer and is left out; use a file with answers"), "{error}");
}

#[test]
fn several_examples_in_a_window() {
    let tokenizer = model("bytes");
    let record = |n: usize| json!({"prompt": "the", "completion": " lake".repeat(n)});
    let apart = of(&lines(&[5, 20, 3, 9, 40, 2].map(record)), None, &tokenizer, &settings(64)).unwrap();
    let packing = Settings { packing: Some(true), ..settings(64) };
    let packed = of(&lines(&[5, 20, 3, 9, 40, 2].map(record)), None, &tokenizer, &packing).unwrap();
    assert_eq!((packed.tokens(), packed.labels()), (apart.tokens(), apart.labels()));
    assert!(packed.windows.iter().all(|window| window.ids.len() <= 64));
    // First fit, by hand.
    let mut want: Vec<Example> = Vec::new();
    for example in &apart.windows {
        match want.iter_mut().find(|window| window.ids.len() + example.ids.len() <= 64) {
            Some(window) => {
                window.ids.extend(&example.ids);
                window.learned.extend(&example.learned);
            }
            None => want.push(example.clone()),
        }
    }
    assert_eq!(packed.windows, want);
    assert!(want.len() < apart.windows.len());
}

#[test]
fn batches_and_held_out_windows() {
    let example = |ids: &[u32]| Example::after(ids.to_vec(), 1);
    let windows = vec![example(&[1, 2]), example(&[3, 4, 5]), example(&[6, 7, 8, 9])];
    let (name, left_out) = ("x".to_owned(), LeftOut::default());
    let mut set = TrainingSet { name, form: Form::Chat, windows, seqlen: 5, pad: 0, left_out };
    let batch = set.batch(&[1, 0], 0).unwrap();
    assert_eq!((batch.ids, batch.len), (vec![3, 4, 5, 1, 2, 0], 3));
    assert_eq!(batch.learned, [false, true, true, false, true, false]);
    assert_eq!(set.batch(&[0], set.seqlen).unwrap().ids, [1, 2, 0, 0, 0]);
    assert!(set.batch(&[3], 0).unwrap_err().to_string().contains("no window 3 among 3"));
    let error = set.check_vocabulary(9, None).unwrap_err().to_string();
    assert!(error.contains("x: token 9 is outside the model's vocabulary of 9"), "{error}");
    assert!(set.hold_out(3).unwrap_err().to_string().contains("3 windows, of which 3 cannot be held out"));
    let held_out = set.hold_out(1).unwrap();
    assert_eq!((set.windows.len(), held_out.windows.len(), held_out.windows[0].ids[0]), (2, 1, 6));
    // With a label in its place, a window of the pad token alone would be learned.
    let mut cut = Example { ids: vec![1, 2, 3, 4], learned: vec![false, true, false, false] };
    cut.cut(9);
    assert_eq!(cut, example(&[1, 2]));
}

const ORDERS: [(u64, u64, [u32; 10]); 3] = [
    (0, 0, [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]),
    (0, 1, [8, 9, 3, 2, 4, 7, 0, 6, 5, 1]),
    (7, 3, [1, 2, 8, 7, 0, 6, 3, 9, 4, 5]),
];

/// From CPython: `random.seed(s + (e << 32)); x = list(range(10)); random.shuffle(x)`.
#[test]
fn orders_are_those_of_python() {
    for (seed, epoch, want) in ORDERS {
        assert_eq!(order(seed, epoch, 10), want, "seed {seed}, epoch {epoch}");
    }
    assert_eq!(order(3, 0, 1), [0]);
    assert!(order(3, 0, 0).is_empty());
}

#[test]
fn a_step_has_its_windows_whatever_was_before_it() {
    let mut all = Order::new(7, 10, 4);
    let steps: Vec<Vec<u32>> = (0..9).map(|step| all.step(step, 3)).collect();
    let want: Vec<u32> = (0..3).flat_map(|epoch| order(7, epoch, 10)).collect();
    assert_eq!(steps.concat(), want);
    assert_eq!((all.steps(3.0), all.steps(1.0), all.steps(0.5), all.steps(0.0)), (8, 3, 2, 0));
    assert_eq!((steps[7].len(), steps[8].len()), (2, 0));
    for step in [5, 2, 7, 0] {
        assert_eq!(Order::new(7, 10, 4).step(step, 3), steps[step]);
        assert_eq!(all.step(step, 3), steps[step]);
    }
}
