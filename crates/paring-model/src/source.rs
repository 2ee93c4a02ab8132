//! Checkpoint → tensors of the expected names, shapes and types.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Device, Tensor};
use paring_format::checkpoint::few;
use paring_format::{Checkpoint, Dtype, QuantArgs, TensorInfo, layouts};
use paring_kernels::device::upload;
use paring_kernels::matmul::Precision;
use paring_kernels::quantize::Rounding;
use rayon::prelude::*;

use crate::activations::{self, Arithmetic, StoredScales};
use crate::adapter::{Adapted, pair_of};
use crate::weight::QuantizedInput;
use crate::{Dense, Error, Fan, Linear, LinearInfo, Mismatch, Packed, Result, Weight};

/// Tensors by name, each checked against what the config implies before it is used.
///
/// A family first requires every tensor that the model uses, then calls [`Source::complete`], then reads. What is
/// missing, misshapen or unknown is gathered meanwhile, so that one error names all of it.
pub struct Source {
    checkpoint: Arc<Checkpoint>,
    prefix: &'static str,
    arithmetic: Arithmetic,
    required: Mutex<Required>,
    /// A remark about the tensors that no part of the model required, once that is known.
    complete: OnceLock<Option<String>>,
}

/// The tensors that a family required so far.
struct Required {
    /// Those of the asked names that are stored.
    stored: BTreeSet<String>,
    /// The errors about the others.
    mismatch: Mismatch,
}

impl Source {
    /// Tensors of `checkpoint` under `prefix`. `arithmetic` is that of linears and caches.
    pub fn new(checkpoint: Arc<Checkpoint>, prefix: &'static str, arithmetic: Arithmetic) -> Self {
        let required = Required { stored: BTreeSet::new(), mismatch: Mismatch::of(config_file(&checkpoint)) };
        Self { checkpoint, prefix, arithmetic, required: Mutex::new(required), complete: OnceLock::new() }
    }

    /// Rounding of the inputs of products.
    pub fn precision(&self) -> Precision {
        self.arithmetic.precision
    }

    /// The checkpoint it reads.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The arithmetic of the model.
    pub fn arithmetic(&self) -> &Arithmetic {
        &self.arithmetic
    }

    /// The device of tensors.
    pub fn device(&self) -> &Device {
        &self.arithmetic.device
    }

    /// The stored name of what the family calls `local`.
    pub fn name(&self, local: &str) -> String {
        format!("{}{local}", self.prefix)
    }

    /// True if a tensor of this full name is stored.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }

    /// True if the module has a weight in any layout.
    pub fn has_linear(&self, module: &str) -> bool {
        layouts::weight_names().iter().any(|part| self.has(&format!("{module}.{part}")))
    }

    /// Full names of all stored tensors of a module, sorted.
    pub fn parts_of(&self, module: &str) -> Vec<String> {
        let within = |name: &str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        self.checkpoint.names().filter(|name| within(name)).map(String::from).collect()
    }

    /// True if a float tensor of this name and shape is stored.
    pub fn holds(&self, name: &str, shape: &[usize]) -> bool {
        self.check(name, shape, "").is_ok()
    }

    /// Requires that a float tensor of this name and shape is stored; if not, [`Source::complete`] says so. `hint` names
    /// the config keys that ask for it.
    pub fn require(&self, name: &str, shape: &[usize], hint: &str) -> Result<()> {
        self.note(&[name.to_string()], self.check(name, shape, hint))
    }

    fn check(&self, name: &str, shape: &[usize], hint: &str) -> Result<()> {
        self.check_type(name, shape, &Dtype::FLOATS, hint)
    }

    /// Errors unless the tensor is stored with this shape and one of these types.
    fn check_type(&self, name: &str, shape: &[usize], dtypes: &[Dtype], hint: &str) -> Result<()> {
        let info = self.checkpoint.info(name).ok_or_else(|| self.missing(name, hint))?;
        check_shape(name, &info.file, shape, &info.shape)?;
        if dtypes.contains(&info.dtype) { Ok(()) } else { Err(wrong_type(name, info, dtypes)) }
    }

