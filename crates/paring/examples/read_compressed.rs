//! Reads a checkpoint of any format that paring knows, tensor by tensor, as the numbers that its codes stand for:
//!
//!     cargo run --release -p paring --example read_compressed -- MODEL

use std::collections::BTreeSet;
use std::path::Path;

use paring::Result;
use paring::output::compressed_module;
use paring_format::Checkpoint;

/// Calls `see` with the name, the shape and the numbers of each tensor; of a compressed matrix with its module's name.
pub fn each_tensor(model: &Path, mut see: impl FnMut(&str, &[usize], &[f32])) -> Result<()> {
    let checkpoint = Checkpoint::open(model)?;
    let mut seen = BTreeSet::new();
    for name in checkpoint.names() {
        match compressed_module(&checkpoint, name) {
            // A compressed matrix has several tensors: codes, scales, …
            Some(module) if !seen.insert(module) => {}
            Some(module) => {
                let matrix = checkpoint.read_module(module)?;
                see(module, &[matrix.rows, matrix.cols], &matrix.to_dense());
            }
            None => {
                let shape = checkpoint.info(name).map_or(Vec::new(), |info| info.shape.clone());
                see(name, &shape, &checkpoint.read_f32(name, &shape)?);
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("expected MODEL")?;
    each_tensor(Path::new(&model), |name, shape, numbers| {
        let zeros = numbers.iter().filter(|number| **number == 0.0).count();
        println!("{name} {shape:?}: {:.1} % zero", 100.0 * zeros as f64 / numbers.len().max(1) as f64);
    })?;
    Ok(())
}
