//! Cards: metadata that is taken over, text that cannot break out of its place, and files that a person changed.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::output::card::front::Front;
use crate::output::card::text::{markdown, without_place, yaml};

const CARD_OF_BASE: &str = "---\nlicense: other\nlicense_name: \"my: licence\"\nlicense_link: LICENSE\nlanguage: [en, 'no']\n\
    base_model: org/pretrained\npipeline_tag: text-generation\ntags: [chat]\ndatasets: [org/secret]\n---\n# Base\n";

fn front(text: &str) -> String {
    Front::read(text).unwrap().to_string()
}

/// The golden model in a folder, with a card.
fn base(dir: &Path, card: &str) -> Checkpoint {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
    fs::create_dir_all(dir).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    fs::write(dir.join(CARD), card).unwrap();
    Checkpoint::open(dir).unwrap()
}

#[test]
fn what_the_base_says_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let (front, note) = Front::of_base(&base(dir.path(), CARD_OF_BASE), "model");
    assert_eq!(note, None);
    let want = "---\nlibrary_name: transformers\npipeline_tag: text-generation\nlicense: other\nlicense_name: \"my: licence\"\n\
        license_link: LICENSE\nlanguage:\n- en\n- \"no\"\n---\n";
    assert_eq!(front.to_string(), want);
    // What is made of a quantized model has the same base; what a model was trained from is none.
    let again = "---\nbase_model: org/base\nbase_model_relation: quantized\n---\n";
    let (front, _) = Front::of_base(&base(dir.path(), again), "model");
    assert_eq!(front.base_model.as_deref(), Some("org/base"));
    // A licence is never invented.
    assert!(!front.to_string().contains("license"));
}

#[test]
fn the_base_is_called_by_its_name_on_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let cached = dir.path().join("models--org--tiny-1.0/snapshots/0123");
    let checkpoint = base(&cached, "");
    let name = |checkpoint: &Checkpoint, model: &str| Front::of_base(checkpoint, model).0.base_model;
    assert_eq!(name(&checkpoint, cached.to_str().unwrap()).as_deref(), Some("org/tiny-1.0"));
    assert_eq!(name(&checkpoint, "org/other@main").as_deref(), Some("org/other"));
    // A folder is no name of a hub, even where it looks like one.
    let checkpoint = base(&dir.path().join("models/tiny"), "");
    assert_eq!(name(&checkpoint, &checkpoint.dir().unwrap().display().to_string()), None);
    let front = Front { base_model: Some("org/tiny".into()), ..Front::default() };
    assert!(front.to_string().starts_with("---\nbase_model: org/tiny\nbase_model_relation: quantized\nlibrary_name: "));
}

#[test]
fn metadata_that_cannot_be_read_is_noted_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for card in ["---\na: &b 1\n---\n", "---\nlicense: [\n---\n", "---\nlicense: a\nlicense: b\n---\n"] {
        let (front, note) = Front::of_base(&base(dir.path(), card), "model");
        assert_eq!(front, Front::default(), "{card}");
        assert!(note.is_some_and(|note| note.starts_with("README.md") && note.contains("licence")), "{card}");
    }
    for card in ["", "# no metadata", "---\nlicense: mit\n", "---\r\nother: 1\r\n---\r\n"] {
        assert_eq!(Front::of_base(&base(dir.path(), card), "model"), (Front::default(), None), "{card}");
    }
    let long = format!("---\nlicense: mit\nx: {}\n---\n", "x".repeat(70_000));
    assert!(Front::read(&long).unwrap_err().to_string().contains("README.md: 700"));
}