    /// Requires that the linear is stored, dense or compressed, with the shape it should have; if not,
    /// [`Source::complete`] says so; and so with the scales of its inputs, where the config has them quantized. Errors at
    /// once when it is in a layout that cannot be read, or its inputs are quantized in a way that cannot be run. Reads at
    /// most a shape.
    pub fn require_linear(&self, module: &str, rows: usize, cols: usize, hint: &str) -> Result<()> {
        self.require_weight(module, rows, cols, hint)?;
        let Some(args) = self.input_args(module)? else { return Ok(()) };
        let hint = "input_activations of the quantization_config are right";
        let full = |local: &str| format!("{module}.{local}");
        let (zero, scales) = (full("input_zero_point"), activations::stored(&args, cols, module)?);
        match scales {
            StoredScales::Nothing => {}
            StoredScales::Scale => self.require_scales(&full("input_scale"), &[1], hint)?,
            StoredScales::Global => {
                self.require_number(&full("input_global_scale"), &[1], &[Dtype::F32, Dtype::F64], hint)?
            }
        }
        if scales == StoredScales::Scale && !args.symmetric {
            return self.require_number(&zero, &[1], &[Dtype::I8], hint);
        }
        self.allow(&[zero]);
        Ok(())
    }

    /// As [`Source::require_linear`], for a matrix that is no linear: its inputs are never quantized.
    pub fn require_weight(&self, module: &str, rows: usize, cols: usize, hint: &str) -> Result<()> {
        let parts: Vec<String> = layouts::part_names().iter().map(|part| format!("{module}.{part}")).collect();
        self.note(&parts, self.check_linear(module, rows, cols, hint))
    }

