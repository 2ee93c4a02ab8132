use super::*;
use crate::table;

fn result(task: &str, documents: usize, value: f64, stderr: Option<f64>) -> TaskResult {
    let metrics = vec![Metric { metric: "acc".into(), value, stderr }];
    TaskResult { task: task.into(), version: 1.0, documents, shots: 0, metrics, tasks: Vec::new() }
}

#[test]
fn groups_are_weighted_by_size() {
    let group = table::group("mmlu_other").unwrap();
    let tasks = [
        result("mmlu_virology", 10, 0.5, Some(0.1)),
        result("mmlu_anatomy", 99, 1.0, Some(0.1)),
        result("mmlu_nutrition", 30, 0.9, Some(0.2)),
    ];
    let made = of_group(group, &tasks).unwrap();
    assert_eq!((made.documents, &made.tasks[..]), (40, &["mmlu_virology".to_string(), "mmlu_nutrition".into()][..]));
    let acc = made.metric("acc").unwrap();
    // sqrt((9 · 0.01 · 10 + 29 · 0.04 · 30) / 38 / 40)
    assert!((acc.value - 0.8).abs() < 1e-15 && (acc.stderr.unwrap() - (35.7f64 / 38.0 / 40.0).sqrt()).abs() < 1e-15);
    let single = [result("mmlu_virology", 1, 1.0, None), result("mmlu_nutrition", 30, 0.9, Some(0.2))];
    assert_eq!(of_group(group, &single).unwrap().metric("acc").unwrap().stderr, None);
    assert_eq!(of_group(group, &single[..1]).unwrap().metric("acc").unwrap().value, 1.0);
    assert_eq!(of_group(group, &tasks[1..2]), None);
}

#[test]
fn the_first_of_equal_scores_wins() {
    assert_eq!(largest([-2.0, -1.0, -1.0].into_iter()), Some(1));
    assert_eq!(largest([f64::NEG_INFINITY, f64::NEG_INFINITY].into_iter()), Some(0));
    assert_eq!(largest([].into_iter()), None);
}

#[test]
fn errors_of_means() {
    assert_eq!(mean_stderr(&[1.0]), None);
    assert!((mean_stderr(&[1.0, 0.0, 0.0, 1.0]).unwrap() - (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-15);
}

/// Records are read as they were written.
#[test]
fn records_come_back() {
    let request = Answered { context: None, continuation: vec![3, 4], loglikelihood: -0.1 - 0.2, is_greedy: true };
    let values = BTreeMap::from([("acc".to_string(), 1.0)]);
    let sample = Sample {
        task: "piqa".into(),
        doc: 7,
        digest: "00000000000000ff".into(),
        gold: Some(1),
        choices: vec!["a".into()],
        context: Some(vec![1, 2]),
        requests: vec![request],
        values,
    };
    let text = serde_json::to_string(&sample).unwrap();
    assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample, "{text}");
}
