//! Journals that are written, cut off, damaged and compared.

use std::fs;

use super::*;
use paring_data::Windows;

pub(crate) fn identity() -> RunIdentity {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
    let checkpoint = paring_format::Checkpoint::open(&model).unwrap();
    let windows = Windows { ids: vec![1, 2, 3, 4], seqlen: 2, seed: None };
    RunIdentity {
        journal: VERSION,
        program: "paring 1".into(),
        arithmetic: "portable on here".into(),
        plan: serde_json::json!({"recipe": {"percdamp": 0.01}, "model": "here", "device": "cpu", "seed": null}),
        input: Input::of(&checkpoint, Some(&windows), &[("a".into(), b"b".to_vec())]),
        shards: 4,
        writes: vec!["config.json".into()],
    }
}

fn done(block: usize, hidden: Option<&str>) -> Line {
    let kept = |name: &str| Kept { name: name.into(), bytes: 3, digest: u64::MAX - 7 };
    let made = Made { digest: 0x0123_4567_89ab_cdef, shape: Some((2, 3)) };
    let contents = Contents {
        made: BTreeMap::from([(format!("layer.{block}"), made)]),
        kept: vec!["odd".into()],
        lengths: vec![("one".into(), 5)],
    };
    Line::Block(Box::new(BlockRecord {
        block,
        shard: kept("shard"),
        hidden: hidden.map(kept),
        contents,
        layers: Vec::new(),
        trained: None,
        notes: vec!["a \"note\"\nof two lines".into()],
        stages: Vec::new(),
        seconds: 1.5,
        peak_rss_mib: 20.0,
    }))
}

/// A line is on the disk before the run does anything else.
#[test]
fn every_line_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(dir.path(), identity()).unwrap();
    let begun =
        ["write journal.jsonl~", "sync journal.jsonl~", "rename journal.jsonl~ to journal.jsonl", "sync folder "];
    assert_eq!(disk::recording::steps(dir.path()), begun);
    journal.add(&done(0, None)).unwrap();
    assert_eq!(disk::recording::steps(dir.path())[begun.len()..], ["sync data of journal.jsonl"]);
    drop(journal);
    let read = read(dir.path()).unwrap().unwrap();
    let mut journal = Journal::resume(dir.path(), &read).unwrap();
    journal.add(&done(1, None)).unwrap();
    let more = ["sync journal.jsonl", "sync data of journal.jsonl"];
    assert_eq!(disk::recording::steps(dir.path())[begun.len() + 1..], more);
}

/// A threshold that decimal digits do not hold unless there are enough of them.
const THRESHOLD: f64 = 0.1 + 0.2;

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()).unwrap(), None);
    let mut journal = Journal::begin(dir.path(), identity()).unwrap();
    journal.add(&Line::Threshold { choice: 2, bits: THRESHOLD.to_bits() }).unwrap();
    journal.add(&Line::Arithmetic { arithmetic: "avx2 on there".into() }).unwrap();
    journal.add(&done(0, None)).unwrap();
    drop(journal);
    let first = read(dir.path()).unwrap().unwrap();
    assert_eq!((&first.identity, first.blocks.len()), (&identity(), 1));
    assert_eq!(first.thresholds, BTreeMap::from([(2, THRESHOLD)]));
    assert_eq!(first.arithmetic, ["portable on here", "avx2 on there"]);
    // Where nothing was computed yet, nothing is mixed.
    let other = Line::Arithmetic { arithmetic: "avx2 on there".into() };
    let lines = [Line::Run(Box::new(identity())), other].map(|line| text(&line).unwrap());
    assert_eq!(parse(&lines.concat()).unwrap().arithmetic, ["avx2 on there"]);
    // The next process continues where this one ended, and cuts off a line that is not whole.
    let path = dir.path().join(JOURNAL);
    let whole = fs::read(&path).unwrap();
    assert_eq!(first.bytes, whole.len() as u64);
    fs::write(&path, [&whole[..], b"{\"line\":\"blo"].concat()).unwrap();
    let again = read(dir.path()).unwrap().unwrap();
    assert_eq!(again, first);
    let mut journal = Journal::resume(dir.path(), &again).unwrap();
    journal.add(&done(1, None)).unwrap();
    let last = read(dir.path()).unwrap().unwrap();
    let blocks: Vec<Line> = last.blocks.into_iter().map(|done| Line::Block(Box::new(done))).collect();
    assert_eq!(blocks, [done(0, None), done(1, None)]);
    journal.finish().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_latest_activations_stay() {
    let dir = tempfile::tempdir().unwrap();
    let there = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != JOURNAL).collect();
        names.sort();
        names
    };
    for name in [".activations-1", ".activations-3", ".activations-2"] {
        fs::write(dir.path().join(name), "abc").unwrap();
    }
    let mut journal = Journal::begin(dir.path(), identity()).unwrap();
    journal.add(&done(0, Some(".activations-1"))).unwrap();
    journal.add(&done(1, None)).unwrap();
    assert_eq!(there(), [".activations-1", ".activations-2", ".activations-3"]);
    journal.add(&done(2, Some(".activations-3"))).unwrap();
    assert_eq!(there(), [".activations-2", ".activations-3"]);
    drop(journal);
    let read = read(dir.path()).unwrap().unwrap();
    let mut journal = Journal::resume(dir.path(), &read).unwrap();
    // The same file, written again.
    journal.add(&done(3, Some(".activations-3"))).unwrap();
    assert_eq!(there(), [".activations-2", ".activations-3"]);
    journal.add(&done(4, Some(".activations-2"))).unwrap();
    assert_eq!(there(), [".activations-2"]);
    journal.finish().unwrap();
    assert!(there().is_empty());
}

