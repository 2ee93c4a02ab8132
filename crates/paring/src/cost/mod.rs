//! What a run costs, known before it begins: bytes and operations as formulas of the shapes.
//!
//! * [`device`]: what lies on a GPU at each point of a block, how many windows go through a block together, and where
//!   activations wait.

mod device;
mod shapes;
#[cfg(test)]
mod tests_device;

pub use device::{Device, Part, Pass, Point, device};