#[test]
fn no_value_breaks_out() {
    // Whatever the value is, it reads back as the same text, and nothing else does.
    for value in
        ["a\"b: c", "- x", "#x", "yes", "[a]", "a\\nb", "''", "ünï", "1.0", "!tag", "%", "@a", "{a: b}", "a #b", "~"]
    {
        let quoted = serde_json::Value::from(value).to_string();
        let card = format!("---\nlicense: {quoted}\nlanguage: [{quoted}]\n---\n");
        let want = Front::read(&card).unwrap();
        assert_eq!(
            Front::read(&front(&card)).unwrap(),
            Front { task: Some("text-generation".into()), ..want },
            "{value}"
        );
        assert!(front(&card).contains(&format!("license: {}\n", yaml(value))), "{value}");
    }
    // Lines, marks, and what is too long or many.
    let hostile = format!(
        "---\nlicense: \"a\\nlicense: b\"\npipeline_tag: \"\\u202eabc\"\nlicense_name: {}\nlanguage: [{}]\n---\n",
        "x".repeat(201),
        vec!["en"; 1000].join(", ")
    );
    let read = front(&hostile);
    assert!(!read.contains("license") && read.contains("pipeline_tag: text-generation") && !read.contains('\u{202e}'));
    assert_eq!(read.matches("- en").count(), 100);
    assert_eq!(markdown("a](x) <b> `c` | d\n# e"), "a\\]\\(x\\) \\<b\\> \\`c\\` \\| d \\# e");
}

#[test]
fn a_command_names_no_place() {
    for (word, want) in [
        ("/home/me/model", "model"),
        ("--out=/tmp/x/", "--out=x"),
        ("~/data.txt", "data.txt"),
        ("../up/a", "a"),
        ("C:\\models\\a", "a"),
        ("org/name", "org/name"),
        ("--ignore=re:.*/x", "--ignore=re:.*/x"),
        ("2:4", "2:4"),
    ] {
        assert_eq!(without_place(word), want);
    }
}

#[test]
fn the_card_of_a_command_and_of_a_pruned_model() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = base(dir.path(), CARD_OF_BASE);
    let (front, _) = Front::of_base(&checkpoint, "model");
    let files = write(dir.path(), &front, &Origin::Command("decompressed", "/home/me/tiny")).unwrap();
    let text = fs::read_to_string(dir.path().join(CARD)).unwrap();
    assert_eq!((files.len(), files[0].bytes), (1, text.len() as u64));
    files[0].check(dir.path()).unwrap();
    for part in
        ["# tiny\n", "tiny, decompressed by paring", "tags:\n- paring\n---\n", "| as ordinary weights |", "my: licence"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("/home") && !text.contains("base_model"), "{text}");
}

/// The card is as the manifest says, or a person's.
#[test]
fn a_card_that_someone_changed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let report = Report { perplexity: None, ..crate::report::tests::report() };
    base(dir.path(), "");
    let files = write(dir.path(), &Front::default(), &Origin::Run(&report)).unwrap();
    let manifest = json!({"program": "paring 0", FILES: writer::listed(&files), "other": 1});
    fs::write(dir.path().join(MANIFEST), manifest.to_string()).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(read(CARD).contains("was not measured"));
    let perplexity = crate::report::PerplexityReport {
        before: 10.0,
        after: 11.5,
        dataset: "/data/test|1.txt".into(),
        windows: 4,
        seqlen: 64,
    };
    let report = Report { perplexity: Some(perplexity), ..report };
    refresh(dir.path(), &report).unwrap();
    let row = "| perplexity, test\\|1.txt, 4 windows of 64 tokens | 10.000 | 11.500 |";
    assert!(read(CARD).contains(row), "{}", read(CARD));
    let listed = read_json(&dir.path().join(MANIFEST)).unwrap();
    let entries = listed[FILES].as_array().unwrap();
    assert_eq!((entries.len(), &listed["other"]), (files.len(), &json!(1)));
    let digest = xxhash_rust::xxh3::xxh3_64(read(CARD).as_bytes());
    assert!(entries.iter().any(|entry| entry["digest"] == format!("{digest:016x}")));
    fs::write(dir.path().join(CARD), "mine").unwrap();
    refresh(dir.path(), &report).unwrap();
    assert_eq!(read(CARD), "mine");
}
