use super::{folder, golden, words};
use crate::{Limit, Options, Plan, Request, table};

/// Fails unless the task with these documents gives an error of one line with these words, with a tokenizer that
/// ignores spaces and a model that takes 8 tokens.
fn assert_error(task: &str, content: &str, words: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(task)).unwrap();
    let file = format!("{task}/{}.jsonl", table::find(task).unwrap().split);
    std::fs::write(dir.path().join(&file), content).unwrap();
    let (plan, tokenizer) = (Plan::new([task]).unwrap(), super::words());
    let error = plan.prepare(&Options::default(), &folder(dir.path()), &tokenizer, 8).unwrap_err().to_string();
    assert!(error.lines().count() == 1 && error.contains(&file) && error.contains(words), "{task}: {error}");
}

const PIQA: &str = r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}"#;

#[test]
fn columns_that_hold_something_else() {
    let hellaswag = r#"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "2"}"#;
    let winogrande = r#"{"sentence": "a _", "option1": "b", "option2": "c", "answer": ""}"#;
    let label = "line 2: column \"label\": expected 0 or 1, got 2; download";
    assert_error("piqa", &format!("{PIQA}\n{}", PIQA.replace(": 0", ": 2")), label);
    for (task, content, words) in [
        ("piqa", PIQA.replace("\"a\"", "[1]"), "line 1: column \"goal\": expected text, got [1]"),
        ("piqa", PIQA.replace("sol2", "sol3"), "line 1: no field \"sol2\" (it has: goal, sol1, sol3, label)"),
        ("piqa", String::new(), "no documents in it"),
        ("winogrande", winogrande.into(), "column \"answer\": expected \"1\" or \"2\", got \"\""),
        ("winogrande", winogrande.replace(" _", ""), "\"sentence\": expected a sentence with _ in it, got \"a\""),
        ("hellaswag", hellaswag.into(), "column \"label\": expected 0 or 1 as text, got \"2\""),
        (
            "hellaswag",
            hellaswag.replace("\"d\", \"e\"", ""),
            "\"endings\": expected a list of texts, got an empty list",
        ),
        (
            "boolq",
            r#"{"question": "a", "passage": null, "label": 0}"#.into(),
            "\"passage\": expected text, got nothing",
        ),
        ("mmlu_virology", r#"{"question": "a", "choices": ["a"], "answer": 0}"#.into(), "expected a list of 4 texts"),
    ] {
        assert_error(task, &content, words);
    }
}

#[test]
fn answers_that_are_no_choices() {
    let arc = |choices: &str, key: &str| format!(r#"{{"question": "a", "choices": {choices}, "answerKey": "{key}"}}"#);
    let (two, one) = (r#"{"text": ["x", "y"], "label": ["A", "B"]}"#, r#"{"text": ["x"], "label": ["A", "B"]}"#);
    for (content, words) in [
        (arc(two, "C"), "column \"answerKey\": expected one of A, B, got \"C\""),
        (arc("[]", "A"), "column \"choices\": expected lists text and label, got an empty list"),
        (arc(one, "A"), "expected as many labels as texts"),
    ] {
        assert_error("arc_easy", &content, words);
    }
}

#[test]
fn texts_that_make_no_request() {
    for (task, content, words) in [
        (
            "piqa",
            PIQA.replace("\"c\"", "\" \""),
            "line 1: choice 1: its text makes no token of its own after the context",
        ),
        (
            "piqa",
            PIQA.replace("\"c\"", "\"a b c d e f g h i\""),
            "choice 1: a continuation of 9 tokens, and the model takes 8",
        ),
        ("lambada_openai", r#"{"text": "  word"}"#.into(), "line 1: choice 0: the context makes no token"),
    ] {
        assert_error(task, &content, words);
    }
}

#[test]
fn names_that_no_task_has() {
    for (name, words) in [
        ("cnn_dailymial", "did you mean cnn_dailymail?"),
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
