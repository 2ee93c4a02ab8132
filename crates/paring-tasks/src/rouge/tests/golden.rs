//! Golden data of rouge_score and NLTK: tests/golden/rouge.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::rouge::{Kind, Overlap, Overlaps, Rouge, means, stem, tokens};

/// Ratios of small integers, and a few operations on them.
const TOLERANCE: f64 = 1e-12;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/rouge").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Objects of a file of lines.
fn objects(name: &str) -> Vec<Value> {
    golden(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stems_are_those_of_nltk() {
    let text = golden("stems.tsv");
    let pairs: Vec<(&str, &str)> = text.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(pairs.len(), 374);
    for (word, expected) in pairs {
        assert_eq!(stem(word), expected, "{word}");
    }
    // Other letters than those of ASCII never reach it.
    assert_eq!(stem("naïves"), "naïves");
    assert_eq!(stem(""), "");
}

#[test]
fn tokens_are_those_of_the_scorer() {
    let rows = objects("tokens.jsonl");
    assert_eq!(rows.len(), 21);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        for (key, stemming) in [("plain", false), ("stemmed", true)] {
            assert_eq!(Value::from(tokens(text, stemming)), row[key], "{text:?}, {key}");
        }
    }
}

#[test]
fn pairs_and_means_are_those_of_the_scorer() {
    let rows = objects("pairs.jsonl");
    let expected_means: Value = serde_json::from_str(&golden("means.json")).unwrap();
    let mut compared = 0;
    for (key, stemming) in [("plain", false), ("stemmed", true)] {
        let mut all = Vec::new();
        for row in &rows {
            let text = |field: &str| row[field].as_str().unwrap();
            let overlaps = Rouge { stemming }.overlaps(text("reference"), text("prediction"));
            for kind in Kind::ALL {
                let Overlap { precision, recall, f } = overlaps.of(kind);
                for (got, expected) in [precision, recall, f].iter().zip(row[key][kind.name()].as_array().unwrap()) {
                    let expected = expected.as_f64().unwrap();
                    assert!((got - expected).abs() < TOLERANCE, "{key} {} {}: {got}", kind.name(), row["note"]);
                    compared += 1;
                }
            }
            all.push(overlaps);
        }
        for mean in means(&all).unwrap() {
            let expected = expected_means["mean_fmeasure_times_100"][key][mean.kind.name()].as_f64().unwrap();
            let got: f64 = format!("{:.4}", 100.0 * mean.overlap.f).parse().unwrap();
            assert_eq!(got, expected, "{key} {}", mean.kind.name());
        }
    }
    assert_eq!(compared, 40 * 2 * 4 * 3);
}

/// The best reference is chosen for each kind, and the first of equal ones.
#[test]
fn several_references() {
    let rouge = Rouge { stemming: true };
    let (in_order, words) = ("one two", "four three two one");
    let best = rouge.best(&[in_order, words], "one two three four");
    let of = |reference: &str| rouge.overlaps(reference, "one two three four");
    assert_eq!(best.of(Kind::Rouge1), of(words).of(Kind::Rouge1));
    assert_eq!(best.of(Kind::Rouge2), of(in_order).of(Kind::Rouge2));
    assert_eq!(best.of(Kind::RougeL), of(in_order).of(Kind::RougeL));
    assert_eq!(best.of(Kind::Rouge1), Overlap { precision: 1.0, recall: 1.0, f: 1.0 });
    // Both have F = 2/3, the one all precision, the other all recall.
    let (short, long) = ("one", "one two three four");
    let of_ties = |references: &[&str]| rouge.best(references, "one two").of(Kind::Rouge1);
    assert_eq!((of_ties(&[short, long]).recall, of_ties(&[long, short]).recall), (1.0, 0.5));
    assert_eq!(rouge.best::<&str>(&[], "one"), Overlaps::default());
}

#[test]
fn means_of_texts() {
    assert_eq!(means(&[]), None);
    let rouge = Rouge { stemming: false };
    let pair = [rouge.overlaps("one", "one"), rouge.overlaps("one two three", "one")];
    let [mean, ..] = means(&pair).unwrap();
    // F of 1 and 1/2: their sample deviation is √(1/8), and there are two.
    assert_eq!((mean.kind, mean.overlap.f, mean.overlap.precision), (Kind::Rouge1, 0.75, 1.0));
    assert!((mean.stderr.unwrap() - 0.25).abs() < TOLERANCE);
    assert_eq!(means(&pair[..1]).unwrap()[0].stderr, None);
}
