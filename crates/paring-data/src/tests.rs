//! Windows of a data set: joined, drawn, from the start, from stored rows.

use std::path::{Path, PathBuf};

use crate::dataset::{Data, Sampling};
use crate::draw;
use crate::named::{self, Files, Protocol, Purpose, Remote};
use crate::random;
use crate::tokenizer::tokenizer_from;
use crate::{Error, Result, Tokenizer};

/// Each word is a token: `w0`, `w1`, … and 0 for any other; `##` is token 1000, an empty line token 1001.
fn words() -> Tokenizer {
    let vocabulary: Vec<String> = (1..1000).map(|i| format!("\"w{i}\": {i}")).collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {{"type": "Replace",
            "pattern": {{"String": "\n\n"}}, "content": " // "}}, "pre_tokenizer": {{"type": "WhitespaceSplit"}},
            "post_processor": null, "decoder": null,
            "model": {{"type": "WordLevel", "vocab": {{"[UNK]": 0, "//": 1001, {}}}, "unk_token": "[UNK]"}}}}"#,
        vocabulary.join(", ")
    );
    tokenizer_from(json.as_bytes(), Path::new("tokenizer.json")).unwrap()
}

#[test]
fn tokens_and_their_text() {
    let words = words();
    assert_eq!(words.tokens("w3 w7 other").unwrap(), [3, 7, 0]);
    assert_eq!(words.decode(&[3, 7], true).unwrap(), "w3 w7");
    // More than one message to a worker would have.
    let all: Vec<u32> = (1..200).collect();
    let each: Vec<&[u32]> = all.chunks(1).collect();
    let texts = words.texts(&each, false).unwrap();
    assert_eq!(texts, all.iter().map(|id| format!("w{id}")).collect::<Vec<_>>());
    let error = words.prompt(&[]).unwrap_err().to_string();
    assert!(error.starts_with("the conversation: messages need a chat template"), "{error}");
}

fn sampling(nsamples: Option<usize>, seqlen: usize, seed: Option<u64>) -> Sampling {
    Sampling { nsamples, seqlen: Some(seqlen), seed, positions: 64 }
}

/// A text of the words from `first` on.
fn text(first: usize, count: usize) -> String {
    (first..first + count).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ")
}

fn json_lines(field: &str, texts: &[String]) -> String {
    texts.iter().map(|t| serde_json::json!({ field: t }).to_string() + "\n").collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn gzip(&self, name: &str, content: &str) -> PathBuf {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, content.as_bytes()).unwrap();
        self.write(name, encoder.finish().unwrap())
    }

    fn named(&self, name: &str, purpose: Purpose, protocol: Protocol) -> Result<Option<Data>> {
        let fetch = |_: &Remote| -> Result<PathBuf> { panic!("a folder was given") };
        named::open(name, purpose, protocol, &Files { dir: Some(self.0.path()), fetch: &fetch })
    }
}

#[test]
fn documents_are_joined_and_read_no_further_than_needed() {
    let folder = Folder::new();
    // Documents of 100 words; the last line is noise that only a reader of the whole file meets.
    let texts: Vec<String> = (0..200).map(|_| text(1, 100)).collect();
    let path = folder.write("a.jsonl", json_lines("text", &texts) + "noise\n");
    let data = Data::open(&path, "text").unwrap();
    let windows = data.calibration(Some(&words()), &sampling(Some(4), 60, None)).unwrap();
    assert_eq!((windows.count(), windows.seed), (4, None));
    let want: Vec<u32> = (1..=100).chain([1001]).cycle().take(240).collect();
    assert_eq!(windows.ids, want);
    let limited = data.evaluation(Some(&words()), Some(60), 64, Some(4)).unwrap();
    assert_eq!(limited.ids, want);
    for error in [
        data.calibration(Some(&words()), &sampling(Some(4), 60, Some(1))).unwrap_err(),
        data.evaluation(Some(&words()), Some(60), 64, None).unwrap_err(),
    ] {
        assert!(error.to_string().contains("a.jsonl: line 201: not JSON"), "{error}");
    }
}

