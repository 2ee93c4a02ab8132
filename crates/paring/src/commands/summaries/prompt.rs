//! The prompt of a summary, in Alpaca's form.

/// Text before the instruction, between it and the input, and after that.
const PIECES: [&str; 3] = [
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that \
    appropriately completes the request.\n\n### Instruction:\n",
    "\n\n### Input:\n",
    "\n\n### Response:",
];

/// The prompt that asks a model to follow an instruction about an input. Nothing follows its last colon.
pub fn prompt(instruction: &str, input: &str) -> String {
    let [before, between, after] = PIECES;
    [before, instruction, between, input, after].concat()
}
