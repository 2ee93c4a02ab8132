use super::{folder, golden, words};
use crate::{Options, Plan, Score};

const QUESTIONS: &str = r#"{"query": "sesnir one", "choices": ["two", "three four", "tin"], "gold": 2, "note": "ignored"}
{"context": "tin", "choices": ["kudou", "sesnir"], "gold": 0}
{"query": "gan", "choices": ["x"], "gold": 0}
"#;

fn written(name: &str, content: &str) -> (tempfile::TempDir, Plan) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    (dir, Plan::default().with_file(path).unwrap())
}

#[test]
fn questions_of_ones_own() {
    let (_dir, plan) = written("mine.jsonl", QUESTIONS);
    let tokenizer = words();
    let work = plan.prepare(&Options::default(), &folder(&golden("")), &tokenizer, 64).unwrap();
    assert_eq!((work.requests.len(), work.tasks().collect::<Vec<_>>()), (6, vec![("mine", 3)]));
    assert_eq!(work.requests[0].context, tokenizer.tokens("sesnir one").unwrap());
    let scores = [-2.0, -2.5, -1.0, -3.0, -1.0, -9.0];
    let scores = scores.map(|loglikelihood| Score { loglikelihood, is_greedy: false });
    let results = work.results(&scores).unwrap();
    let metric = |name| results[0].metric(name).unwrap().value;
    // By length: −2.0/3, −2.5/10, −1/3; then −3/5, −1/6.
    assert_eq!((results[0].task.as_str(), metric("acc"), metric("acc_norm")), ("mine", 2.0 / 3.0, 1.0 / 3.0));
    let error = work.results(&scores[1..]).unwrap_err().to_string();
    assert_eq!(error, "5 answers, expected one for each of 6 requests");
    let mut nan = scores;
    nan[4].loglikelihood = f64::NAN;
    let error = work.samples(&nan).err().unwrap().to_string();
    assert!(error.starts_with("mine, document 1, choice 1: the model gives NaN"), "{error}");
}

/// Of the others, never the question itself.
#[test]
fn examples_are_other_questions() {
    let (_dir, plan) = written("mine.jsonl", QUESTIONS);
    let options = Options { shots: 2, ..Options::default() };
    let tokenizer = words();
    let work = plan.prepare(&options, &folder(&golden("")), &tokenizer, 64).unwrap();
    let text = |k: usize| tokenizer.decode(&work.requests[k].context, false).unwrap();
    assert_eq!(text(5).matches("sesnir").count(), 1, "{}", text(5));
    assert!(text(0).contains("tin kudou") && text(0).contains("gan"), "{}", text(0));
    let options = Options { shots: 3, ..Options::default() };
    let error = plan.prepare(&options, &folder(&golden("")), &tokenizer, 64).unwrap_err();
    assert!(
        !error.is_misuse() && error.to_string().contains("num-fewshot 3: 4 documents are drawn for mine"),
        "{error}"
    );
}

/// Each row that cannot be asked is one line: the file, the row, what was expected, what it has, and what to do.
#[test]
fn rows_that_are_no_question() {
    let long = r#"{"query": "a", "choices": ["b", "c c c c c c c c c"], "gold": 0}"#;
    for (row, reason) in [
        (r#"{"query": "a", "gold": 0}"#, "no field \"choices\" (it has: query, gold)"),
        (
            r#"{"query": "a", "choices": [], "gold": 0}"#,
            "column \"choices\": expected a list of texts, got an empty list; change the row",
        ),
        (r#"{"query": "a", "choices": "b", "gold": 0}"#, "column \"choices\": expected a list of texts, got \"b\""),
        (
            r#"{"query": "a", "choices": ["b", 1], "gold": 0}"#,
            "column \"choices\": expected a list of texts, got [\"b\",1]",
        ),
        (r#"{"query": "a", "choices": ["b", "c"]}"#, "no field \"gold\" (it has: query, choices)"),
        (
            r#"{"query": "a", "choices": ["b", "c"], "gold": 2}"#,
            "column \"gold\": expected 0 or 1, got 2; change the row, or leave it out",
        ),
        (r#"{"query": "a", "choices": ["b", "c"], "gold": -1}"#, "column \"gold\": expected 0 or 1, got -1"),
        (r#"{"query": "a", "choices": ["b", "c"], "gold": "1"}"#, "column \"gold\": expected 0 or 1, got \"1\""),
        (r#"{"query": "a", "choices": ["b", "c"], "gold": null}"#, "column \"gold\": expected 0 or 1, got nothing"),
        (r#"{"query": 7, "choices": ["b"], "gold": 0}"#, "column \"query\": expected text, got 7"),
        (r#"{"choices": ["b"], "gold": 0}"#, "column \"query\": expected text, or text in context, got nothing"),
        (
            r#"{"query": "a", "context": "a", "choices": ["b"], "gold": 0}"#,
            "column \"context\": expected nothing beside query, got \"a\"",
        ),
        (
            r#"{"query": "a", "choices": ["b", " "], "gold": 0}"#,
            "choice 1: its text makes no token of its own after the context; change",
        ),
        (long, "choice 1: a continuation of 9 tokens, and the model takes 8; leave the document out"),
        ("[]", "a list, expected an object"),
    ] {
        let (_dir, plan) = written("mine.jsonl", &format!("{}\n{row}\n", QUESTIONS.lines().next().unwrap()));
        let error = plan.prepare(&Options::default(), &folder(&golden("")), &words(), 8).unwrap_err().to_string();
        assert!(error.contains("mine.jsonl: line 2: ") && error.contains(reason), "{row}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// As the harness has it: of a context that is too long the end is seen.
#[test]
fn long_contexts_lose_their_beginning() {
    let (_dir, plan) =
        written("mine.jsonl", r#"{"query": "one two three four five six", "choices": ["tin"], "gold": 0}"#);
    let work = plan.prepare(&Options::default(), &folder(&golden("")), &words(), 4).unwrap();
    let request = &work.requests[0];
    let (seen, first) = request.input(work.longest);
    assert_eq!((request.context.len(), request.continuation.len()), (6, 1));
    assert_eq!((seen, first), (request.context[2..].to_vec(), 3));
}

#[test]
fn names_of_files() {
    for (name, words) in [
        ("piqa.jsonl", "piqa is a task already"),
        (".jsonl", "expected .jsonl, .json or .parquet after a name"),
        ("a.txt", "expected .jsonl, .json or .parquet after a name"),
    ] {
        let error = Plan::default().with_file(name.into()).unwrap_err();
        assert!(error.is_misuse() && error.to_string().contains(words), "{error}");
    }
    let plan = Plan::default().with_file("a/v1.2 x.jsonl.gz".into()).unwrap();
    assert_eq!(plan.tasks()[0].name, "v1.2 x");
    let twice = Plan::default().with_file("a/x.jsonl".into()).unwrap().with_file("b/x.json".into()).unwrap_err();
    assert!(twice.to_string().contains("two task files are called x"), "{twice}");
}
