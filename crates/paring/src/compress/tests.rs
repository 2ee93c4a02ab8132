//! A small model and recipes for the tests of what a run decides.

use std::path::Path;
use std::sync::Arc;

use paring_format::Checkpoint;
use paring_model::{Arithmetic, Decoder};

use crate::Precision;
use crate::plan::{MethodInfo, Pattern, Recipe, Rounding, Spqr};

/// The Llama of the golden data: two blocks of seven linears.
pub(super) fn golden() -> Box<dyn Decoder> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
    let checkpoint = Arc::new(Checkpoint::open(&model).unwrap());
    paring_model::families::open(checkpoint, Arithmetic::from(Precision::F32)).unwrap()
}

pub(super) fn recipe(method: &str, pattern: Option<Pattern>, rounding: Option<Rounding>, spqr: Option<Spqr>) -> Recipe {
    let method = MethodInfo::named(method).unwrap();
    Recipe { pattern, rounding, spqr, ..Recipe::new(method) }
}