#[test]
fn only_the_last_line_may_be_damaged() {
    let lines = [Line::Run(Box::new(identity())), done(0, None), done(1, None)].map(|line| text(&line).unwrap());
    let whole = lines.concat();
    let blocks = |bytes: &[u8]| blocks_done(bytes);
    assert_eq!(blocks(&whole), Ok(2));
    let begins = lines[0].len();
    // Cut off anywhere after the first line; a line without its end counts as not written.
    for end in (begins..whole.len()).step_by(7) {
        let want = usize::from(end >= begins + lines[1].len());
        assert_eq!(blocks(&whole[..end]), Ok(want), "{end}");
    }
    // Zeros, as some file systems leave them.
    assert_eq!(blocks(&[&whole[..], &[0; 100]].concat()), Ok(2));
    for (bytes, words) in [
        (b"".to_vec(), "not the journal of a run"),
        (
            b"{\"line\":\"run\",\"journal\":1,\"old\":true}\n".to_vec(),
            "a journal of version 1, and this program reads 2",
        ),
        (whole[..begins - 1].to_vec(), "not the journal of a run"),
        (lines[1].clone(), "not the journal of a run"),
        ([&lines[0][..], b"{}\n", &lines[1]].concat(), "line 2: damaged"),
        ([&lines[0][..], b"\n\n"].concat(), "line 2: damaged"),
        ([&lines[0][..], &lines[2]].concat(), "block 1, where 0 comes next"),
        ([&lines[0][..], &lines[0]].concat(), "another run"),
        (whole.iter().map(|&b| if b == b':' { b';' } else { b }).collect(), "not the journal of a run"),
    ] {
        let error = blocks(&bytes).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn what_differs_is_named() {
    let was = identity();
    let with = |change: &dyn Fn(&mut RunIdentity)| {
        let mut now = identity();
        change(&mut now);
        difference(&was, &now)
    };
    assert_eq!(with(&|_| ()), None);
    assert_eq!(with(&|now| now.plan["model"] = "there".into()), None);
    assert_eq!(with(&|now| now.plan["device"] = "cuda:0".into()), None);
    // Judged by itself: it may be allowed.
    assert_eq!(with(&|now| now.arithmetic = "avx2 on there".into()), None);
    let says = |change: &dyn Fn(&mut RunIdentity), words: &str| {
        let text = with(change).unwrap().to_string();
        assert!(text.contains(words), "{text}");
    };
    says(&|now| now.program = "paring 2".into(), "started by paring 1, and this is paring 2");
    says(&|now| now.plan["recipe"]["percdamp"] = 0.5.into(), "recipe.percdamp was 0.01 at the start, and is 0.5");
    says(&|now| now.plan["seed"] = 3.into(), "seed was unset at the start, and is 3 now");
    says(&|now| now.plan["true_sequential"] = true.into(), "true-sequential was unset at the start, and is set now");
    says(&|now| now.plan["ignore"] = vec!["a", "b"].into(), "ignore was unset at the start, and is a, b now");
    says(&|now| now.plan["new"] = true.into(), "new was unset");
    says(&|now| now.shards = 5, "have 5 files now, and was to have 4");
    let input = |windows: Option<&Windows>, companions: &[(String, Vec<u8>)]| {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
        Input::of(&paring_format::Checkpoint::open(&model).unwrap(), windows, companions)
    };
    let beside = [("a".to_string(), b"b".to_vec())];
    let windows = |ids: Vec<u32>, seqlen| Windows { ids, seqlen, seed: None };
    says(&|now| now.input = input(Some(&windows(vec![1, 2, 3, 5], 2)), &beside), "the calibration tokens changed");
    says(&|now| now.input = input(Some(&windows(vec![1, 2, 3, 4], 4)), &beside), "the calibration tokens changed");
    says(&|now| now.input = input(None, &beside), "the calibration tokens changed");
    says(&|now| now.input = input(Some(&windows(vec![1, 2, 3, 4], 2)), &[]), "a file next to the model's weights");
}

/// Shards are read and activations removed by the names that stand in a journal.
#[test]
fn names_stay_in_the_folder() {
    let good = [Line::Run(Box::new(identity())), done(0, Some(".activations-00001"))]
        .map(|line| text(&line).unwrap())
        .concat();
    let good = String::from_utf8(good).unwrap();
    assert_eq!(blocks_done(good.as_bytes()), Ok(1));
    for (name, other) in [
        (".activations-00001", "../.activations-00001"),
        (".activations-00001", "/tmp/.activations"),
        (".activations-00001", "notes.txt"),
        (".activations-00001", ".activations/../../x"),
        ("shard", "../shard"),
        ("shard", ""),
    ] {
        let from = format!("\"name\":\"{name}\"");
        assert_eq!(good.matches(&from).count(), 1, "{good}");
        let bent = good.replace(&from, &format!("\"name\":\"{other}\""));
        let reason =
            format!("line 2: {other:?} is not the name of a file of a run in this folder; start over with overwrite");
        assert_eq!(blocks_done(bent.as_bytes()), Err(reason));
    }
}

/// A run that needs its disk drops what it could do without, once.
#[test]
fn kept_activations_are_forgotten_once() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join(".activations-1");
    fs::write(&kept, "abc").unwrap();
    let mut journal = Journal::begin(dir.path(), identity()).unwrap();
    assert!(!journal.forget_activations().unwrap());
    journal.add(&done(0, Some(".activations-1"))).unwrap();
    assert!(journal.forget_activations().unwrap());
    assert!(!kept.exists() && dir.path().join(JOURNAL).is_file());
    assert!(!journal.forget_activations().unwrap());
}

/// A run that was killed may have removed a file already; a file that cannot be removed is an error.
#[test]
fn files_that_are_gone_are_removed_already() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(dir.path(), identity()).unwrap();
    journal.add(&done(0, Some(".activations-1"))).unwrap();
    journal.add(&done(1, Some(".activations-2"))).unwrap();
    let folder = dir.path().join(".activations-2");
    fs::create_dir(&folder).unwrap();
    let error = journal.add(&done(2, Some(".activations-3"))).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == folder), "{error}");
    fs::remove_dir(&folder).unwrap();
    fs::remove_file(dir.path().join(JOURNAL)).unwrap();
    journal.finish().unwrap();
}

