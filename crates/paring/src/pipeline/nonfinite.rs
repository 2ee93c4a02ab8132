//! The first NaN, infinity or overflow of half precision in a forward pass, located.

use candle_core::Tensor;
use paring_format::message;
use paring_model::decoder::{Block, Decoder};
use paring_model::fan::Tap;
use paring_model::{Flow, Held, Pass};

use super::activations::Hidden;
use super::f16_watch::F16Watch;
use crate::plan::Opt;
use crate::{Error, Precision, Result};

/// Passes batches through a block, and errors on the first input of its linears that products cannot hold.
pub(crate) struct CheckedForward {
    watch: F16Watch,
    precision: Precision,
    /// The first window of the batch that comes next.
    window: usize,
}

impl CheckedForward {
    /// For products that round their inputs to `precision`.
    pub fn new(precision: Precision) -> Self {
        Self { watch: F16Watch::new(precision), precision, window: 0 }
    }

    /// The output of block number `i` for the next batch `h`, of which some may be `held`.
    pub fn forward(
        &mut self,
        decoder: &dyn Decoder,
        (i, block): (usize, &dyn Block),
        h: &Tensor,
        held: Option<&mut Held>,
    ) -> Result<Tensor> {
        let Flow::Out(made) = block.run(h, &mut Pass::whole(&mut self.watch).holding(held))? else {
            return Err(paring_model::Error::StoppedEarly.into());
        };
        if self.watch.overflowed() {
            let mut finder = Finder::new(self.precision, self.window, None);
            block.tap_only(h, &mut finder, None)?;
            if let Some(error) = finder.error(decoder, i) {
                return Err(error);
            }
        }
        self.window += h.dim(0)?;
        Ok(made)
    }
}

/// A number of a fan's input.
#[derive(Clone, Copy, Debug)]
struct Found {
    fan: usize,
    window: usize,
    position: usize,
    feature: usize,
    value: f32,
}

/// The tap that looks for the first number that products round to a non-finite one, and counts its like in the input of that fan.
struct Finder {
    precision: Precision,
    /// The first window of the batch that comes next.
    window: usize,
    first: Option<Found>,
    count: usize,
    /// The fan and the feature whose largest number is wanted, and that.
    wanted: Option<(usize, usize)>,
    largest: Option<Found>,
}

impl Finder {
    fn new(precision: Precision, window: usize, wanted: Option<(usize, usize)>) -> Self {
        Self { precision, window, first: None, count: 0, wanted, largest: None }
    }

    /// The error that says what was found in block `i`; `None` where nothing was.
    fn error(&self, decoder: &dyn Decoder, i: usize) -> Option<Error> {
        let Found { fan, window, position, feature, value } = self.first?;
        let hint = match (value.is_finite(), self.precision) {
            (true, Precision::F16) => message!["float16 ends at 65504: choose ", Opt::Dtype.with("bf16 or f32")],
            (true, _) => message!["bfloat16 ends there: choose ", Opt::Dtype.with("f32")],
            (false, Precision::F16) => message![
                "the weights before it are damaged, or too large for float16, which ends at 65504: choose ",
                Opt::Dtype.with("f32")
            ],
            (false, _) => "the weights before it are damaged or too large; download the model again".into(),
        };
        let module = module(decoder, i, fan);
        Some(Error::Input { module, value, window, position, feature, count: self.count, hint })
    }
}

impl Tap for Finder {
    fn see(&mut self, fan: usize, x: &Tensor) -> paring_model::Result<()> {
        let counted = self.first.is_none_or(|first| first.fan == fan);
        let wanted = self.wanted.filter(|(of, _)| *of == fan).map(|(_, feature)| feature);
        if !counted && wanted.is_none() {
            return Ok(());
        }
        let (_, t, cols) = x.dims3()?;
        for (row, values) in x.flatten_all()?.to_vec1::<f32>()?.chunks_exact(cols.max(1)).enumerate() {
            let found = |feature: usize| {
                let (window, position) = (self.window + row / t, row % t);
                Found { fan, window, position, feature, value: values[feature] }
            };
            if let Some(feature) = wanted
                && self.largest.is_none_or(|largest| values[feature].abs() > largest.value.abs())
            {
                self.largest = Some(found(feature));
            }
            let bad = |value: &f32| !self.precision.round(*value).is_finite();
            if counted && let Some(feature) = values.iter().position(bad) {
                self.count += values.iter().filter(|value| bad(value)).count();
                self.first = self.first.or(Some(found(feature)));
            }
        }
        Ok(())
    }
}

/// The first linear of a fan, which stands for those that share its input.
fn module(decoder: &dyn Decoder, i: usize, fan: usize) -> String {
    let first = decoder.linears(i).into_iter().find(|linear| linear.fan == fan);
    first.map_or_else(|| format!("block {i}"), |linear| linear.name)
}

/// Why the statistics of block `i` cannot be used, of which those of one fan are not finite in this feature: all windows go
/// through the block again. The reason is an input that is not finite or that products cannot hold, or else sums of finite ones. `bad` is
/// `None` when only a number beyond the precision was seen.
pub(crate) fn of_statistics(
    decoder: &dyn Decoder,
    (i, block): (usize, &dyn Block),
    hidden: &Hidden,
    precision: Precision,
    bad: Option<(usize, usize)>,
) -> Result<Error> {
    let mut finder = Finder::new(precision, 0, bad);
    hidden.each(|batch| {
        block.tap_only(batch, &mut finder, None)?;
        finder.window += batch.dim(0)?;
        Ok(())
    })?;
    // Sums of a fan whose own inputs are finite come before inputs of a later one that are not.
    let earlier = |largest: &Found| finder.first.is_none_or(|first| largest.fan < first.fan);
    if let Some(Found { fan, window, position, feature, value }) = finder.largest.filter(earlier) {
        return Ok(Error::Sums { module: module(decoder, i, fan), feature, value, window, position });
    }
    let module = module(decoder, i, bad.map_or(0, |(fan, _)| fan));
    let unknown = || {
        Error::Plan(format!(
            "{module}: its statistics are NaN or infinite, though its inputs are not; use other calibration data"
        ))
    };
    Ok(finder.error(decoder, i).unwrap_or_else(unknown))
}

/// The error that says more than that the output of a block is not finite: which input of its linears is not, or which
/// weight. `hidden` holds what entered the block, from the batch on in which that was found.
pub(crate) fn of_output(error: Error, decoder: &dyn Decoder, block: &mut dyn Block, hidden: &Hidden) -> Error {
    let Error::Hidden { block: i, window, .. } = error else { return error };
    // An error of this second pass would say less than the one that caused it.
    let inputs = || -> Result<Option<Error>> {
        let mut first = 0;
        for at in 0..hidden.batches() {
            let batch = hidden.batch(at)?;
            let windows = batch.dim(0)?;
            if window < first + windows {
                let mut finder = Finder::new(decoder.arithmetic().precision, first, None);
                block.tap_only(&batch, &mut finder, None)?;
                return Ok(finder.error(decoder, i));
            }
            first += windows;
        }
        Ok(None)
    };
    if let Ok(Some(found)) = inputs() {
        return found;
    }
    for fan in block.fans() {
        for linear in &fan.linears {
            let dense = linear.weight.dense().and_then(|dense| Ok(dense.flatten_all()?.to_vec1::<f32>()?));
            let Some(at) = dense.ok().and_then(|dense| dense.iter().position(|v| !v.is_finite())) else { continue };
            let (row, column) = (at / linear.cols, at % linear.cols);
            return Error::Weight { module: linear.name.clone(), row, column };
        }
    }
    error
}
