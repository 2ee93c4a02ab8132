//! What several families are built of.

pub mod alibi;
pub mod embedding;
pub mod head;
pub mod norm;
pub mod positions;
pub mod rope;