/// The same windows whether the file ends with them or continues.
#[test]
fn a_beginning_is_cut_as_the_whole() {
    let folder = Folder::new();
    let texts: Vec<String> = (0..400).map(|i| text(i % 50 + 1, i % 17)).collect();
    for (name, content) in [("a.jsonl", json_lines("text", &texts)), ("a.txt", texts.join("\n"))] {
        let data = Data::open(&folder.write(name, content), "text").unwrap();
        let whole = data.evaluation(Some(&words()), Some(32), 64, None).unwrap();
        assert!(whole.count() > 80);
        for limit in [1, 7, 40, whole.count()] {
            let some = data.evaluation(Some(&words()), Some(32), 64, Some(limit)).unwrap();
            assert_eq!(some.ids, whole.ids[..limit * 32], "{name}: {limit} windows");
        }
    }
}

#[test]
fn joined_sets_and_their_two_protocols() {
    let folder = Folder::new();
    let sentences = |first: usize| (0..30).map(|i| format!(" {} \n", text(first + i * 4, 4))).collect::<String>();
    folder.write("ptb.train.txt", sentences(1));
    folder.write("ptb.valid.txt", sentences(200));
    folder.write("ptb.test.txt", sentences(400));
    let words = words();
    let tokens = |first: u32, separator: Option<u32>| -> Vec<u32> {
        let lines = (0..30).flat_map(|i| (0..4).map(move |k| first + i * 4 + k).chain(separator));
        let mut tokens: Vec<u32> = lines.collect();
        tokens.truncate(tokens.len() - usize::from(separator.is_some()));
        tokens
    };
    for (protocol, separator, first) in [(Protocol::Gptq, Some(1001), 200), (Protocol::SparseGpt, None, 400)] {
        let data = folder.named("ptb", Purpose::Calibration, protocol).unwrap().unwrap();
        let windows = data.calibration(Some(&words), &sampling(Some(5), 10, None)).unwrap();
        let train = tokens(1, separator);
        let starts = draw::starts(train.len(), 10, 5, 0).unwrap();
        let want: Vec<u32> = starts.iter().flat_map(|&s| train[s..s + 10].to_vec()).collect();
        assert_eq!((windows.seed, windows.ids), (Some(0), want), "{protocol:?}");
        // All 128 windows of the published codes, however short the text.
        let all = data.calibration(Some(&words), &sampling(None, 10, Some(7))).unwrap();
        assert_eq!((all.count(), all.seed), (128, Some(7)));

        let data = folder.named("ptb", Purpose::Evaluation, protocol).unwrap().unwrap();
        let windows = data.evaluation(Some(&words), Some(10), 64, None).unwrap();
        let held = tokens(first, separator);
        assert_eq!((windows.seed, windows.ids), (None, held[..held.len() / 10 * 10].to_vec()), "{protocol:?}");
    }
    let newer = folder.named("ptb_new", Purpose::Evaluation, Protocol::Gptq).unwrap().unwrap();
    assert_eq!(newer.name, "ptb-new");
    assert_eq!(newer.evaluation(Some(&words), Some(10), 64, Some(1)).unwrap().ids[0], 400);
}

