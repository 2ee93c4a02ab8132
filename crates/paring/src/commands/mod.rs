//! The commands other than compression: one module each.

pub mod compare;
pub mod convert;
pub mod decompress;
pub mod export_masks;
pub mod inspect;
pub mod layer;
pub mod likelihoods;
pub mod merge;
pub mod perplexity;
pub mod summaries;
pub mod tasks;
pub mod verify;
