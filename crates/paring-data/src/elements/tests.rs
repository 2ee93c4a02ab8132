//! Forms of files, and their documents one by one.

use super::*;

fn write(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

fn form_of(content: &str) -> Form {
    let (_dir, path) = write(content.as_bytes());
    form(&path, Packing::None, "text").unwrap()
}

/// Number, line and text of each document.
fn read(content: &str) -> Result<Vec<String>> {
    let (_dir, path) = write(content.as_bytes());
    let form = form(&path, Packing::None, "text")?;
    let mut seen = Vec::new();
    each(&path, Packing::None, &form, &mut |Element { number, line, bytes }| {
        seen.push(format!("{number}:{line}:{}", String::from_utf8_lossy(bytes)));
        Ok(true)
    })?;
    Ok(seen)
}

#[test]
fn forms() {
    let data = Form::Field("\"data\"".into());
    for (content, expected) in [
        ("", Form::Lines),
        ("\n {\"text\": \"[\"}\n{\"text\": \"b\"}", Form::Lines),
        ("noise\n{\"text\": 1}", Form::Lines),
        ("{\"text\": two\n{\"text\": \"b\"}", Form::Lines),
        ("{\"text\": \"two\n{\"text\": \"b\"}\n", Form::Lines),
        ("[\"text\"]\n", Form::Lines),
        ("[{\"text\": \"a\"}]", Form::List),
        ("\u{feff}\n[\n  \"a\"]", Form::List),
        ("[]", Form::List),
        ("{\n\"text\": \"a\"}", Form::Objects),
        ("{\n\"text\": \"a\"", Form::Objects),
        ("{\"data\": [{\"text\": \"a\"}]}", data.clone()),
        ("{\"version\": \"]}\\\"\", \"data\" : [ {\"a\": [{}]} ], \"more\": [1, {}]}\n", data),
        ("{\"text\": \"a\", \"data\": [{\"b\": 1}]}", Form::Lines),
        ("{\"data\": [{\"b\": 1}], \"text\": \"a\"}\n{\"data\": [{\"b\": 1}], \"text\": \"a\"}", Form::Lines),
        ("{\"data\": [{\"b\": 1}]}\n{\"data\": [{\"b\": 1}]}", Form::Lines),
        ("{\"a\": [{\"b\": 1}], \"b\": [{\"b\": 1}]}", Form::Lines),
        ("{\"data\": [1, 2]}", Form::Lines),
        ("{\"data\": []}", Form::Lines),
    ] {
        assert_eq!(form_of(content), expected, "{content}");
    }
}

#[test]
fn documents_and_their_lines() {
    let list = "[\n  {\"a\": \"]}\\\"\\\\\"},\r\n\n  {\"b\":\n [1]} , 3,\"x,\" , null]\n";
    let found = ["1:2:{\"a\": \"]}\\\"\\\\\"}", "2:4:{\"b\":\n [1]}", "3:5:3", "4:5:\"x,\"", "5:5:null"];
    assert_eq!(read(list).unwrap(), found);
    let object = "{\"n\": NaN, \"data\": [{\"a\": 1},{\"a\": 2}], \"m\": {\"data\": [{}]}}";
    assert_eq!(read(object).unwrap(), ["1:1:{\"a\": 1}", "2:1:{\"a\": 2}"]);
    let objects = "{\n\"text\": 1}\n\n{\"text\": 2} {\n}";
    assert_eq!(read(objects).unwrap(), ["1:1:{\n\"text\": 1}", "2:4:{\"text\": 2}", "3:4:{\n}"]);
    assert!(read("[ ]").unwrap().is_empty());
}

#[test]
fn damage_is_named() {
    for (content, words) in [
        ("[{\"a\": 1},\n]", "line 2: not JSON: a comma before ]"),
        ("[{\"a\": 1}\n{\"a\": 2}]", "line 2: not JSON: expected a comma or ] after an element"),
        ("[{\"a\": 1},\n{\"a\": 2}", "it ends in the middle of the list: was it cut off?"),
        ("[{\"a\": 1},\n{\"a\": \"2", "it ends too early: was it cut off?"),
        ("[{\"a\": 1},", "it ends where a value should be"),
        ("[{\"a\": 1},,{}]", "a value is missing before ,"),
        ("[{\"a\": 1}]\n[{\"a\": 1}]", "line 2: not JSON: something after the end of the list"),
        ("{\n\"text\": 1", "it ends too early"),
    ] {
        let error = read(content).unwrap_err().to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{content}: {error}");
    }
}

#[test]
fn documents_have_an_end() {
    let content = format!("[{{}}, \"{}\"]", "x".repeat(MAX_LINE));
    let error = read(&content).unwrap_err().to_string();
    assert!(error.contains("a document of more than 64 MiB"), "{error}");
}
