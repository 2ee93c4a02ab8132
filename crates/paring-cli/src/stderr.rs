//! Lines on stderr. One that nobody takes is dropped: neither the code of an error nor a run of hours depends on its log.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line.
pub fn line(text: impl Display) {
    self::text(&format!("{text}\n"));
}

/// Prints lines, each with its end.
pub fn text(text: &str) {
    // One call, so that lines of several threads stay whole.
    io::stderr().write_all(text.as_bytes()).unwrap_or(());
}
