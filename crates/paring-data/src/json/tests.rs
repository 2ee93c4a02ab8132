//! The scanner beside another reader of JSON, and its reasons.

use super::*;

fn kind(text: &str) -> Result<Kind, String> {
    let mut scanner = Scanner::new(text);
    let kind = scanner.value(0).map_err(|wrong| wrong.reason)?;
    scanner.end().map_err(|wrong| wrong.reason)?;
    Ok(kind)
}

/// The texts that serde_json reads are read, those that it refuses are refused; NaN and infinities are the only difference.
#[test]
fn the_same_as_another_reader() {
    let texts = [
        "0",
        "-0",
        "-0.5e+10",
        "1E5",
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "+1",
        "1e999",
        "--1",
        "1-",
        "1_0",
        "true",
        "truely",
        "nul",
        "\"\"",
        "\"a\\n\\u00e9\\/\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"a",
        "\"\\",
        "[]",
        "[1]",
        "[1, 2]",
        "[1,]",
        "[,]",
        "[1 2]",
        "[",
        "]",
        "[1",
        "{}",
        "{\"a\": 1}",
        "{\"a\": 1, \"b\": [{}]}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\": 1,}",
        "{a: 1}",
        "{'a': 1}",
        "{1: 1}",
        "{\"a\": 1",
        "{\"a\"",
        "{",
        "}",
        "",
        " ",
        "1 2",
        "{} {}",
        "{},",
        "[]x",
        "\u{feff}{}",
        " \t\r\n{ } ",
        "\u{a0}1",
        "\"ä十\u{7f}\"",
        "// no",
        "nan",
        "Inf",
        "N",
    ];
    for text in texts {
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(text);
        assert_eq!(kind(text).is_ok(), theirs.is_ok(), "{text:?}: {:?}", kind(text));
    }
    for (text, name) in [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity")] {
        assert_eq!(kind(text), Ok(Kind::NonFinite(name)));
        assert_eq!(kind(&format!("[1, {{\"a\": {text}}}]")), Ok(Kind::List));
    }
    for text in ["-NaN", "NaNs", "Infinit", "+Infinity", "{NaN: 1}"] {
        assert!(kind(text).is_err(), "{text}");
    }
    assert_eq!(kind(&("[".repeat(128) + &"]".repeat(128))), Ok(Kind::List));
    assert!(kind(&("[".repeat(129) + &"]".repeat(129))).unwrap_err().contains("more than 128 deep"));
}

#[test]
fn reasons() {
    for (text, reason) in [
        ("{\"text\": \"a\"},", "a comma after the object"),
        ("{\"text\": \"a\",}", "a comma before }"),
        ("[1, ]", "a comma before ]"),
        ("{\"text\": \"a\"} {\"text\": \"b\"}", "a second object on the line"),
        ("{'text': 'a'}", "single quotes, as Python prints"),
        ("{\"ok\": True}", "True, as Python prints it"),
        ("{\"ok\": None}", "None, as Python prints it"),
        ("{\"ok\": 1} // all", "a comment"),
        ("# all", "a comment"),
        ("<!DOCTYPE html>", "markup"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("{\"text\": \u{201c}a\u{201d}}", "typographic quotes"),
        ("{\"text\": \"a", "it ends in the middle of a text: was it cut off?"),
        ("{\"text\": ", "it ends where a value should be: was it cut off?"),
        ("{\"text\": \"a\"", "it ends where a comma or } should be"),
        ("{\"text\" \"a\"}", "expected a colon after the name of a field, got \"\\\"\""),
        ("{text: \"a\"}", "expected the name of a field in double quotes, got \"text\""),
        ("{\"text\": \"C:\\users\"}", "\\u inside a text, which is no escape"),
        ("{\"text\": \"a\tb\"}", "a tab inside a text, where JSON has \\t"),
        ("{\"n\": 007}", "expected a value, got \"007\""),
        ("one,two", "expected a value, got \"one\""),
    ] {
        let got = kind(text).unwrap_err();
        assert!(got.contains(reason), "{text}: {got}");
    }
    let mut scanner = Scanner::new("{\"a\": [1, 2,]}");
    assert_eq!(scanner.value(0).unwrap_err().at, 12);
}

#[test]
fn names_and_non_finite_numbers() {
    assert!(is_named("\"text\"", "text") && is_named("\"te\\u0078t\"", "text") && !is_named("\"texts\"", "text"));
    let mut scanner = Scanner::new("[1, NaN, -Infinity]");
    scanner.value(0).unwrap();
    assert_eq!((scanner.non_finite_from(0), scanner.non_finite_from(10)), (Some((9, "-Infinity")), None));
}
