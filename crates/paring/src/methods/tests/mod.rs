//! Methods on small layers: against the published implementations, and against the files that hold what they make.

mod floats;
mod formats;
mod given;
mod golden;
mod grids;
mod masks;
mod shift;
mod spqr;
mod table;
