//! Names of files beside the weights.

use super::*;
use crate::names::{CONFIG, INDEX, PICKLE_INDEX};

#[test]
fn files_beside_a_model_are_no_weights_and_of_no_tool() {
    for name in ["model.safetensors", "a.GGUF", "x.tar.pt", "weights.Onnx_Data", ".npz"] {
        assert!(is_weights(name), "{name}");
    }
    for name in ["tokenizer.json", "safetensors", "bin", "merges.txt", "model.safetensors.index.json", "a.pt.txt"] {
        assert!(!is_weights(name), "{name}");
    }
    assert!(is_of_tools(".git") && is_of_tools("__pycache__"));
    assert!(!is_of_tools("git") && !is_of_tools(CONFIG));
    assert!(is_index(INDEX) && is_index(PICKLE_INDEX) && !is_index(CONFIG));
    assert!(is_index("other.safetensors.index.json") && !is_index("index.json"));
}
