//! News articles with summaries that people wrote: cnn_dailymail, which summaries of models are measured on.

use std::path::{Path, PathBuf};

use crate::documents::{Document, Documents};
use crate::error::option;
use crate::named::{Files, Part, part};
use crate::{Error, Result};

/// The name of the set.
pub const NAME: &str = "cnn_dailymail";

/// Its columns.
const ARTICLE: &str = "article";
const HIGHLIGHTS: &str = "highlights";

/// The part that training does not see: 11490 articles.
const TEST: Part = part(
    "abisee/cnn_dailymail",
    "3.0.0/test-00000-of-00001.parquet",
    &["cnn_dailymail.parquet", "cnn_dailymail.jsonl", "test.parquet", "test.jsonl"],
    ARTICLE,
);

/// The part that training sees, in three files: 287113 articles. In a folder, one file may have them all.
const TRAINING: [Part; 3] = [
    of_training(
        "3.0.0/train-00000-of-00003.parquet",
        &["cnn_dailymail.train.parquet", "cnn_dailymail.train.jsonl", "train.parquet", "train.jsonl"],
    ),
    of_training("3.0.0/train-00001-of-00003.parquet", &[]),
    of_training("3.0.0/train-00002-of-00003.parquet", &[]),
];

const fn of_training(path: &'static str, also: &'static [&'static str]) -> Part {
    part("abisee/cnn_dailymail", path, also, ARTICLE)
}

/// Bytes of the texts of a column at most. The set's articles have 47 MB.
const MOST_BYTES: usize = 1 << 30;

/// An article and its summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// The article.
    pub article: String,
    /// The sentences of a person about it, with line breaks between them.
    pub highlights: String,
}

/// The files of the set's training part.
///
/// # Errors
/// When one is nowhere.
pub(crate) fn training(files: &Files<'_>) -> Result<Vec<PathBuf>> {
    let [first, others @ ..] = &TRAINING;
    let mut paths = vec![first.find(NAME, files)?];
    let is_whole = paths.iter().all(|path| !path.ends_with(first.file_name()));
    for part in others.iter().filter(|_| !is_whole) {
        paths.push(part.find(NAME, files)?);
    }
    Ok(paths)
}

/// The first `limit` articles of the set's test part, or all.
///
/// # Errors
/// When its file is nowhere, and as [`read`].
pub fn open(files: &Files<'_>, limit: Option<usize>) -> Result<Vec<Article>> {
    read(&TEST.find(NAME, files)?, limit)
}

/// The first `limit` articles of a file of documents, or all.
///
/// # Errors
/// When the file cannot be read, has no `article` or `highlights`, none at all or more than 1 GiB of them, and where one of both
/// is null.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Article>> {
    let limit = limit.unwrap_or(usize::MAX).max(1);
    let articles = column(path, ARTICLE, limit)?;
    let mut highlights = column(path, HIGHLIGHTS, limit)?.into_iter().peekable();
    let alone = |place: String, is: &str, other: &str| {
        Error::data(path.display().to_string(), format!("{place}: {is} without {other}; fill it in, or remove it"))
    };
    let mut pairs = Vec::with_capacity(articles.len());
    for (number, place, article) in articles {
        // What is null is left out.
        match highlights.next() {
            Some((of, _, highlights)) if of == number => pairs.push(Article { article, highlights }),
            Some((of, place, _)) if of < number => return Err(alone(place, HIGHLIGHTS, ARTICLE)),
            _ => return Err(alone(place, ARTICLE, HIGHLIGHTS)),
        }
    }
    match highlights.next() {
        Some((_, place, _)) => Err(alone(place, HIGHLIGHTS, ARTICLE)),
        None if pairs.is_empty() => Err(Error::data(path.display().to_string(), "no articles in it; use another file")),
        None => Ok(pairs),
    }
}

/// The first texts of a field: number, place in words, and content.
fn column(path: &Path, field: &str, limit: usize) -> Result<Vec<(usize, String, String)>> {
    let name = path.display().to_string();
    let documents = Documents::of(path, field)
        .ok_or_else(|| Error::data(&name, "expected .parquet, .jsonl or .json (also .gz or .zst)"))?;
    let (mut texts, mut bytes) = (Vec::new(), 0);
    let read = documents.each(&mut |number, document| {
        let Document::Text(text) = document else {
            return Err(documents.bad(number, format!("field {field:?} holds a list, expected text")));
        };
        bytes += text.len();
        if bytes > MOST_BYTES {
            let most = MOST_BYTES >> 30;
            return Err(documents.bad(number, format!("more than {most} GiB of text up to here; use fewer articles")));
        }
        texts.push((number, documents.place(number), text));
        Ok(texts.len() < limit)
    });
    match read {
        // The field has no option: it is the set's.
        Err(Error::Data { reason, .. }) if reason.options().any(|name| name == option::TEXT_FIELD) => {
            let reason =
                format!("not all rows have {field:?}; expected {ARTICLE} and {HIGHLIGHTS}, as {NAME} has them");
            Err(Error::data(name, reason))
        }
        read => read.map(|()| texts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str, limit: Option<usize>) -> Result<Vec<Article>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cnn_dailymail.jsonl"), lines).unwrap();
        open(&Files { dir: Some(dir.path()), fetch: &|_| panic!("the folder has it") }, limit)
    }

    #[test]
    fn articles_and_highlights() {
        let lines = r#"{"article": "a", "highlights": "b .\nc .", "id": "1"}

{"highlights": "d", "article": "e"}"#;
        let all = of(lines, None).unwrap();
        let first = Article { article: "a".into(), highlights: "b .\nc .".into() };
        assert_eq!((all.len(), &all[0]), (2, &first));
        assert_eq!(all[1].highlights, "d");
        assert_eq!(of(lines, Some(1)).unwrap(), [first]);
    }

    #[test]
    fn what_is_no_pair() {
        let good = "{\"article\": \"a\", \"highlights\": \"b\"}\n";
        for (lines, words) in [
            (format!("{good}{{\"article\": null, \"highlights\": \"b\"}}"), "line 2: highlights without article"),
            (format!("{{\"article\": \"a\", \"highlights\": null}}\n{good}"), "line 1: article without highlights"),
            (format!("{{\"article\": null, \"highlights\": \"b\"}}\n{good}"), "line 1: highlights without article"),
            (format!("{good}{{\"article\": \"a\", \"highlights\": null}}"), "line 2: article without highlights"),
            ("{\"article\": [{\"a\": 1}], \"highlights\": \"b\"}".into(), "holds a list, expected text"),
            ("{\"text\": \"a\"}".into(), "not all rows have \"article\"; expected article and highlights"),
            ("\n".into(), "no articles in it"),
        ] {
            let error = of(&lines, None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(read(Path::new("a.txt"), None).unwrap_err().to_string().contains("expected .parquet"));
    }
}
