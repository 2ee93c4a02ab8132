//! Parts that several families are built of.

pub mod activation;
pub mod alibi;
pub mod embedding;
pub mod encoding;
pub mod head;
pub mod norm;
pub mod positions;
pub mod rope;
