//! Headings of the help, in the order in which people need them.

pub const WHAT: &str = "What to do";
pub const OUTPUT: &str = "Output";
pub const DATA: &str = "Calibration data";
pub const MODEL: &str = "Model";
pub const TRAINING: &str = "Training";
pub const LOSS: &str = "Loss";
pub const LAYERS: &str = "Which layers";
pub const EVALUATION: &str = "Evaluation";
pub const TASKS: &str = "Tasks";
pub const SUMMARIES: &str = "Summaries";
pub const PROMPT: &str = "Prompt";
pub const ANSWER: &str = "Answer";
pub const SAMPLING: &str = "Sampling";
pub const BEAMS: &str = "Beam search";
pub const SERVER: &str = "Server";
pub const LIMITS: &str = "Limits";
pub const COMPARISON: &str = "Comparison";
pub const SPEED: &str = "Speed and memory";
pub const GPTQ: &str = "Advanced: GPTQ";
pub const SPQR: &str = "Advanced: SpQR";
pub const GLOBAL: &str = "Global options";
