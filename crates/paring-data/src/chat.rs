//! Messages → text, by the Jinja template of the model.

use std::io::{self, Write};
use std::path::Path;

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use paring_format::files;
use serde::Serialize;
use serde_json::Value;
use time::UtcDateTime;
use time::format_description::parse_strftime_borrowed;

use crate::optional::{read, special};
use crate::unpack::MAX_LINE;
use crate::{Error, Result};

/// Steps that a template may take for one conversation; a message takes some dozens.
const STEPS: u64 = 2_000_000;

/// A chat template and the special tokens that it may name.
pub(super) struct Template {
    source: String,
    /// The file it came from.
    file: String,
    tokens: Vec<(&'static str, String)>,
}

impl Template {
    /// The template of the model in `dir`: `chat_template.jinja`, `chat_template.json`, or `chat_template` in its
    /// `tokenizer_config.json`, which is `config`. `None` when it has none.
    pub fn beside(dir: &Path, config: &Value) -> Result<Option<Self>> {
        let [jinja, json, own] =
            ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"].map(|name| dir.join(name));
        let bad = |path: &Path, reason: String| Error::data(path.display().to_string(), reason);
        let (path, source) = if let Some(bytes) = read(&jinja, files::SETTINGS)? {
            let text = String::from_utf8(bytes).map_err(|e| bad(&jinja, format!("not UTF-8: {}", e.utf8_error())))?;
            (jinja, Some(text))
        } else if let Some(bytes) = read(&json, files::SETTINGS)? {
            let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&json, format!("not JSON: {e}")))?;
            let text = named(&value).ok_or_else(|| bad(&json, "no text in chat_template".into()))?;
            (json, Some(text))
        } else {
            let text = named(config);
            if text.is_none() && config.get("chat_template").is_some_and(|v| !v.is_null()) {
                return Err(bad(&own, "chat_template: expected text, or a list with one named default".into()));
            }
            (own, text)
        };
        let keys = ["bos_token", "eos_token", "unk_token", "pad_token"];
        let tokens = keys.into_iter().filter_map(|key| Some((key, special(config, key)?.to_owned()))).collect();
        Ok(source.map(|source| Self { source, file: path.display().to_string(), tokens }))
    }

    /// Renders a conversation, without a prompt for an answer. The error says what is wrong with the
    /// template, or what it says is wrong with the messages.
    pub fn render(&self, messages: &[Value]) -> Result<String, String> {
        // As the transformers library sets up Jinja.
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(STEPS));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, UtcDateTime::now()));
        environment.add_filter("tojson", to_json);
        for (name, text) in &self.tokens {
            environment.add_global(*name, text.as_str());
        }
        let mut out = Bounded(Vec::new());
        let values = context! { messages, add_generation_prompt => false, tools => (), documents => () };
        let made =
            environment.template_from_str(&self.source).and_then(|t| t.render_captured_to(values, &mut out).map(drop));
        let wrong = |reason: &str| {
            // An error is one line, whatever the template raises.
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("the chat template of {}: {reason}", self.file)
        };
        made.map_err(|e| match e.kind() {
            ErrorKind::OutOfFuel => wrong(&format!("it does not come to an end in {STEPS} steps")),
            ErrorKind::WriteFailure => wrong(&format!("it writes more than {} MiB", MAX_LINE >> 20)),
            _ => wrong(&e.to_string()),
        })?;
        String::from_utf8(out.0).map_err(|_| wrong("it writes what is not UTF-8"))
    }
}

/// The text of `chat_template`, or of the one named `default` in a list of templates.
fn named(value: &Value) -> Option<String> {
    let template = value.get("chat_template")?;
    let chosen = match template {
        Value::Array(list) => list.iter().find(|t| t.get("name").is_some_and(|n| n == "default"))?.get("template")?,
        other => other,
    };
    chosen.as_str().map(String::from)
}

/// Text of at most so many bytes as a line of a file may have.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_LINE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON with Python's spaces, and without Jinja's escapes for HTML.
fn to_json(value: minijinja::Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |e| minijinja::Error::new(ErrorKind::BadSerialization, "tojson").with_source(e);
    let mut out = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = vec![b' '; indent.min(64)];
            let format = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(failed)?,
    }
    String::from_utf8(out).map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// `", "` and `": "` between values, on one line.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Python's `strftime`, in universal time and English.
