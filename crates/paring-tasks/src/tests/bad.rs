use super::{folder, golden, words};
use crate::{Limit, Options, Plan, Request};

/// The error of a task whose documents are these lines.
fn error(task: &str, file: &str, content: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(task)).unwrap();
    std::fs::write(dir.path().join(task).join(file), content).unwrap();
    let plan = Plan::new([task]).unwrap();
    let error = plan.prepare(&Options::default(), &folder(dir.path()), &words(), 8).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn documents_that_do_not_fit_their_task() {
    let piqa = r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}"#;
    let arc = |key: &str, choices: &str| format!(r#"{{"question": "a", "choices": {choices}, "answerKey": "{key}"}}"#);
    let four = r#"{"text": ["x", "y"], "label": ["A", "B"]}"#;
    let validation = "validation.jsonl";
    for (task, file, content, words) in [
        (
            "piqa",
            validation,
            format!("{piqa}\n{}", piqa.replace(": 0", ": 2")),
            "piqa/validation.jsonl: line 2: column \"label\": expected 0 or 1, got 2; download",
        ),
        ("piqa", validation, piqa.replace("\"a\"", "[1]"), "line 1: column \"goal\": expected text, got [1]"),
        (
            "piqa",
            validation,
            piqa.replace("sol2", "sol3"),
            "line 1: no field \"sol2\" (it has: goal, sol1, sol3, label)",
        ),
        ("piqa", validation, String::new(), "piqa/validation.jsonl: no documents in it"),
        (
            "winogrande",
            validation,
            r#"{"sentence": "a _", "option1": "b", "option2": "c", "answer": ""}"#.into(),
            "column \"answer\": expected \"1\" or \"2\", got \"\"",
        ),
        (
            "winogrande",
            validation,
            r#"{"sentence": "a", "option1": "b", "option2": "c", "answer": "1"}"#.into(),
            "column \"sentence\": expected a sentence with _ in it, got \"a\"",
        ),
        (
            "hellaswag",
            validation,
            r#"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "2"}"#.into(),
            "column \"label\": expected 0 or 1 as text, got \"2\"",
        ),
        (
            "hellaswag",
            validation,
            r#"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": [], "label": "0"}"#.into(),
            "column \"endings\": expected a list of texts, got an empty list",
        ),
        ("arc_easy", "test.jsonl", arc("C", four), "column \"answerKey\": expected one of A, B, got \"C\""),
        (
            "arc_easy",
            "test.jsonl",
            arc("A", "[]"),
            "column \"choices\": expected lists text and label, got an empty list",
        ),
        (
            "arc_easy",
            "test.jsonl",
            arc("A", r#"{"text": ["x"], "label": ["A", "B"]}"#),
            "expected as many labels as texts",
        ),
        (
            "boolq",
            validation,
            r#"{"question": "a", "passage": null, "label": 0}"#.into(),
            "column \"passage\": expected text, got nothing",
        ),
        (
            "mmlu_virology",
            "test.jsonl",
            r#"{"question": "a", "choices": ["a", "b"], "answer": 0}"#.into(),
            "expected a list of 4 texts",
        ),
        // The tokenizer of words ignores spaces, and the model takes 8 tokens.
        (
            "piqa",
            validation,
            piqa.replace("\"c\"", "\" \""),
            "line 1: choice 1: its text makes no token of its own after the context",
        ),
        (
            "piqa",
            validation,
            piqa.replace("\"c\"", "\"a b c d e f g h i\""),
            "line 1: choice 1: a continuation of 9 tokens, and the model takes 8",
        ),
        (
            "lambada_openai",
            "test.jsonl",
            r#"{"text": "  word"}"#.into(),
            "line 1: choice 0: the context makes no token",
        ),
    ] {
        let error = error(task, file, &content);
        assert!(error.contains(words), "{task}: {error}");
    }
}

#[test]
fn names_that_no_task_has() {
    for (name, words) in [
        ("hellaswg", "no task is called \"hellaswg\"; did you mean hellaswag?"),
        ("mmlu_anatomie", "did you mean mmlu_anatomy?"),
        ("something", "known: winogrande, piqa"),
    ] {
        let error = Plan::new(["piqa", name]).unwrap_err();
        assert!(error.is_misuse() && error.to_string().contains(words), "{error}");
    }
    let plan = Plan::new(["mmlu_stem", "piqa", "mmlu", "piqa"]).unwrap();
    assert_eq!((plan.tasks().len(), plan.tasks()[19].name.as_ref()), (58, "piqa"));
}

#[test]
fn fewer_documents() {
    let plan = Plan::new(["boolq"]).unwrap();
    let asked = |limit| {
        let options = Options { limit: Some(limit), ..Options::default() };
        plan.prepare(&options, &folder(&golden("")), &words(), 256).unwrap().requests.len()
    };
    assert_eq!((asked(Limit::Documents(3)), asked(Limit::Fraction(0.1)), asked(Limit::Documents(99))), (6, 6, 48));
}

/// With and without a limit the first documents have the same examples.
#[test]
fn limits_leave_examples_as_they_are() {
    let plan = Plan::new(["piqa"]).unwrap();
    let requests = |limit: Option<Limit>| -> Vec<Request> {
        let options = Options { shots: 2, limit, ..Options::default() };
        plan.prepare(&options, &folder(&golden("")), &words(), 256).unwrap().requests
    };
    let (few, all) = (requests(Some(Limit::Documents(4))), requests(None));
    assert_eq!((few.len(), &few[..]), (8, &all[..8]));
    let text = Plan::new(["wikitext"]).unwrap();
    let options = Options { shots: 1, ..Options::default() };
    let error = text.prepare(&options, &folder(&golden("")), &words(), 256).unwrap_err().to_string();
    assert!(error.contains("wikitext takes no examples"), "{error}");
}