/// A journal that is there and cannot be read is no fresh folder.
#[test]
fn a_journal_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(JOURNAL);
    fs::create_dir(&path).unwrap();
    assert!(read(dir.path()).is_err());
    fs::remove_dir(&path).unwrap();
    // Neither is a path that leads through a file.
    fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(read(&dir.path().join("file")), Err(Error::Format(_))));
    fs::write(&path, "{}\n").unwrap();
    let text = read(dir.path()).unwrap_err().to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("not the journal of a run"), "{text}");
}

/// An output without a journal is known by what its manifest says of the run.
#[test]
fn a_finished_run_is_known_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(MANIFEST);
    let write = |manifest: Value| fs::write(&path, manifest.to_string()).unwrap();
    assert_eq!(finished(dir.path()).unwrap(), None);
    write(serde_json::json!({"program": "paring 1"}));
    assert_eq!(finished(dir.path()).unwrap(), None);
    write(serde_json::json!({"program": "paring 1", RUN_KEY: identity()}));
    assert_eq!(finished(dir.path()).unwrap(), Some(identity()));
    for (begun, words) in [
        (serde_json::json!({"journal": 1}), "a journal of version 1, and this program reads 2"),
        (serde_json::json!({"journal": VERSION}), "missing field"),
    ] {
        write(serde_json::json!({RUN_KEY: begun}));
        let text = finished(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("{MANIFEST}: {RUN_KEY}: ")) && text.contains(words), "{text}");
    }
    fs::write(&path, "{").unwrap();
    assert!(finished(dir.path()).is_err());
}

