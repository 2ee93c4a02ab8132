//! One pass through a block: who watches it, and how far it goes.

use crate::Tap;

/// What a step of a pass leaves.
#[derive(Debug)]
pub enum Flow<T> {
    /// The pass continues with this.
    Out(T),
    /// The tap has seen the input of the last fan that was asked for; nothing was computed with it.
    Stopped,
}

/// A pass of whole sequences through a block.
pub struct Pass<'a> {
    /// Sees the input of each fan.
    pub tap: &'a mut dyn Tap,
    /// Fan at whose input the pass stops; `None` for a pass to the block's output.
    pub stop: Option<usize>,
}

impl<'a> Pass<'a> {
    /// A pass to the block's output.
    pub fn whole(tap: &'a mut dyn Tap) -> Self {
        Self { tap, stop: None }
    }

    /// A pass to the input of fan `stop`.
    pub fn up_to(stop: usize, tap: &'a mut dyn Tap) -> Self {
        Self { tap, stop: Some(stop) }
    }
}
