//! Examples as they come, within the bounds of a set.

use paring_format::message;

use super::{Example, Form, LeftOut, MOST_TOKENS, Progress, Settings, TrainingSet};
use crate::{Error, Result};

/// A set that grows.
pub(super) struct Collector<'a> {
    name: &'a str,
    pub settings: &'a Settings,
    progress: &'a mut dyn FnMut(Progress) -> bool,
    windows: Vec<Example>,
    so_far: Progress,
    /// Tokens of the set.
    held: usize,
    pub left_out: LeftOut,
    is_stopped: bool,
}

impl<'a> Collector<'a> {
    pub fn new(name: &'a str, settings: &'a Settings, progress: &'a mut dyn FnMut(Progress) -> bool) -> Self {
        let (windows, so_far, left_out) = (Vec::new(), Progress::default(), LeftOut::default());
        Self { name, settings, progress, windows, so_far, held: 0, left_out, is_stopped: false }
    }

    /// True until as many records were counted as are wanted, or the reading was stopped.
    pub fn wants_more(&self) -> bool {
        !self.is_stopped && self.settings.limit.is_none_or(|limit| self.so_far.records < limit)
    }

    /// Counts a record that was read; false if it is more than are wanted.
    pub fn count(&mut self) -> bool {
        let wanted = self.wants_more();
        self.so_far.records += usize::from(wanted);
        wanted
    }

    /// Reports how far the reading is.
    pub fn report(&mut self) {
        self.is_stopped |= !(self.progress)(self.so_far);
    }

    /// Adds an example, cut to the length of a window, if a label is left of it.
    ///
    /// # Errors
    /// When the set becomes too large.
    pub fn add(&mut self, mut example: Example) -> Result<()> {
        self.so_far.tokens += example.ids.len();
        let longer =
            example.ids.len() > self.settings.seqlen && example.learned.iter().skip(self.settings.seqlen).any(|&l| l);
        example.cut(self.settings.seqlen);
        if example.ids.is_empty() {
            self.left_out.too_long += 1;
            return Ok(());
        }
        self.left_out.cut += usize::from(longer);
        self.held += example.ids.len();
        if self.held > MOST_TOKENS {
            let (most, records) = (MOST_TOKENS >> 20, self.so_far.records);
            let reason =
                format!("more than {most} Mi tokens, which are held in memory, in the first {records} records");
            return Err(Error::data(self.name, message![reason, "; use a part of the data"]));
        }
        self.windows.push(example);
        Ok(())
    }

    /// The set. Errors when it is empty.
    pub fn end(mut self, form: Form, pad: u32) -> Result<TrainingSet> {
        self.report();
        let Self { windows, left_out, settings, .. } = self;
        let set = TrainingSet { name: self.name.into(), form, windows, seqlen: settings.seqlen, pad, left_out };
        if set.windows.is_empty() { Err(set.none(left_out.tail)) } else { Ok(set) }
    }
}
