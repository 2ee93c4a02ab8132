//! Text and random numbers as Python has them: what others wrote in it is reproduced here.

pub use crate::jinja::{capitalized, is_space};
pub use crate::random::Random;
