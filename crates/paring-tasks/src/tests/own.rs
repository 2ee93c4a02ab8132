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
