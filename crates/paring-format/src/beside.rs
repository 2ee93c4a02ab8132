//! The files beside a model's weights that belong to it and are copied along: small ones that are no weights. A list of names
//! would always lack the next one.

#[cfg(test)]
mod tests;

/// Bytes of a file that is taken over at most: a tokenizer of the largest vocabularies has 40 MB.
pub const MOST_OF_A_FILE: u64 = 64 << 20;
/// Bytes of all of them, which are in memory together for a moment.
pub const MOST_BYTES: u64 = 256 << 20;
/// Their number at most.
pub const MOST_FILES: usize = 1000;
/// Folders that lead to one at most.
pub const DEPTH: usize = 3;

/// Endings of files of weights, of any program, and of what a training leaves.
const WEIGHTS: [&str; 25] = [
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "ggml",
    "onnx",
    "onnx_data",
    "msgpack",
    "h5",
    "hdf5",
    "keras",
    "pb",
    "tflite",
    "mlmodel",
    "npz",
    "npy",
    "ot",
    "params",
    "pdparams",
    "engine",
    "pkl",
    "pickle",
    "nemo",
];

/// Names that every copy of a repository or of a working folder has, and no model needs.
const OF_TOOLS: [&str; 6] = [".git", ".gitattributes", ".gitignore", ".cache", ".DS_Store", "__pycache__"];

/// True if this is a name of a file of weights, by its ending.
pub fn is_weights(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| WEIGHTS.contains(&ending.as_str()))
}

/// True if this is the name of a file or folder of tools, which are nothing of a model.
pub fn is_of_tools(name: &str) -> bool {
    OF_TOOLS.contains(&name)
}

/// True if this is the name of a list of shards.
pub fn is_index(name: &str) -> bool {
    [".safetensors.index.json", ".bin.index.json"].iter().any(|end| name.ends_with(end))
}
