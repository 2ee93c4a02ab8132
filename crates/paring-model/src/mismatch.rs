//! All differences between a config and the tensors beside it, in one line.

use std::fmt;

use paring_format::message;
use paring_format::message::{Message, Setting};

use crate::{Error, Result};

/// Most tensors of a kind that are named; the others are counted.
const NAMED: usize = 4;

/// The tensors of a checkpoint that are not what its config implies. The text is one line that names the first few of
/// each kind and counts the others.
#[derive(Debug, Default)]
pub struct Mismatch {
    file: String,
    missing: Few,
    misshapen: Few,
    mistyped: Few,
    extra: Few,
    /// Config keys to check where tensors are missing, each once.
    hints: Vec<String>,
    /// The error that came first, which says enough where it is the only one.
    first: Option<Box<Error>>,
}

/// The first few of many.
#[derive(Debug, Default)]
struct Few {
    /// Name, and what else there is to say.
    named: Vec<(String, String)>,
    count: usize,
}

impl Few {
    fn add(&mut self, name: &str, text: String) {
        // An embedding that is also the head is asked for twice, once as a module.
        let plain = |name: &str| name.trim_end_matches(".weight").to_string();
        if self.named.iter().any(|(known, _)| plain(known) == plain(name)) {
            return;
        }
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((name.to_string(), text));
        }
    }

    /// `3 missing (a; b; 1 more; hint)`, or nothing where there are none.
    fn describe(&self, what: &str, hint: &str) -> Option<String> {
        let mut named: Vec<String> = self.named.iter().map(|(name, text)| format!("{name}{text}")).collect();
        if self.count > named.len() {
            named.push(format!("{} more", self.count - named.len()));
        }
        (self.count > 0).then(|| format!("{} {what} ({}{hint})", self.count, named.join("; ")))
    }
}

impl Mismatch {
    /// None so far, of the checkpoint with this config file.
    pub(crate) fn of(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// Notes a tensor that is missing, misshapen or of a type that cannot be used. Other errors come back.
    pub(crate) fn note(&mut self, error: Error) -> Result<()> {
        match &error {
            Error::MissingTensor { name, hint, .. } => {
                if !self.hints.contains(hint) {
                    self.hints.push(hint.clone());
                }
                self.missing.add(name, String::new());
            }
            Error::TensorShape { file, name, expected, got } => {
                self.misshapen.add(name, format!(" in {file} is {got:?}, expected {expected:?}"));
            }
            Error::TensorType { file, name, expected, got } => {
                self.mistyped.add(name, format!(" in {file} is {got}, expected {expected}"));
            }
            _ => return Err(error),
        }
        self.first.get_or_insert(Box::new(error));
        Ok(())
    }

    /// Notes a stored tensor that the model does not ask for.
    pub(crate) fn extra(&mut self, name: &str, file: &str) {
        self.extra.add(name, format!(" in {file}"));
    }

    /// Tensors that something is wrong with.
    fn count(&self) -> usize {
        [&self.missing, &self.misshapen, &self.mistyped, &self.extra].iter().map(|few| few.count).sum()
    }

    /// All of it as an error: that of the one tensor where there is only one. Nothing where all is well.
    pub(crate) fn into_result(mut self) -> Result<()> {
        match (self.count(), self.first.take()) {
            (0, _) => Ok(()),
            (1, Some(error)) => Err(*error),
            _ => Err(Error::Mismatch(Box::new(self))),
        }
    }
}

impl Mismatch {
    /// The text with the options in it apart.
    pub(crate) fn message(&self) -> Message {
        let hints = self.hints.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" and that ");
        let hint = format!("; check that all files are there and that {hints}");
        let lost = "; they would be lost: check the architecture and the sizes in the config";
        let kinds = [
            self.missing.describe("missing", &hint),
            self.misshapen.describe("of another shape", "; use the config.json that belongs to these weights"),
            self.mistyped.describe("of a type that cannot be used", ""),
            self.extra.describe("that the model does not have", lost),
        ];
        let kinds = kinds.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let text = format!("{}: config and tensors do not match: {kinds}", self.file);
        match self.extra.count == self.count() {
            true => message![text, "; ", Setting::new("lenient"), " ignores them"],
            false => text.into(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}
