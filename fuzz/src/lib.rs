//! Fuzz targets of all that reads files: what they do, what they begin with, and how much memory they take.

pub mod bodies;
pub mod counted;
pub mod seeds;
