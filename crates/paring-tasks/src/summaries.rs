//! Articles with summaries that people wrote, which summaries of models are measured on.

use paring_data::records::{self, Record};

use crate::document::{Article, Document, Row};
use crate::error::{Error, Result};
use crate::files::{Files, Finder};
use crate::options::{Limit, Protocol};
use crate::table::{Kind, Task};

/// Bytes of texts at most. cnn_dailymail's articles have 47 MB.
const MOST_BYTES: usize = 1 << 30;

/// The articles of a task that is summarized, as many as the limit leaves.
///
/// # Errors
/// On another kind of task, where its files are nowhere or cannot be read, on a row without an article or its summary, and above
/// 1 GiB of text.
pub fn articles(task: &Task, limit: Option<Limit>, files: &Files<'_>) -> Result<Vec<Article>> {
    if task.kind != Kind::Summary {
        return Err(Error::Misuse(format!("{} is a task with questions, and not summarized", task.name).into()));
    }
    let most = match limit {
        Some(Limit::Documents(most)) => most.max(1),
        Some(Limit::Fraction(_)) | None => usize::MAX,
    };
    let (mut articles, mut bytes) = (Vec::new(), 0);
    let paths = Finder::new(files).find(task, task.split)?;
    for path in &paths {
        let file = path.display().to_string();
        let mut wrong = None;
        records::each(path, task.schema.needed, task.schema.also, &mut |Record { place, values }| {
            let row = Row {
                file: &file,
                place: &place,
                columns: task.schema.needed,
                values: &values,
                is_own: task.source.is_own(),
            };
            match (task.schema.read)(&row, Protocol::default()) {
                Ok(Document::Article(article)) => {
                    bytes += article.article.len() + article.highlights.len();
                    articles.push(article);
                }
                Ok(_) => {}
                Err(error) => wrong = Some(error),
            }
            if bytes > MOST_BYTES {
                let most = MOST_BYTES >> 30;
                let reason = format!("{file}: {place}: more than {most} GiB of text up to here; use fewer articles");
                wrong = Some(Error::documents(reason));
            }
            Ok(wrong.is_none() && articles.len() < most)
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        if articles.len() >= most {
            break;
        }
    }
    if articles.is_empty() {
        return Err(Error::no_documents(&paths));
    }
    articles.truncate(limit.map_or(articles.len(), |limit| limit.of(articles.len())));
    Ok(articles)
}
