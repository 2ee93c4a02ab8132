use super::folder;
use crate::summaries::articles;
use crate::{Article, Limit, Plan, Result, table};

/// The articles of a folder that has these lines.
fn of(lines: &str, limit: Option<Limit>) -> Result<Vec<Article>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cnn_dailymail")).unwrap();
    std::fs::write(dir.path().join("cnn_dailymail/test.jsonl"), lines).unwrap();
    articles(table::find("cnn_dailymail").unwrap(), limit, &folder(dir.path()))
}

#[test]
fn articles_and_highlights() {
    let lines = r#"{"article": "a", "highlights": "b .\nc .", "id": "1"}

{"highlights": "d", "article": "e"}"#;
    let all = of(lines, None).unwrap();
    let first = Article { article: "a".into(), highlights: "b .\nc .".into() };
    assert_eq!((all.len(), &all[0], all[1].highlights.as_str()), (2, &first, "d"));
    for limit in [Limit::Documents(1), Limit::Fraction(0.5)] {
        assert_eq!(of(lines, Some(limit)).unwrap(), std::slice::from_ref(&first));
    }
    let damaged = format!("{lines}\nnoise");
    assert_eq!(of(&damaged, Some(Limit::Documents(2))).unwrap().len(), 2);
}

#[test]
fn rows_that_are_no_article() {
    let good = "{\"article\": \"a\", \"highlights\": \"b\"}\n";
    for (lines, words) in [
        (
            format!("{good}{{\"article\": null, \"highlights\": \"b\"}}"),
            "line 2: column \"article\": expected text, got nothing",
        ),
        (
            format!("{{\"article\": \"a\", \"highlights\": [\"b\"]}}\n{good}"),
            "\"highlights\": expected text, got [\"b\"]",
        ),
        ("{\"text\": \"a\"}".into(), "line 1: no field \"article\" (it has: text)"),
        (format!("{good}{{\"article\": \"a\"}}"), "line 2: no field \"highlights\" (it has: article)"),
        ("\n".into(), "no documents in it"),
    ] {
        let error = of(&lines, None).unwrap_err().to_string();
        assert!(error.contains("test.jsonl") && error.contains(words) && error.lines().count() == 1, "{error}");
    }
}

/// It is a task as the others are: found by near names, in all layouts of a folder, and no name for a file of one's own.
#[test]
fn it_is_a_task_that_makes_no_requests() {
    let plan = Plan::new(["piqa", "cnn_dailymail", "cnn_dailymail"]).unwrap();
    assert_eq!((plan.tasks().len(), plan.summarized().len()), (1, 1));
    let error = articles(&plan.tasks()[0], None, &folder(std::path::Path::new("nowhere"))).unwrap_err();
    assert!(error.is_misuse() && error.to_string().contains("piqa is a task with questions"), "{error}");
    let error = Plan::default().with_file("cnn_dailymail.jsonl".into()).unwrap_err().to_string();
    assert!(error.contains("cnn_dailymail is a task already; rename the file"), "{error}");
}
