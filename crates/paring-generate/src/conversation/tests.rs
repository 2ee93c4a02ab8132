use paring_data::{Isolation, tokenizer};
use paring_format::Checkpoint;
use paring_model::{CacheType, Precision};

use super::*;
use crate::batch::{Batch, Limits};
use crate::tests::{engine, root};

const DEMO: &str = "crates/paring-cli/demo";
/// Writes roles as words that the tokenizer knows.
const TEMPLATE: &str = "{% for m in messages %}{{ {'system': 'pir', 'user': 'tin', 'assistant': 'lilt'}[m.role] }} {{ m.content }} ; \
    {% endfor %}{% if add_generation_prompt %}lilt {% endif %}";

/// A conversation with the built-in model, which gets a template.
fn conversation(system: Option<&str>, shifts: bool) -> (Conversation, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(root(&format!("{DEMO}/{name}")), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tokenizer = Arc::new(tokenizer::tokenizer(&checkpoint, &Isolation::default()).unwrap());
    let engine = engine(DEMO, Precision::Bf16, CacheType::F32);
    (Conversation::new(engine, tokenizer, system, shifts), dir)
}

/// Asks and answers; returns the prompt, its tokens that were computed, and the messages that were dropped.
fn turn(conversation: &mut Conversation, text: &str, settings: &Settings) -> (Vec<u32>, usize, usize) {
    let Turn { request, dropped } = conversation.ask(text, settings).unwrap();
    let prompt = request.prompt.clone();
    let mut batch = Batch::new(conversation.engine.clone(), Some(conversation.tokenizer.clone()), Limits::default());
    batch.add(request).unwrap();
    let mut answer = String::new();
    while !batch.is_idle() {
        for event in batch.step().unwrap() {
            answer.push_str(&event.text);
            if let Some(finished) = event.finished {
                conversation.answered(answer.trim(), Some(finished.sequence));
                return (prompt, finished.timing.prompt_tokens, dropped);
            }
        }
    }
    panic!("no end");
}

#[test]
fn only_what_is_new_is_computed() {
    let (mut conversation, _dir) = conversation(Some("sesnir kerpursen"), false);
    let settings = Settings { length: Length::Exactly(6), eos: vec![4], ..Settings::default() };
    let (first, computed, _) = turn(&mut conversation, "visae tesho", &settings);
    assert_eq!((first.len(), computed), (9, 9));
    assert_eq!(conversation.tokenizer.decode(&first, true).unwrap(), "pir sesnir kerpursen ; tin visae tesho ; lilt");
    let (second, computed, _) = turn(&mut conversation, "gourt", &settings);
    assert!(second.starts_with(&first));
    // The end of the answer, the question, and the header of the next answer.
    assert!(computed <= 6 && second.len() > first.len() + 5, "{computed} of {}", second.len());
    let roles: Vec<&str> = conversation.messages().iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    conversation.clear();
    assert_eq!(conversation.messages().len(), 1);
    assert_eq!(turn(&mut conversation, "visae tesho", &settings).0, first);
}

#[test]
fn the_oldest_turns_go_where_they_may() {
    let settings = Settings { length: Length::Context, eos: vec![4], ..Settings::default() };
    let question = vec!["gourt"; 40].join(" ");
    let (mut shifting, _dir) = conversation(Some("sesnir"), true);
    let mut all = 0;
    for _ in 0..8 {
        let (prompt, _, dropped) = turn(&mut shifting, &question, &settings);
        assert!(prompt.len() + 256 / ANSWER <= 256, "{}", prompt.len());
        assert_eq!(&prompt[..2], shifting.tokenizer.tokens("pir sesnir").unwrap());
        all += dropped;
    }
    assert!(all > 4 && all % 2 == 0, "{all}");
    // A question that does not fit alone.
    let error = shifting.ask(&vec!["gourt"; 300].join(" "), &settings).err().unwrap();
    assert!(error.is_context(), "{error}");
    let before = shifting.messages().len();
    assert_eq!(shifting.messages().last().unwrap()["role"], "assistant");
    assert!(before > 2);

    let (mut fixed, _dir) = conversation(None, false);
    let error = loop {
        match fixed.ask(&question, &settings) {
            Ok(_) => fixed.answered("tin", None),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("and the model's context is 256"), "{error}");
    assert_eq!(fixed.messages().len() % 2, 0);
}
