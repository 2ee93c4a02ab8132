//! Rows of a file as the documents of a task: several fields of each, in Parquet or JSON.

use std::path::Path;

use serde_json::Value;

use crate::documents::Documents;
use crate::json::Wrong;
use crate::line::{self, Fields};
use crate::{Error, Result, parquet};

/// A row of a file of documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place in the file, for messages: `row 3` or `line 3`, from 1.
    pub place: String,
    /// The values of the fields that were asked for, in that order; null for what is absent and may be.
    pub values: Vec<Value>,
}

/// Shows the rows of a file to `see`, until that returns `false`: the values of the fields `needed`, then of those of `also`, which a
/// file may lack. Reads `.parquet` (columns of texts, of integers, of lists of either, and structs of these) and JSON as objects,
/// one a line or in a list (`.jsonl`, `.json`, also as `.gz` or `.zst`), a row at a time.
///
/// Errors on another ending, where the file cannot be read, and where a row lacks a needed field.
pub fn each(path: &Path, needed: &[&str], also: &[&str], see: &mut dyn FnMut(Record) -> Result<bool>) -> Result<()> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let Some(documents) = Documents::of(path, needed.first().copied().unwrap_or_default()) else {
        return Err(bad("an unknown kind of file, expected .parquet, .jsonl or .json".into()));
    };
    if documents.is_parquet() {
        return each_row(path, needed, also, see);
    }
    let fields = [needed, also].concat();
    documents.each_text(&mut |number, begin, text| {
        let at = |wrong: Wrong| documents.no_json(number, begin, text, &wrong);
        let values = match line::fields(text, &fields).map_err(at)? {
            Fields::Values(values) => values,
            Fields::NoObject(what) => return Err(documents.bad(number, format!("{what}, expected an object"))),
        };
        if let Some(field) = needed.iter().zip(&values).find_map(|(field, value)| value.is_none().then_some(field)) {
            return Err(documents.bad(number, line::lacks(format_args!("field {field:?}"), &line::names(text))));
        }
        let values = values.into_iter().map(Option::unwrap_or_default).collect();
        see(Record { place: documents.place(number), values })
    })
}

/// The same of Parquet.
fn each_row(path: &Path, needed: &[&str], also: &[&str], see: &mut dyn FnMut(Record) -> Result<bool>) -> Result<()> {
    let names = if also.is_empty() { Vec::new() } else { parquet::columns(path)? };
    // The place of each in what is read.
    let mut fields = needed.to_vec();
    let places = also.iter().map(|name| {
        names.iter().any(|there| there == name).then(|| {
            fields.push(name);
            fields.len() - 1
        })
    });
    let places: Vec<Option<usize>> = places.collect();
    parquet::each_record(path, &fields, &mut |row, mut values| {
        let rest = values.split_off(needed.len());
        let of = |place: &Option<usize>| place.and_then(|at| rest.get(at - needed.len())).cloned().unwrap_or_default();
        values.extend(places.iter().map(of));
        see(Record { place: format!("row {row}"), values })
    })
}

#[cfg(test)]
mod tests;
