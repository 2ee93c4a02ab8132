//! Checkpoints and compressed-tensors layouts: bytes only, no tensor library, no devices, no algorithms.
