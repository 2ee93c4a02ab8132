//! Fuzz targets of all that reads files: their bodies, their seeds, and a count of the memory they use.

pub mod bodies;
pub mod counted;
pub mod seeds;
