//! Files of an output: written in the background, noted in a journal, reopened and compared.

pub(crate) mod background;
pub(crate) mod card;
pub(crate) mod digests;
pub mod journal;
pub(crate) mod modules;
pub(crate) mod rewrite;
pub mod side_files;
pub(crate) mod tied;

pub use modules::compressed_module;
