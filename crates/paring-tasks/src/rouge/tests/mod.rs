//! Figures against those of rouge_score, and against plain loops.

mod golden;
mod sentences;
mod subsequence;
