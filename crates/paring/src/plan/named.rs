//! Layouts by the names that people type.

use paring_format::layouts::{self, Layout};
use paring_format::near;

use super::Opt;
use crate::Result;

/// The layout of this name. Errors when there is none.
pub(crate) fn named_layout(name: &str) -> Result<&'static dyn Layout> {
    let unknown = || Opt::Format.wrong(name, "no such format").hint(near::suggestion(name, layouts::names()));
    layouts::layout(name).ok_or_else(unknown)
}
