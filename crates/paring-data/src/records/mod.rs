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

/// The rows of a file, with the values of the fields `needed`, then of those of `also`, which a file may lack. Reads `.parquet`
/// (columns of texts, of integers, of lists of either, and structs of these) and JSON as objects, one a line or in a list
/// (`.jsonl`, `.json`, also as `.gz` or `.zst`).
///
/// Errors on another ending, where the file cannot be read, and where a row lacks a needed field. Takes memory for all values.
pub fn read(path: &Path, needed: &[&str], also: &[&str]) -> Result<Vec<Record>> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let Some(documents) = Documents::of(path, needed.first().copied().unwrap_or_default()) else {
        return Err(bad("an unknown kind of file, expected .parquet, .jsonl or .json".into()));
    };
    let mut records = Vec::new();
    if documents.is_parquet() {
        let there = if also.is_empty() { Vec::new() } else { parquet::columns(path)? };
        let also: Vec<&str> = also.iter().copied().filter(|name| there.iter().any(|other| other == name)).collect();
        let fields = [needed, &also].concat();
        parquet::each_record(path, &fields, &mut |row, values| {
            records.push(Record { place: format!("row {row}"), values });
            Ok(true)
        })?;
        return Ok(records);
    }
    let fields = [needed, also].concat();
    documents.each_text(&mut |number, begin, text| {
        let at = |wrong: Wrong| documents.no_json(number, begin, text, &wrong);
        let values = match line::fields(text, &fields).map_err(at)? {
            Fields::Values(values) => values,
            Fields::NoObject(what) => return Err(documents.bad(number, format!("{what}, expected an object"))),
        };
        if let Some(field) = needed.iter().zip(&values).find_map(|(field, value)| value.is_none().then_some(field)) {
            let names = line::names(text);
            let there = if names.is_empty() { String::new() } else { format!(" (it has: {})", names.join(", ")) };
            return Err(documents.bad(number, format!("no field {field:?}{there}")));
        }
        let values = values.into_iter().map(Option::unwrap_or_default).collect();
        records.push(Record { place: documents.place(number), values });
        Ok(true)
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests;