    fn check_linear(&self, module: &str, rows: usize, cols: usize, hint: &str) -> Result<()> {
        let format = self.checkpoint.linear_format(module)?;
        let weight = format!("{module}.weight");
        // A weight of bytes is a stream of codes, whose shape is that of no matrix.
        if let Some(info) = self.checkpoint.info(&weight).filter(|info| info.dtype != Dtype::U8) {
            check_shape(&weight, &info.file, &[rows, cols], &info.shape)?;
            let usable = info.dtype.is_float() || format.layout != "dense";
            return if usable { Ok(()) } else { Err(wrong_type(&weight, info, &Dtype::FLOATS)) };
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
    pub(crate) fn note(&self, names: &[String], checked: Result<()>) -> Result<()> {
        if self.complete.get().is_some() {
            return checked;
        }
        self.allow(names);
        let mut required = self.required.lock().unwrap_or_else(PoisonError::into_inner);
        checked.or_else(|error| required.mismatch.note(error))
    }

    /// Notes that these names belong to the model, whether they are stored or not.
    pub(crate) fn allow(&self, names: &[String]) {
        let mut required = self.required.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names.iter().filter(|name| self.has(name)) {
            required.stored.insert(self.checkpoint.stored_as(name).unwrap_or_else(|| name.clone()));
        }
    }

    /// To be called when everything was required and before anything is read; reading calls it too, if nothing did before.
    ///
    /// Errors when required tensors are missing, misshapen or of a type that cannot be used, or when tensors are stored
    /// that no part of the model required and that mean something: no output would hold them. One error names all of these; a source
    /// that gave it is of no more use. Of a checkpoint that is read leniently, such tensors are left out; returns a remark
    /// about them.
    pub fn complete(&self) -> Result<Option<&str>> {
        if let Some(note) = self.complete.get() {
            return Ok(note.as_deref());
        }
        let mut required = self.required.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mismatch = std::mem::take(&mut required.mismatch);
        let mut left_out = Vec::new();
        for name in self.checkpoint.names().filter(|&name| !required.stored.contains(name)) {
            let Some(info) = self.checkpoint.info(name).filter(|info| !means_nothing(name, info)) else { continue };
            if self.is_zero_point_of_zeros(name)? {
                continue;
            }
            match self.checkpoint.is_lenient() {
                true => left_out.push(name),
                false => mismatch.extra(name, &info.file),
            }
        }
        mismatch.into_result()?;
        let (count, names) = (left_out.len(), few(&left_out));
        let note = format!("{count} tensors that the model does not have are left out: {names}");
        Ok(self.complete.get_or_init(|| (count > 0).then_some(note)).as_deref())
    }

    /// A stored float tensor as f32, on the device. Errors when its shape differs or a value is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.complete()?;
        Ok(upload(self.checkpoint.read_f32(name, shape)?, shape, self.device())?)
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
        Ok(self.checkpoint.read_linear(module, rows, cols)?.into_dense())
    }

    /// The weight of a linear stored in any layout: its matrix `[rows, cols]`, and the rounding of its inputs where
    /// the config has one and activations are rounded at all; with the change of an adapter, if it has one for it.
    pub fn weight(&self, module: &str, rows: usize, cols: usize) -> Result<Arc<dyn Weight>> {
        let weight: Arc<dyn Weight> = match self.keeps_packed() {
            true => {
                self.complete()?;
                let matrix = self.checkpoint.read_linear(module, rows, cols)?;
                Arc::new(Packed::on(self.device(), &matrix, self.precision())?)
            }
            false => {
                let values = self.dense(module, rows, cols)?;
                Arc::new(Dense::on(self.device(), rows, cols, values, self.precision())?)
            }
        };
        let weight = match self.input(module)? {
            Some(input) => Arc::new(QuantizedInput::new(weight, input)),
            None => weight,
        };
        match self.arithmetic.adapter.as_ref().and_then(|adapter| pair_of(adapter, module)) {
            Some((_, pair)) => Ok(Arc::new(Adapted::new(weight, pair, self.device())?)),
            None => Ok(weight),
        }
    }

    /// True if weights stay packed in memory.
    pub fn keeps_packed(&self) -> bool {
        self.arithmetic.packed
    }

    /// The rounding of a linear's inputs as the model runs; `None` where there is none.
    pub fn input(&self, module: &str) -> Result<Option<Rounding>> {
        if !self.arithmetic.activations {
            return Ok(None);
        }
        let Some(args) = self.input_args(module)? else { return Ok(None) };
        let zero = format!("{module}.input_zero_point");
        // What was not compressed yet is rounded with the zero point that is there, whatever the scheme says of it.
        let symmetric = args.symmetric && !(self.checkpoint.is_rounded_float(module)? && self.has_offset(&zero)?);
        let read = |local: &str| self.activation_number(&format!("{module}.{local}"));
        Ok(Some(activations::rounding(&QuantArgs { symmetric, ..args }, &read)?))
    }

    /// The quantization of a linear's inputs in the config. Errors when it wants outputs to be quantized.
    fn input_args(&self, module: &str) -> Result<Option<QuantArgs>> {
        let Some(scheme) = self.checkpoint.linear_format(module)?.scheme else { return Ok(None) };
        if scheme.output.is_some() {
            let format = "output_activations".to_string();
            let module = module.to_string();
            return Err(Error::Format(paring_format::Error::UnsupportedFormat { module, format }));
        }
        Ok(scheme.input)
    }

    /// Reads a linear, with its bias if it has one.
    pub fn linear(&self, info: &LinearInfo, bias: bool) -> Result<Linear> {
        let LinearInfo { ref name, rows, cols, .. } = *info;
        let weight = self.weight(name, rows, cols)?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[rows])?) } else { None };
        Ok(Linear { name: name.clone(), rows, cols, weight, bias })
    }

    /// Puts linears, each with whether it has a bias, into their fans. Where they stay on the CPU or are packed
    /// there, they are read side by side.
    pub fn fill(&self, fans: &mut [Fan], linears: &[(LinearInfo, bool)]) -> Result<()> {
        let read = |(info, bias): &(LinearInfo, bool)| self.linear(info, *bias);
        let made: Vec<Result<Linear>> = match self.device() {
            Device::Cpu => linears.par_iter().with_max_len(1).map(read).collect(),
            _ if self.keeps_packed() => linears.par_iter().with_max_len(1).map(read).collect(),
            _ => linears.iter().map(read).collect(),
        };
        for ((info, _), linear) in linears.iter().zip(made) {
            fans[info.fan].linears.push(linear?);
        }
        // Those that share an input with an adapted one are still multiplied together with it.
        for Fan { linears, .. } in fans {
            let is_adapted = |linear: &Linear| Adapted::of(&*linear.weight).is_some();
            if linears.iter().any(is_adapted) {
                for linear in linears.iter_mut().filter(|linear| !is_adapted(linear)) {
                    linear.weight = Arc::new(Adapted::beside(Arc::clone(&linear.weight)));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn missing(&self, name: &str, hint: &str) -> Error {
        let file = config_file(&self.checkpoint);
        Error::MissingTensor { file, name: name.to_string(), hint: hint.to_string() }
    }
}

/// The config's name for messages.
pub fn config_file(checkpoint: &Checkpoint) -> String {
    checkpoint.config_path().display().to_string()
}

/// True for a tensor that no model asks for and that may be left out: buffers that are computed from the config, which older
/// files hold, masks of attention among them.
fn means_nothing(name: &str, info: &TensorInfo) -> bool {
    let buffers = [".inv_freq", ".cos_cached", ".sin_cached", ".masked_bias", "position_ids", "decoder.version"];
    // The triangle of ones is [1, 1, positions, positions]; a bias would have one dimension.
    let mask = name.ends_with("attn.bias") || name.ends_with("attention.bias");
    buffers.iter().any(|buffer| name.ends_with(buffer)) || (mask && info.shape.len() == 4)
}

/// The error of a tensor of another type than these.
pub(crate) fn wrong_type(name: &str, info: &TensorInfo, expected: &[Dtype]) -> Error {
    let names: Vec<&str> = expected.iter().map(|dtype| dtype.name()).collect();
    let expected = match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    };
    Error::TensorType { file: info.file.clone(), name: name.to_string(), expected, got: info.dtype.to_string() }
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
