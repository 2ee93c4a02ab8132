//! Files that pyarrow wrote (`scripts/fixtures/data`), and damaged ones.

use std::path::PathBuf;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/data").join(format!("{name}.parquet"))
}

/// A row, as text.
fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "null".into(),
        Cell::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Cell::Chat(messages) => Value::from(messages.clone()).to_string(),
    }
}

fn rows_of(path: &Path, field: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    each_row(path, field, &mut |row, cell| {
        assert_eq!(row, rows.len() + 1);
        rows.push(shown(&cell));
        Ok(true)
    })?;
    Ok(rows)
}

fn rows(name: &str, field: &str) -> Result<Vec<String>> {
    rows_of(&fixture(name), field)
}

fn error(name: &str, field: &str) -> String {
    rows(name, field).unwrap_err().to_string()
}

#[test]
fn text_of_every_kind_of_page() {
    let row = |i: usize| {
        if i.is_multiple_of(9) { String::new() } else { format!("row {i} Zwölf 十二 {}", "one two ".repeat(i % 5)) }
    };
    let want: Vec<String> = (0..40).map(row).collect();
    for name in ["plain", "snappy", "gzip", "zstd", "lz4", "brotli", "second", "second_gzip", "required", "large"] {
        assert_eq!(rows(name, "text").unwrap(), want, "{name}");
    }
    for name in ["delta", "delta_length"] {
        assert_eq!(rows(name, "text").unwrap(), want, "{name}");
    }
    let many =
        (0..700).map(|i: usize| format!("row {}{}", i * i, "!".repeat(if i.is_multiple_of(70) { i } else { 0 })));
    assert_eq!(rows("delta_many", "text").unwrap(), many.collect::<Vec<_>>());
    let hadoop = std::fs::read(fixture("../fuzz/parquet/lz4-hadoop").with_extension("")).unwrap();
    let row = |i: usize| format!("row {i} {}", "one two ".repeat(i % 5));
    assert_eq!(damaged(&hadoop[1..], "text").unwrap(), (0..20).map(row).collect::<Vec<_>>());
    assert_eq!(rows("delta_nulls", "text").unwrap(), ["one", "null", "only", "null"]);
    assert!(rows("empty", "text").unwrap().is_empty());
    assert_eq!(rows("nulls", "text").unwrap(), ["one", "null", "three", "null"]);
    assert_eq!(rows("all_null", "text").unwrap(), ["null", "null"]);
}

#[test]
fn reading_ends_when_enough_was_seen() {
    let mut seen = 0;
    let see = &mut |row, _: Cell<'_>| {
        seen = row;
        Ok(row < 18)
    };
    each_row(&fixture("snappy"), "text", see).unwrap();
    assert_eq!(seen, 18);
}

#[test]
fn messages() {
    let turn = |i: usize| format!(r#"{{"role":"user","content":"one {i}"}},{{"role":"assistant","content":"two"}}"#);
    let want: Vec<String> = (0..5).map(|i| format!("[{}]", vec![turn(i); i % 3 + 1].join(","))).collect();
    assert_eq!(rows("chat", "messages").unwrap(), want);
    let want_of_chat = want;
    let asked = |i: usize| format!(r#"{{"role":"user","content":"one {}"}}"#, i % 4);
    let want: Vec<String> = (0..30).map(|i| format!("[{}]", vec![asked(i); i % 3 + 1].join(","))).collect();
    assert_eq!(rows("chat_calls", "messages").unwrap(), want, "beside lists of tool calls, in a dictionary");
    let rows = rows("chat_null", "messages").unwrap();
    assert_eq!(rows[0], want_of_chat[0]);
    assert_eq!(rows[1..], ["null", "[]", r#"[{"role":"user","content":null}]"#]);
}

#[test]
fn what_is_not_read_of_messages() {
    assert_eq!(unread(&fixture("chat_calls"), "messages"), ["tool_calls"]);
    for (name, field) in [("chat", "messages"), ("snappy", "text"), ("lists", "text"), ("nowhere", "text")] {
        assert!(unread(&fixture(name), field).is_empty(), "{name}");
    }
}

#[test]
fn columns_that_are_no_text() {
    for (name, field, words) in [
        ("plain", "body", "no column \"body\" (it has: id, text, length); name another with text-field"),
        ("plain", "id", "column \"id\" holds integers, expected text"),
        ("plain", "length", "column \"length\" holds floats, expected text"),
        ("lists", "text", "column \"text\" is nested, expected text or a list of {role, content}"),
        ("split", "text", "row 1: column \"text\": values in encoding 9, expected plain, a dictionary or deltas"),
        ("lzo", "text", "column \"text\": packed with LZO, expected Snappy, gzip, Brotli, Zstandard, LZ4 or nothing"),
    ] {
        let error = error(name, field);
        assert!(error.contains(&format!("{name}.parquet: ")) && error.contains(words), "{error}");
    }
}

fn damaged(bytes: &[u8], field: &str) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    std::fs::write(&path, bytes).unwrap();
    rows_of(&path, field)
}

#[test]
fn what_is_no_parquet_file() {
    let whole = std::fs::read(fixture("snappy")).unwrap();
    let mut long_footer = whole.clone();
    let at = whole.len() - 8;
    long_footer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (bytes, words) in [
        (&b"PAR1"[..], "4 bytes are too few"),
        (b"one two three four", "does not begin and end with PAR1"),
        (&whole[..whole.len() / 2], "does not begin and end with PAR1"),
        (&long_footer, "metadata of 4294967295 bytes in a file of"),
    ] {
        let error = damaged(bytes, "text").unwrap_err().to_string();
        assert!(error.contains("x.parquet: not a Parquet file") && error.contains(words), "{error}");
    }
}

/// Files with claims that the `parquet` crate cannot be kept from reading.
#[test]
fn what_a_file_only_states() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fuzz/parquet");
    for (name, words) in [
        ("stated-children", "no column \"text\""),
        ("stated-depth", "a schema nested too deeply"),
        ("stated-size", "a page that unpacks to 2147483647 bytes, expected at most"),
        ("stated-gzip", "it should unpack to 100 bytes, got more than that"),
        ("stated-entries", "row 3: column \"text\": entry 1 of a dictionary of 1"),
        ("stated-lengths", "a page that ends in the middle of its lengths"),
        ("stated-prefixes", "a text that shares more than the 0 bytes before"),
        ("stated-levels", "it unpacks to more than 64 MiB"),
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let error = damaged(&bytes[1..], ["text", "messages"][usize::from(bytes[0])]).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}

/// Whatever single byte changes: rows or one line of error, but no crash.
#[test]
fn a_changed_byte_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    for name in ["snappy", "gzip", "zstd", "lz4", "brotli", "second", "delta", "delta_length", "delta_nulls"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        std::fs::write(&path, &whole).unwrap();
        let (mut read, mut refused) = (0, 0);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
            // In place: a file that is cut and written anew goes to the disk each time.
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            // A huge count continues until the caller has enough.
            let see = &mut |row, _: Cell<'_>| Ok(row < 1000);
            match each_row(&path, "text", see) {
                Ok(()) => read += 1,
                Err(e) => {
                    assert_eq!(e.to_string().lines().count(), 1, "{name}, byte {at}: {e}");
                    refused += 1;
                }
            }
        }
        assert!(read > 0 && refused > 0, "{name}: {read} read, {refused} refused");
    }
}
