//! Checkpoint → tensors of the expected names, shapes and types.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Device, Tensor};
use paring_format::{Checkpoint, Dtype, TensorInfo, Values, layouts::PART_NAMES};
use paring_kernels::matmul::Precision;

use crate::{Dense, Error, Linear, LinearInfo, Mismatch, Result};

/// Tensors by name, each checked against what the config implies before it is used.
///
/// A family first expects every tensor that the model uses, then calls [`Source::complete`], then reads. What is
/// missing or misshapen is gathered meanwhile, so that one error names all of it, and what nobody expected.
pub struct Source {
    checkpoint: Arc<Checkpoint>,
    prefix: &'static str,
    precision: Precision,
    expected: Mutex<Expected>,
    complete: OnceLock<()>,
}

/// What a family asked for so far.
struct Expected {
    /// Those of the asked names that are stored.
    stored: BTreeSet<String>,
    /// What is wrong with the others.
    mismatch: Mismatch,
}

impl Source {
    /// Tensors of `checkpoint` under the first of `prefixes` that makes `marker` a stored tensor's name (a model may be
    /// saved with or without its head, and then with or without `model.`); under the first prefix if none does, so
    /// that the missing tensor is reported under its usual name. `precision` is for products with linears.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        prefixes: &'static [&'static str],
        marker: &str,
        precision: Precision,
    ) -> Self {
        let found = prefixes.iter().find(|prefix| checkpoint.info(&format!("{prefix}{marker}")).is_some());
        let prefix = found.or(prefixes.first()).copied().unwrap_or("");
        let expected = Expected { stored: BTreeSet::new(), mismatch: Mismatch::of(config_file(&checkpoint)) };
        Self { checkpoint, prefix, precision, expected: Mutex::new(expected), complete: OnceLock::new() }
    }

    /// How products round their inputs.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The stored name of what the family calls `local`.
    pub fn name(&self, local: &str) -> String {
        format!("{}{local}", self.prefix)
    }

    /// Whether a tensor of this full name is stored.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }

    /// Whether the module has a weight in any layout.
    pub fn has_linear(&self, module: &str) -> bool {
        ["weight", "weight_packed", "dense_weights"].iter().any(|part| self.has(&format!("{module}.{part}")))
    }

    /// Full names of all stored tensors of a module, sorted.
    pub fn parts_of(&self, module: &str) -> Vec<String> {
        let within = |name: &str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        self.checkpoint.names().filter(|name| within(name)).map(String::from).collect()
    }

    /// Whether a float tensor of this name and shape is stored.
    pub fn holds(&self, name: &str, shape: &[usize]) -> bool {
        self.check(name, shape, "").is_ok()
    }

    /// Expects that a float tensor of this name and shape is stored; if not, [`Source::complete`] says so. `hint` names
    /// the config keys that ask for it.
    pub fn expect(&self, name: &str, shape: &[usize], hint: &str) -> Result<()> {
        self.note(&[name.to_string()], self.check(name, shape, hint))
    }

    fn check(&self, name: &str, shape: &[usize], hint: &str) -> Result<()> {
        let info = self.checkpoint.info(name).ok_or_else(|| self.missing(name, hint))?;
        check_shape(name, &info.file, shape, &info.shape)?;
        if info.dtype.is_float() { Ok(()) } else { Err(wrong_type(name, info)) }
    }

    /// Expects that the linear is stored, dense or compressed, with the shape it should have; if not,
    /// [`Source::complete`] says so. Errors at once when it is in a layout that cannot be read. Reads at most a shape.
    pub fn expect_linear(&self, module: &str, rows: usize, cols: usize, hint: &str) -> Result<()> {
        let parts: Vec<String> = PART_NAMES.iter().map(|part| format!("{module}.{part}")).collect();
        self.note(&parts, self.check_linear(module, rows, cols, hint))
    }

    fn check_linear(&self, module: &str, rows: usize, cols: usize, hint: &str) -> Result<()> {
        let format = self.checkpoint.linear_format(module)?;
        let weight = format!("{module}.weight");
        // A weight of bytes is a stream of codes, whose shape is that of no matrix.
        if let Some(info) = self.checkpoint.info(&weight).filter(|info| info.dtype != Dtype::U8) {
            check_shape(&weight, &info.file, &[rows, cols], &info.shape)?;
            let usable = info.dtype.is_float() || format.layout != "dense";
            return if usable { Ok(()) } else { Err(wrong_type(&weight, info)) };
        }
        if !self.has_linear(module) {
            return Err(self.missing(module, hint));
        }
        let Some(stored) = self.checkpoint.linear_shape(module)? else { return Ok(()) };
        let file =
            self.parts_of(module).iter().find_map(|name| self.checkpoint.info(name)).map(|info| info.file.clone());
        check_shape(module, &file.unwrap_or_default(), &[rows, cols], &[stored.0, stored.1])
    }

    /// Notes that these names belong to the model, and keeps the error about them for [`Source::complete`] if it is
    /// about a tensor and not about the checkpoint as a whole.
    fn note(&self, names: &[String], checked: Result<()>) -> Result<()> {
        if self.complete.get().is_some() {
            return checked;
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.stored.extend(names.iter().filter(|name| self.has(name)).cloned());
        checked.or_else(|error| expected.mismatch.note(error))
    }

    /// To be called when everything was expected and before anything is read; reading calls it too, if nobody did.
    ///
    /// Errors when expected tensors are missing, misshapen or of a type that cannot be used, or when tensors are stored
    /// that nobody expected and that mean something: no output would hold them. One error names all of these; a source
    /// that gave it is of no more use.
    pub fn complete(&self) -> Result<()> {
        if self.complete.get().is_some() {
            return Ok(());
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mismatch = std::mem::take(&mut expected.mismatch);
        for name in self.checkpoint.names().filter(|&name| !expected.stored.contains(name)) {
            if let Some(info) = self.checkpoint.info(name).filter(|info| !means_nothing(name, info)) {
                mismatch.extra(name, &info.file);
            }
        }
        mismatch.into_result()?;
        self.complete.get_or_init(|| ());
        Ok(())
    }

    /// A stored float tensor as f32. Errors when its shape differs or a value is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.complete()?;
        Ok(Tensor::from_vec(self.checkpoint.read_f32(name, shape)?, shape, &Device::Cpu)?)
    }

    /// Rows `first .. first + count` of a stored float matrix with `cols` columns, as f32, row-major. Errors on values
    /// that are not finite.
    pub fn rows(&self, name: &str, first: usize, count: usize, cols: usize) -> Result<Vec<f32>> {
        self.complete()?;
        let values = self.checkpoint.read_rows_f32(name, first, count)?;
        if values.len() != count * cols {
            return Err(Error::WeightSize { rows: count, cols, got: values.len() });
        }
        Ok(values)
    }

    /// The dense weight of a linear stored in any layout, row-major `[rows, cols]`.
    pub fn dense(&self, module: &str, rows: usize, cols: usize) -> Result<Vec<f32>> {
        self.complete()?;
        let stored = self.checkpoint.read_linear(module, rows, cols)?;
        Ok(match stored.values {
            Values::Dense(values) => values,
            Values::Codes { .. } | Values::Spqr(_) => stored.to_dense(),
        })
    }

    /// Reads a linear, with its bias if it has one.
    pub fn linear(&self, info: &LinearInfo, bias: bool) -> Result<Linear> {
        let LinearInfo { ref name, rows, cols, .. } = *info;
        let weight = Dense::new(rows, cols, self.dense(name, rows, cols)?, self.precision)?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[rows])?) } else { None };
        Ok(Linear { name: name.clone(), rows, cols, weight: Arc::new(weight), bias })
    }

    fn missing(&self, name: &str, hint: &str) -> Error {
        let file = config_file(&self.checkpoint);
        Error::MissingTensor { file, name: name.to_string(), hint: hint.to_string() }
    }
}

/// The config's name for messages.
pub fn config_file(checkpoint: &Checkpoint) -> String {
    checkpoint.config_path().display().to_string()
}

/// Whether a tensor that no model asks for may be left out: buffers that are computed from the config, which older
/// files hold, masks of attention among them.
fn means_nothing(name: &str, info: &TensorInfo) -> bool {
    let buffers = [".inv_freq", ".cos_cached", ".sin_cached", ".masked_bias", "position_ids", "decoder.version"];
    // The triangle of ones is [1, 1, positions, positions]; a bias would have one dimension.
    let mask = name.ends_with("attn.bias") || name.ends_with("attention.bias");
    buffers.iter().any(|buffer| name.ends_with(buffer)) || (mask && info.shape.len() == 4)
}

fn wrong_type(name: &str, info: &TensorInfo) -> Error {
    Error::TensorType { file: info.file.clone(), name: name.to_string(), got: info.dtype.to_string() }
}

fn check_shape(name: &str, file: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::TensorShape {
        file: file.to_string(),
        name: name.to_string(),
        expected: expected.to_vec(),
        got: got.to_vec(),
    })
}
