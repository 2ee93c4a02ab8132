//! This program's own form: `option = value`, and `[[override]]` tables with `targets`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Group, Known, RecipeFile, Setting, absent, at, expect_known, line_of};
use crate::Result;

/// The key of the tables for some linears.
const OVERRIDE: &str = "override";
const TARGETS: &str = "targets";
const SKIP: &str = "skip";

struct Source<'a> {
    path: &'a str,
    text: &'a str,
    known: &'a Known,
}

pub(super) fn parse(path: &str, text: &str, known: &Known) -> Result<RecipeFile> {
    let source = Source { path, text, known };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        at(path, line, format!("not TOML: {}", error.message()))
    })?;
    let mut file = RecipeFile { path: path.to_string(), ..RecipeFile::default() };
    // Of tables the parser keeps no order; people expect that of the file.
    for (key, value, line) in source.entries(table.get_ref()) {
        if key == OVERRIDE {
            let tables = value.as_array().ok_or_else(|| at(path, line, "override: not a list; write [[override]]"))?;
            for table in tables.iter() {
                file.groups.push(source.group(table)?);
            }
        } else {
            if !known.options.contains(&key) {
                return Err(absent(path, line, &key, known));
            }
            file.settings.push(source.setting(key, value, line)?);
        }
    }
    Ok(file)
}

impl Source<'_> {
    /// Keys with hyphens, values and lines, in the order of the file.
    fn entries<'t, 'i>(&self, table: &'t DeTable<'i>) -> Vec<(String, &'t DeValue<'i>, usize)> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<_>, &'t Spanned<DeValue<'i>>)| {
            let name: &std::borrow::Cow<str> = key.get_ref();
            (name.replace('_', "-"), value.get_ref(), line_of(self.text, key.span().start))
        };
        entries.into_iter().map(entry).collect()
    }

    fn setting(&self, name: String, value: &DeValue, line: usize) -> Result<Setting> {
        let values = match value {
            DeValue::Array(list) => list.iter().map(|value| self.scalar(&name, value.get_ref(), line)).collect(),
            one => self.scalar(&name, one, line).map(|value| vec![value]),
        };
        Ok(Setting { values: values?, name, line })
    }

    fn scalar(&self, key: &str, value: &DeValue, line: usize) -> Result<String> {
        Ok(match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_string(),
            DeValue::Float(number) => number.as_str().to_string(),
            DeValue::Boolean(value) => value.to_string(),
            _ => return Err(at(self.path, line, format!("{key}: expected a number, a text, true or false"))),
        })
    }

    fn group(&self, table: &Spanned<DeValue>) -> Result<Group> {
        let line = line_of(self.text, table.span().start);
        let fields = table
            .get_ref()
            .as_table()
            .ok_or_else(|| at(self.path, line, "override: not a table; write [[override]]"))?;
        let (mut targets, mut skip, mut settings) = (None, false, Vec::new());
        for (key, value, line) in self.entries(fields) {
            match key.as_str() {
                TARGETS => {
                    let texts = match value {
                        DeValue::String(text) => Some(vec![text.to_string()]),
                        DeValue::Array(list) => {
                            list.iter().map(|text| text.get_ref().as_str().map(String::from)).collect()
                        }
                        _ => None,
                    };
                    let texts = texts.filter(|texts: &Vec<String>| !texts.is_empty());
                    let none = || at(self.path, line, "targets: expected a list of names or re: patterns");
                    targets = Some(texts.ok_or_else(none)?);
                }
                SKIP => skip = value.as_bool().ok_or_else(|| at(self.path, line, "skip: expected true or false"))?,
                _ => {
                    let known = self.known.of_groups.iter().map(String::as_str).chain([TARGETS, SKIP]);
                    expect_known(self.path, line, &key, known)?;
                    settings.push(self.setting(key, value, line)?);
                }
            }
        }
        let targets = targets.ok_or_else(|| {
            at(self.path, line, "the override has no targets; add targets = [\"NAME or re:PATTERN\"]")
        })?;
        match settings.first().filter(|_| skip) {
            Some(other) => Err(at(
                self.path,
                other.line,
                format!("{}: has no effect with skip = true; remove one of them", other.name),
            )),
            None => Ok(Group { targets, skip, settings, line }),
        }
    }
}