/// The file of lines that wikitext's own script reads gives the rows of its Parquet file, blank lines and all.
#[test]
fn wikitext_as_lines_is_wikitext_as_rows() {
    let folder = Folder::new();
    let rows = ["".into(), format!(" = {} = \n", text(1, 2)), "".into(), format!(" {} \n", text(3, 40)), "".into()];
    let lines: String = rows.iter().map(|row| if row.is_empty() { " \n" } else { row }).collect();
    let read = |purpose, protocol| {
        let data = folder.named("wikitext2", purpose, protocol).unwrap().unwrap();
        let windows = match purpose {
            Purpose::Calibration => data.calibration(Some(&words()), &sampling(Some(4), 10, None)),
            Purpose::Evaluation => data.evaluation(Some(&words()), Some(10), 64, None),
        };
        (windows.unwrap(), data.notes())
    };
    let all = || {
        let protocols = [Protocol::Gptq, Protocol::SparseGpt];
        protocols.map(|protocol| [Purpose::Calibration, Purpose::Evaluation].map(|purpose| read(purpose, protocol)))
    };
    for name in ["train", "test"] {
        folder.write(&format!("{name}.txt"), &lines);
    }
    let generic = all();
    assert_eq!(generic[0][1].1, ["wikitext2: read from test.txt, which any set may have"]);
    for name in ["train", "test"] {
        folder.write(&format!("wiki.{name}.raw"), lines.replace('\n', "\r\n"));
    }
    let raw = all();
    assert!(raw.iter().flatten().all(|(_, notes)| notes.is_empty()));
    for name in ["train", "test"] {
        std::fs::remove_file(folder.0.path().join(format!("wiki.{name}.raw"))).unwrap();
        folder.write(&format!("{name}.jsonl"), json_lines("text", &rows));
    }
    let rows = all();
    for ((rows, raw), generic) in rows.iter().flatten().zip(raw.iter().flatten()).zip(generic.iter().flatten()) {
        assert_eq!((&rows.0, &rows.0), (&raw.0, &generic.0));
    }
}

#[test]
fn files_of_any_name_are_text_if_they_are_utf8() {
    let folder = Folder::new();
    for (name, notes) in [("wiki.test.raw", 0), ("README", 0), ("a.text", 0), ("a.md", 1)] {
        let data = Data::open(&folder.write(name, text(1, 20)), "text").unwrap();
        assert_eq!(data.evaluation(Some(&words()), Some(10), 64, None).unwrap().ids, (1..=20).collect::<Vec<u32>>());
        assert_eq!(data.notes().len(), notes, "{name}");
        assert!(data.notes().iter().all(|note| note.ends_with("a.md: unknown kind of file, read as plain text")));
    }
    let error = Data::open(&folder.write("wiki.test.raw", b"caf\xe9s"), "text").err().unwrap().to_string();
    assert!(error.ends_with("it looks like Latin-1; convert it with iconv -f LATIN1 -t UTF-8"), "{error}");
    let error = Data::open(&folder.write("a.npy", b"\x93NUMPY\x01"), "text").err().unwrap().to_string();
    assert!(error.contains("a.npy: not UTF-8") && error.contains("; other data is .txt, .jsonl"), "{error}");
}

#[test]
fn c4_draws_documents() {
    let folder = Folder::new();
    let texts: Vec<String> = (0..60).map(|i| text(i * 3 + 1, 5 + i * 7 % 30)).collect();
    folder.gzip("en/c4-train.00000-of-01024.json.gz", &json_lines("text", &texts));
    folder.gzip("c4-validation.00000-of-00008.json.gz", &json_lines("text", &texts));
    let words = words();
    for (protocol, shortest) in [(Protocol::Gptq, 20), (Protocol::SparseGpt, 21)] {
        let data = folder.named("c4", Purpose::Calibration, protocol).unwrap().unwrap();
        let windows = data.calibration(Some(&words), &sampling(Some(9), 20, Some(3))).unwrap();
        let mut random = random::Random::new(3);
        let mut want = Vec::new();
        while want.len() < 180 {
            let document = random.up_to(59);
            let len = 5 + document * 7 % 30;
            if len >= shortest {
                let start = document * 3 + 1 + random.up_to((len - 20).saturating_sub(1));
                want.extend(start..start + 20);
            }
        }
        assert_eq!((windows.seed, windows.ids), (Some(3), want), "{protocol:?}");
        // The other name of c4 is for measuring: the method says which documents are long enough.
        let newer = folder.named("c4-new", Purpose::Calibration, protocol).unwrap().unwrap();
        let same = newer.calibration(Some(&words), &sampling(Some(9), 20, Some(3))).unwrap();
        assert_eq!(same, data.calibration(Some(&words), &sampling(Some(9), 20, Some(3))).unwrap());
    }
    let data = folder.named("c4", Purpose::Evaluation, Protocol::Gptq).unwrap().unwrap();
    let drawn = data.evaluation(Some(&words), Some(20), 64, None).unwrap();
    assert_eq!((drawn.count(), drawn.seed), (256, Some(0)));
    let some = data.evaluation(Some(&words), Some(20), 64, Some(6)).unwrap();
    assert_eq!(some.ids, drawn.ids[..120]);

    let data = folder.named("c4-new", Purpose::Evaluation, Protocol::Gptq).unwrap().unwrap();
    let joined = data.evaluation(Some(&words), Some(4), 64, None).unwrap();
    let all: Vec<u32> = (0..60).flat_map(|i| (0..5 + i * 7 % 30).map(move |k| i * 3 + 1 + k)).collect();
    assert_eq!(joined.count(), 256);
    assert_eq!(joined.ids, all[..1024]);
}

