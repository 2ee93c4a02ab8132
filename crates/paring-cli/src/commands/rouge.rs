//! Generated texts beside references.

use paring::report::words::plural;
use paring::{Error, Result};
use paring_data::texts::{self, Texts};
use paring_tasks::rouge::{self, Kind, Mean, Overlaps, Rouge, sentences};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::args::RougeArgs;
use crate::show::{self, Answer, Failure, Sentences};

pub fn rouge(args: &RougeArgs) -> Result<Answer, Failure> {
    let of_references = args.reference_field.as_deref().or(args.field.as_deref());
    let Texts { texts: predictions, field } = texts::predictions(&args.predictions, args.field.as_deref())?;
    let Texts { texts: references, field: reference_field } = texts::references(&args.references, of_references)?;
    let (count, expected) = (predictions.len(), references.len());
    if count != expected {
        let (file, other) = (args.predictions.display(), args.references.display());
        let both = format!("{file}: {}, and {other} has {expected}", plural(count, "text"));
        return Err(Error::Plan(format!("{both}; each prediction needs its reference in the same line")).into());
    }
    let lines = |text: &str| if args.split_sentences { sentences::in_lines(text) } else { text.to_string() };
    let rouge = Rouge { stemming: !args.no_stemmer };
    let overlaps: Vec<Overlaps> = predictions
        .par_iter()
        .zip(&references)
        .map(|(prediction, references)| {
            let references: Vec<String> = references.iter().map(|text| lines(text)).collect();
            rouge.best(&references, &lines(prediction))
        })
        .collect();
    let means = rouge::means(&overlaps).ok_or_else(|| Error::Plan("no texts to compare".into()))?;
    let most = references.iter().map(Vec::len).max().unwrap_or(0);
    let sentences = if args.split_sentences { Sentences::Approximate } else { Sentences::Lines };
    let mut value = json!({
        "texts": count, "references": most, "field": field, "reference_field": reference_field,
        "stemmer": rouge.stemming,
        "sentences": if args.split_sentences { "approximate" } else { "lines" },
    });
    // F alone by the names of the kinds, which programs read; the rest of each beside them.
    for (kind, mean) in Kind::ALL.into_iter().zip(&means) {
        value[kind.name()] = json!(100.0 * mean.overlap.f);
        value["figures"][kind.name()] = figures(mean);
    }
    Ok(Answer::new(&value)?.whole_lines(show::rouge(&means, (count, most), rouge, sentences)))
}

/// Figures times 100.
fn figures(mean: &Mean) -> Value {
    json!({
        "precision": 100.0 * mean.overlap.precision,
        "recall": 100.0 * mean.overlap.recall,
        "f": 100.0 * mean.overlap.f,
        "stderr": mean.stderr.map(|stderr| 100.0 * stderr),
    })
}