fn strftime(format: &str, now: UtcDateTime) -> Result<String, minijinja::Error> {
    let wrong = |reason: String| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {format:?}: {reason}"))
    };
    let parsed = parse_strftime_borrowed(format).map_err(|e| wrong(e.to_string()))?;
    now.format(&parsed).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(source: &str) -> Template {
        Template { source: source.into(), file: "t".into(), tokens: vec![("eos_token", "</s>".into())] }
    }

    fn render(source: &str) -> Result<String, String> {
        let messages =
            [json!({"role": "user", "content": " Hi <b> "}), json!({"role": "assistant", "content": "Yes."})];
        template(source).render(&messages)
    }

    /// The lines of a block tag vanish, Python's methods work, and a template can ask what it was not given.
    #[test]
    fn as_transformers_renders_it() {
        let source = "{%- if tools is not none %}tools{% endif %}\n{% for message in messages %}\n    \
            {% if loop.index0 % 2 == 1 and message.role != 'assistant' %}\n\
            {{ raise_exception('turns must alternate') }}\n    {% endif %}\n\
            {{ '<|' + message['role'].upper() + '|>' + message['content'].strip() + eos_token }}\n{% endfor %}\n\
            {% if add_generation_prompt %}<|assistant|>{% endif %}";
        assert_eq!(render(source).unwrap(), "<|USER|>Hi <b></s>\n<|ASSISTANT|>Yes.</s>\n");
        assert_eq!(render("{{ messages[0] | tojson }}").unwrap(), r#"{"content": " Hi <b> ", "role": "user"}"#);
        assert_eq!(render("{{ [1, 'é'] | tojson }}").unwrap(), r#"[1, "é"]"#);
        let namespace =
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}";
        assert_eq!(render(namespace).unwrap(), "2");
        assert_eq!(render("{% for m in messages %}{% break %}{{ m }}{% endfor %}{{ bos_token }}").unwrap(), "");
    }

    #[test]
    fn what_a_template_must_not_do() {
        for (source, words) in [
            ("{{ raise_exception('turns\n  must alternate') }}", "turns must alternate"),
            ("{% for m in messages %}", "syntax error"),
            ("{{ messages.nothing.more }}", "undefined"),
            ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "2000000 steps"),
            ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
            ("{% set x = 'abcdefgh' * 9000000 %}{{ x }}", "t"),
            ("{% include '/etc/passwd' %}", "not found"),
            ("{% for i in range(90000) %}{{ 'abcdefgh' * 1000 }}{% endfor %}", "more than 64 MiB"),
        ] {
            let error = render(source).unwrap_err();
            assert!(error.starts_with("the chat template of t: ") && error.contains(words), "{source}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn where_templates_lie() {
        let dir = tempfile::tempdir().unwrap();
        let at = |config: &Value| Template::beside(dir.path(), config).map(|t| t.map(|t| t.source));
        assert_eq!(at(&Value::Null).unwrap(), None);
        let list = json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]});
        assert_eq!(at(&list).unwrap().as_deref(), Some("d"));
        assert_eq!(at(&json!({"chat_template": "own"})).unwrap().as_deref(), Some("own"));
        let error = at(&json!({"chat_template": 3})).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: chat_template: expected text"), "{error}");
        std::fs::write(dir.path().join("chat_template.json"), r#"{"chat_template": "from json"}"#).unwrap();
        assert_eq!(at(&list).unwrap().as_deref(), Some("from json"));
        std::fs::write(dir.path().join("chat_template.jinja"), "from jinja").unwrap();
        assert_eq!(at(&list).unwrap().as_deref(), Some("from jinja"));
    }

    #[test]
    fn dates() {
        let at = |seconds| UtcDateTime::from_unix_timestamp(seconds).unwrap();
        for (seconds, want) in [
            (0, "Thursday 01 January 1970 00:00:00"),
            (951_782_399, "Monday 28 February 2000 23:59:59"),
            (951_782_400, "Tuesday 29 February 2000 00:00:00"),
            (1_735_689_599, "Tuesday 31 December 2024 23:59:59"),
        ] {
            let got = strftime("%A %d %B %Y %H:%M:%S", at(seconds)).unwrap();
            assert_eq!(got, want);
        }
        let day = at(1_722_000_000);
        assert_eq!(strftime("%d %b %y, %a %m 100%%", day).unwrap(), "26 Jul 24, Fri 07 100%");
        assert!(strftime("%Q", day).is_err());
    }
}