/// The day that a template wrote stays the day of the run, however often it is resumed.
#[test]
fn the_moment_is_that_of_the_run_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(moment(dir.path()), None);
    let at = |seconds: i64| {
        let mut identity = identity();
        identity.plan["moment"] = seconds.into();
        identity
    };
    drop(Journal::begin(dir.path(), identity()).unwrap());
    assert_eq!(moment(dir.path()), None, "it wrote none");
    // Of the two the journal is that of the run at work.
    let manifest = serde_json::json!({RUN_KEY: at(86_400)}).to_string();
    fs::write(dir.path().join(MANIFEST), manifest).unwrap();
    drop(Journal::begin(dir.path(), at(3_600)).unwrap());
    assert_eq!(moment(dir.path()), Moment::from_seconds(3_600));
    fs::write(dir.path().join(JOURNAL), "damaged").unwrap();
    assert_eq!(moment(dir.path()), None);
    fs::remove_file(dir.path().join(JOURNAL)).unwrap();
    assert_eq!(moment(dir.path()), Moment::from_seconds(86_400));
    assert_ne!(Moment::from_seconds(86_400), Moment::from_seconds(3_600));
}

/// The end of a run knows the contents of all its shards.
#[test]
fn contents_are_joined() {
    let of = |line: Line| if let Line::Block(done) = line { done.contents } else { Contents::default() };
    let mut all = of(done(0, None));
    all.merge(of(done(1, None)));
    assert_eq!(all.made.keys().collect::<Vec<_>>(), ["layer.0", "layer.1"]);
    assert_eq!((all.kept, all.lengths), (vec!["odd".to_string(); 2], vec![("one".to_string(), 5); 2]));
}

/// Every part of the input counts, and the first that differs is named.
#[test]
fn each_part_of_the_input_is_compared() {
    let with = |changes: &[(&str, Value)]| -> RunIdentity {
        let mut now = serde_json::to_value(identity()).unwrap();
        changes.iter().for_each(|(place, value)| *now.pointer_mut(place).unwrap() = value.clone());
        serde_json::from_value(now).unwrap()
    };
    let files = serde_json::to_value(identity()).unwrap()["input"]["files"].as_array().unwrap().clone();
    let name = files[0]["name"].as_str().unwrap();
    let digest = Value::from("00000000000000ff");
    for (place, value, words) in [
        ("/input/files/0/name", "other.safetensors".into(), format!("a file other.safetensors in place of {name}")),
        ("/input/files/0/bytes", 7.into(), format!("{name} has 7 bytes now, and had ")),
        ("/input/files/0/weights", digest.clone(), format!("the weights in {name} changed")),
        ("/input/files", [&files[..], &files[..]].concat().into(), "has 2 files now, and had 1".into()),
        ("/input/config", digest.clone(), "the model's config.json changed".into()),
        ("/input/tensors", digest.clone(), "the model's list of tensors changed".into()),
        ("/input/tokens", digest.clone(), "the calibration tokens changed".into()),
        ("/input/companions", digest.clone(), "a file next to the model's weights changed".into()),
    ] {
        let text = difference(&identity(), &with(&[(place, value)])).unwrap().to_string();
        assert!(text.contains(&words), "{words}: {text}");
    }
    assert_eq!(difference(&identity(), &with(&[])), None);
    // An input without data has no tokens at all.
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
    let without = Input::of(&paring_format::Checkpoint::open(&checkpoint).unwrap(), None, &[]);
    assert_eq!(serde_json::to_value(without).unwrap()["tokens"], "0000000000000000");
}
