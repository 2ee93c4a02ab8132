use std::fs;

use super::*;
use crate::table;

/// A hub whose repositories hold these files.
struct Hub<'a>(&'a [(&'a str, &'a str)], RefCell<Vec<String>>);

impl<'a> Hub<'a> {
    fn new(files: &'a [(&'a str, &'a str)]) -> Self {
        Self(files, RefCell::default())
    }
}

impl Remote for Hub<'_> {
    fn list(&self, repo: &str, revision: Option<&str>) -> paring_data::Result<Vec<String>> {
        self.1.borrow_mut().push(format!("{repo}@{}", revision.unwrap_or("main")));
        let of = |(at, _): &&(&str, &str)| *at == format!("{repo}@{}", revision.unwrap_or("main"));
        Ok(self.0.iter().filter(of).map(|(_, path)| path.to_string()).collect())
    }

    fn file(&self, _: &str, revision: Option<&str>, path: &str) -> paring_data::Result<PathBuf> {
        Ok(PathBuf::from(revision.unwrap_or("main")).join(path))
    }
}

fn found(hub: &Hub<'_>, task: &str, split: &str) -> Result<Vec<String>> {
    let files = Files { dir: None, remote: Some(hub) };
    let paths = Finder::new(&files).find(table::find(task).unwrap(), split)?;
    Ok(paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect())
}

#[test]
fn repositories_are_listed() {
    let hub = Hub::new(&[
        ("allenai/winogrande@main", "winogrande_xl/validation-00001-of-00002.parquet"),
        ("allenai/winogrande@main", "winogrande_xl/validation-00000-of-00002.parquet"),
        ("allenai/winogrande@main", "winogrande_xl/train-00000-of-00001.parquet"),
        ("allenai/winogrande@main", "winogrande_xs/validation-00000-of-00001.parquet"),
        ("baber/piqa@main", "piqa_validation.parquet"),
        ("EleutherAI/lambada_openai@main", "data/lambada_test_de.jsonl"),
        ("EleutherAI/lambada_openai@main", "data/lambada_test.jsonl"),
        ("EleutherAI/wikitext_document_level@main", "wikitext-2-raw-v1/wikitext-2-raw-v1-test.parquet"),
        ("cais/mmlu@main", "anatomy/dev-00000-of-00001.parquet"),
        ("cais/mmlu@main", "all/dev-00000-of-00001.parquet"),
        ("Rowan/hellaswag@refs/convert/parquet", "default/validation/0001.parquet"),
        ("Rowan/hellaswag@refs/convert/parquet", "default/validation/0000.parquet"),
        ("abisee/cnn_dailymail@refs/convert/parquet", "3.0.0/test/0000.parquet"),
    ]);
    for (task, split, want) in [
        (
            "winogrande",
            "validation",
            &[
                "main/winogrande_xl/validation-00000-of-00002.parquet",
                "main/winogrande_xl/validation-00001-of-00002.parquet",
            ][..],
        ),
        ("piqa", "validation", &["main/piqa_validation.parquet"]),
        ("lambada_openai", "test", &["main/data/lambada_test.jsonl"]),
        ("wikitext", "test", &["main/wikitext-2-raw-v1/wikitext-2-raw-v1-test.parquet"]),
        ("mmlu_anatomy", "dev", &["main/anatomy/dev-00000-of-00001.parquet"]),
        ("cnn_dailymail", "test", &["refs/convert/parquet/3.0.0/test/0000.parquet"]),
        (
            "hellaswag",
            "validation",
            &[
                "refs/convert/parquet/default/validation/0000.parquet",
                "refs/convert/parquet/default/validation/0001.parquet",
            ],
        ),
    ] {
        assert_eq!(found(&hub, task, split).unwrap(), want, "{task}");
    }
    let error = found(&hub, "piqa", "train").unwrap_err().to_string();
    let words = "baber/piqa: no file piqa_train.parquet in it, nor default/train/0000.parquet in its revision refs/convert/parquet";
    assert!(error.starts_with(words) && error.ends_with("name its folder with data-dir"), "{error}");
}

/// A repository is listed once, however many tasks and splits it holds.
#[test]
fn lists_are_remembered() {
    let hub = Hub::new(&[("cais/mmlu@main", "anatomy/test.parquet"), ("cais/mmlu@main", "virology/test.parquet")]);
    let files = Files { dir: None, remote: Some(&hub) };
    let finder = Finder::new(&files);
    for task in ["mmlu_anatomy", "mmlu_virology"] {
        finder.find(table::find(task).unwrap(), "test").unwrap();
    }
    assert_eq!(*hub.1.borrow(), ["cais/mmlu@main"]);
}

#[test]
fn folders_in_every_layout() {
    for (path, task, split) in [
        ("piqa/validation.jsonl", "piqa", "validation"),
        ("piqa/piqa_validation.parquet", "piqa", "validation"),
        ("piqa_train.parquet", "piqa", "train"),
        ("boolq/boolq/validation-00000-of-00001.parquet", "boolq", "validation"),
        ("aps/super_glue/boolq/train-00000-of-00001.parquet", "boolq", "train"),
        ("mmlu/anatomy/dev-00000-of-00001.parquet", "mmlu_anatomy", "dev"),
        ("mmlu_anatomy/test.json.gz", "mmlu_anatomy", "test"),
        ("lambada_openai/default/test/0000.parquet", "lambada_openai", "test"),
        ("ARC-Easy/test/0000.parquet", "arc_easy", "test"),
        ("hellaswag/default/validation/0000.parquet", "hellaswag", "validation"),
        ("data/validation-00000-of-00001.parquet", "hellaswag", "validation"),
        ("cnn_dailymail/test.jsonl", "cnn_dailymail", "test"),
        ("abisee/cnn_dailymail/3.0.0/test-00000-of-00001.parquet", "cnn_dailymail", "test"),
        ("3.0.0/test/0000.parquet", "cnn_dailymail", "test"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let files = Files { dir: Some(dir.path()), remote: None };
        assert_eq!(Finder::new(&files).find(table::find(task).unwrap(), split).unwrap(), [file], "{path}");
    }
}

#[test]
fn what_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/validation-00000-of-00001.parquet"), "").unwrap();
    let piqa = table::find("piqa").unwrap();
    let error = |dir: Option<&Path>| {
        Finder::new(&Files { dir, remote: None }).find(piqa, "validation").unwrap_err().to_string()
    };
    let words = ": no validation split of piqa in it: neither piqa/validation.jsonl, nor piqa_validation.parquet in piqa/, \
        baber/piqa/, piqa/ or the folder itself; add one";
    assert_eq!(error(Some(dir.path())), format!("data-dir {}{words}", dir.path().display()));
    assert!(error(Some(Path::new("/nowhere/x"))).contains("data-dir /nowhere/x: no such folder"));
    assert_eq!(error(None), "piqa: its documents are nowhere; name the folder that has them with data-dir");
}
