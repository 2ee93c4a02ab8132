use std::path::Path;

use paring_data::tokenizer::tokenizer_from;
use serde_json::{Map, Value, json};

use super::*;
use crate::tests::root;

/// The characters that GPT-2's kind of tokenizer writes bytes as.
fn alphabet() -> Vec<char> {
    let own = |byte: u32| (33..=126).contains(&byte) || (161..=172).contains(&byte) || (174..=255).contains(&byte);
    let mut next = 255;
    let mut one = |byte: u32| {
        next += u32::from(!own(byte));
        char::from_u32(if own(byte) { byte } else { next }).unwrap()
    };
    (0..256).map(&mut one).collect()
}

/// A tokenizer whose first 256 tokens are bytes, and the next an end that is no text.
fn bytes() -> Tokenizer {
    let vocab: Map<String, Value> = alphabet().iter().zip(0..).map(|(c, id)| (c.to_string(), json!(id))).collect();
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    });
    tokenizer_from(text.to_string().as_bytes(), Path::new("bytes")).unwrap()
}

/// A tokenizer that writes spaces into its tokens and bytes where it has no token, as Llama 2's.
fn pieces() -> Tokenizer {
    let mut vocab: Map<String, Value> = Map::new();
    for token in ["<unk>", "▁one", "▁two", "s", "▁"] {
        vocab.insert(token.into(), json!(vocab.len()));
    }
    (0..256).for_each(|byte| _ = vocab.insert(format!("<0x{byte:02X}>"), json!(byte + 5)));
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": []}
    });
    tokenizer_from(text.to_string().as_bytes(), Path::new("pieces")).unwrap()
}

/// The text that comes with each token, and at the end.
fn streamed(tokenizer: &Tokenizer, mut text: Text, ids: &[u32]) -> Vec<String> {
    let mut pieces: Vec<String> = ids.iter().map(|&id| text.push(tokenizer, id).unwrap()).collect();
    pieces.push(text.finish(tokenizer).unwrap());
    pieces
}

fn of_bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn characters_come_whole() {
    let tokenizer = bytes();
    let text = "aé漢🙂 ";
    let got = streamed(&tokenizer, Text::new(&[]), &of_bytes(text));
    assert_eq!(got, ["a", "", "é", "", "", "漢", "", "", "", "🙂", " ", ""]);
    // A character that is cut off is shown as such at the end, and special tokens are no text.
    let ids = [0x61, 0xe6, 0xbc, 256];
    assert_eq!(streamed(&tokenizer, Text::new(&[]), &ids), ["a", "", "", "", "\u{fffd}"]);
    // Bytes that are no text do not hold back what follows.
    let mut ids = vec![0xff; 40];
    ids.extend(of_bytes("ok"));
    let got = streamed(&tokenizer, Text::new(&[]), &ids);
    assert!(got[LONGEST - 1].starts_with('\u{fffd}') && got.concat().ends_with("\u{fffd}ok"), "{got:?}");
    assert_eq!(got.concat(), tokenizer.decode(&ids, true).unwrap());
}

#[test]
fn spaces_are_those_of_the_whole_text() {
    let tokenizer = pieces();
    let [e, acute] = [0xc3 + 5, 0xa9 + 5];
    let ids = [1, 2, 3, 4, e, acute, 2];
    let whole = tokenizer.decode(&ids, true).unwrap();
    assert_eq!(whole, "one twos é two");
    assert_eq!(streamed(&tokenizer, Text::new(&[]), &ids).concat(), whole);
    // After a prompt the first word keeps its space.
    assert_eq!(streamed(&tokenizer, Text::after(&[1], &[]), &ids[1..]), [" two", "s", " ", "", "é", " two", ""]);
    let demo = std::fs::read(root("crates/paring-cli/demo/tokenizer.json")).unwrap();
    let demo = tokenizer_from(&demo, Path::new("demo")).unwrap();
    let whole = demo.decode(&[44, 500, 3, 13], true).unwrap();
    let after = streamed(&demo, Text::after(&[44, 500], &[]), &[3, 13]).concat();
    assert_eq!(format!("{}{after}", demo.decode(&[44, 500], true).unwrap()), whole);
}

#[test]
fn text_ends_before_a_stop_string() {
    let tokenizer = bytes();
    let stop = |strings: &[&str]| strings.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let run = |strings: &[&str], text: &str| streamed(&tokenizer, Text::new(&stop(strings)), &of_bytes(text));
    // Held back until it is certain.
    assert_eq!(run(&["stop"], "a sto b"), ["a", " ", "", "", "", "sto ", "b", ""]);
    assert_eq!(run(&["stop"], "a stop b").concat(), "a ");
    assert_eq!(run(&["stop"], "a sto").concat(), "a sto");
    assert_eq!(run(&["aab"], "aaab"), ["", "", "a", "", ""]);
    assert_eq!(run(&["\n\n", "é!"], "oné!\n\n").concat(), "on");
    let mut text = Text::new(&stop(&["b"]));
    assert!(!text.is_stopped());
    of_bytes("abc").iter().for_each(|&id| _ = text.push(&tokenizer, id).unwrap());
    assert!(text.is_stopped());
    assert_eq!(run(&["b", "stop"], "a stop b").concat(), "a ");
    assert_eq!(run(&["", "d"], "abc").concat(), "abc");
}