#[test]
fn c4_joins_its_first_1100_documents_only() {
    let folder = Folder::new();
    let texts: Vec<String> = (0..1200).map(|i| text(if i < 1100 { 1 } else { 500 }, 2)).collect();
    folder.gzip("c4-validation.00000-of-00008.json.gz", &json_lines("text", &texts));
    let data = folder.named("c4", Purpose::Evaluation, Protocol::SparseGpt).unwrap().unwrap();
    let windows = data.evaluation(Some(&words()), Some(11), 64, None).unwrap();
    assert_eq!(windows.ids, [1, 2].repeat(1100));
}

#[test]
fn sets_that_are_not_there() {
    let folder = Folder::new();
    let error = |name: &str, purpose| folder.named(name, purpose, Protocol::Gptq).err().unwrap().to_string();
    let wikitext = error("wikitext2", Purpose::Calibration);
    assert!(wikitext.starts_with("wikitext2: data-dir "), "{wikitext}");
    assert!(wikitext.contains("is empty; it needs wikitext-2-raw-v1/train-00000-of-00001.parquet or "), "{wikitext}");
    folder.write("valid.txt", "one");
    let wikitext = error("wikitext2", Purpose::Calibration);
    assert!(wikitext.contains("has none of wikitext-2-raw-v1/train-"), "{wikitext}");
    assert!(
        wikitext.contains("wiki.train.raw")
            && wikitext.ends_with("(it has: valid.txt); name a file instead of wikitext2"),
        "{wikitext}"
    );
    std::fs::remove_file(folder.0.path().join("valid.txt")).unwrap();
    let ptb = error("ptb", Purpose::Evaluation);
    assert!(ptb.contains("ptb.valid.txt") && !ptb.contains(", 0000.parquet"), "{ptb}");
    assert!(error("pajama", Purpose::Calibration).contains("red_pajama_n=1024.pth"));
    assert!(error("refinedweb", Purpose::Evaluation).contains("measure on wikitext2, c4, ptb"));
    assert!(folder.named("wikitext103", Purpose::Evaluation, Protocol::Gptq).unwrap().is_none());

    // Without a folder the hub is asked, for the file that the repository has.
    let fetch = |remote: &Remote| Err(Error::Sampling(format!("{}/{}", remote.repo, remote.path).into()));
    let files = Files { dir: None, fetch: &fetch };
    let asked = |name, purpose| named::open(name, purpose, Protocol::Gptq, &files).err().unwrap().to_string();
    assert_eq!(asked("c4", Purpose::Calibration), "allenai/c4/en/c4-train.00000-of-01024.json.gz");
    assert!(asked("pajama", Purpose::Calibration).ends_with("name its folder with data-dir"));
}

#[test]
fn documents_too_short_to_draw_from() {
    let folder = Folder::new();
    folder.gzip("c4-train.00000-of-01024.json.gz", &json_lines("text", &[text(1, 5), text(1, 19)]));
    let data = folder.named("c4", Purpose::Calibration, Protocol::Gptq).unwrap().unwrap();
    let error = data.calibration(Some(&words()), &sampling(None, 20, None)).unwrap_err().to_string();
    assert!(error.contains("the 2 that were tried (of 2) has 19, expected 20"), "{error}");
}
