//! Training runs of PyTorch and PEFT (tests/golden/training), and what holds of all runs.

mod differences;
mod golden;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paring_format::writer::{NamedTensor, write_file};
use paring_format::{Checkpoint, Dtype};
use paring_model::{Arithmetic, Decoder};
use safetensors::SafeTensors;

use super::{Loss, Schedule, Settings, Subject};
use crate::Precision;

/// A folder of the repository.
fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn open(dir: &Path) -> Box<dyn Decoder> {
    let checkpoint = Arc::new(Checkpoint::open(dir).unwrap());
    paring_model::families::open(checkpoint, Arithmetic::from(Precision::F32)).unwrap()
}

fn demo() -> PathBuf {
    folder("crates/paring-cli/demo")
}

/// The demo under the masks of the golden data, in a folder of its own.
fn pruned_demo() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(demo().join("config.json"), dir.path().join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(&demo()).unwrap();
    let masks = std::fs::read(folder("tests/golden/training/masked_training/masks.safetensors")).unwrap();
    let masks = SafeTensors::deserialize(&masks).unwrap();
    let tensors = checkpoint.names().map(|name| {
        let shape = checkpoint.info(name).unwrap().shape.clone();
        let mut values = checkpoint.read_f32(name, &shape).unwrap();
        if let Ok(mask) = masks.tensor(name) {
            let mask = mask.data();
            values.iter_mut().enumerate().for_each(|(i, v)| *v *= f32::from(mask[i / 8] >> (i % 8) & 1));
        }
        NamedTensor { name: name.to_string(), dtype: Dtype::F32, shape, bytes: Dtype::F32.encode(&values) }
    });
    write_file(&dir.path().join("model.safetensors"), tensors.collect()).unwrap();
    dir
}

/// Choices without a frame: so many steps at this rate.
fn settings(steps: usize, rate: f64, subject: Subject) -> Settings {
    Settings {
        steps,
        batch: 2,
        rate,
        schedule: Schedule::Constant,
        warmup: 0,
        adam: paring_kernels::adam::Adam::default(),
        clip: None,
        loss: Loss::PLAIN,
        subject,
        seed: 0,
        eval_every: 0,
        checkpoint_every: 0,
        rounded: false,
    }
}
