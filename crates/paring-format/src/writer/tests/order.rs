//! The order in which files are written, synced and named: what a power cut leaves is decided by it.

use super::*;
use crate::writer::disk::recording::steps;

/// The steps of a file that is written beside its name.
fn whole(name: &str, folder: &str) -> [String; 4] {
    [
        format!("write {name}~"),
        format!("sync {name}~"),
        format!("rename {name}~ to {name}"),
        format!("sync folder {folder}"),
    ]
}

#[test]
fn every_file_is_synced_before_it_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2).unwrap();
    let before = steps(dir.path()).len();
    for i in 0..2 {
        writer.shard(i, vec![tensor(&format!("t{i}"), Dtype::F32, &[2], 1)]).unwrap();
    }
    writer.finish(&json!({}), &[("tokenizer.json".to_string(), b"{}".to_vec())]).unwrap();
    write_beside(&dir.path().join(MANIFEST), 2, |file| file.write_all(b"{}")).unwrap();
    // The config after the index, and both after all weights.
    let names = [&shard_name(0, 2), &shard_name(1, 2), "tokenizer.json", INDEX, CONFIG, MANIFEST];
    assert_eq!(steps(dir.path())[before..], names.map(|name| whole(name, "")).concat());
}

#[test]
fn folders_change_places_between_syncs() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let destination = Destination { overwrite: true, ..Destination::new(&out, 1) };
    for seed in 0..2 {
        let before = steps(parent.path()).len();
        let mut writer = Writer::create(&destination).unwrap();
        let place = writer.place();
        writer.shard(0, vec![tensor("t", Dtype::F32, &[2], seed)]).unwrap();
        let summary = writer.finish(&json!({}), &[]).unwrap();
        let text = json!({"program": "paring 0", FILES: listed(&summary.files)}).to_string();
        write_beside(&place.dir().join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes())).unwrap();
        let written = steps(parent.path()).len();
        place.publish().unwrap();
        let all = steps(parent.path());
        if seed == 0 {
            assert_eq!(all.len(), written, "nothing to exchange");
            continue;
        }
        let staging = ".out.paring-new";
        // The mark is on the disk before the folder that has it, and both before anything is made there.
        let begun: Vec<&String> = all[before..written].iter().filter(|step| !step.contains("probe")).collect();
        let mark = whole(&format!("{staging}/.paring-staged"), staging);
        assert_eq!(begun[..5], mark.iter().chain([&"sync folder ".to_string()]).collect::<Vec<_>>());
        let exchange = [
            &[format!("sync folder {staging}")][..],
            &whole("out/.paring-replaced", "out"),
            &[
                format!("exchange {staging} and out"),
                "sync folder ".into(),
                "remove out/.paring-staged".into(),
                "sync folder out".into(),
            ],
        ];
        let gone = [CONFIG, SINGLE, MANIFEST, ".paring-staged", LOCK, ".paring-replaced"];
        let gone = gone.map(|name| format!("remove {staging}/{name}"));
        let end = ["sync folder "].map(String::from);
        assert_eq!(all[written..], [&exchange.concat()[..], &gone, &end].concat());
    }
}

/// A model whose files are being removed cannot be loaded, and is known as a run's to the last.
#[test]
fn the_config_goes_first_and_the_lists_last() {
    let dir = tempfile::tempdir().unwrap();
    let writes = [CONFIG, INDEX, "a.json", &shard_name(0, 2), &shard_name(1, 2), MANIFEST];
    writes.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
    let begun = json!({"line": "run", "program": "paring 0", WRITES: writes});
    fs::write(dir.path().join(JOURNAL), format!("{begun}\n")).unwrap();
    fs::remove_file(dir.path().join(CONFIG)).unwrap();
    let destination = Destination { has_journal: true, overwrite: true, ..Destination::new(dir.path(), 1) };
    let place = Writer::create(&destination).unwrap().place();
    let removed: Vec<String> = steps(dir.path()).into_iter().filter(|step| step.starts_with("remove")).collect();
    let order = [INDEX, "a.json", &shard_name(0, 2), &shard_name(1, 2), MANIFEST].map(|name| format!("remove {name}"));
    assert_eq!(removed, order);
    // A model whose journal is still there goes in the same order when it is given up.
    writes.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
    let before = steps(dir.path()).len();
    place.discard().unwrap();
    let order = [CONFIG, INDEX, "a.json", &shard_name(0, 2), &shard_name(1, 2), JOURNAL, MANIFEST];
    assert_eq!(steps(dir.path())[before..], order.map(|name| format!("remove {name}")));
}
