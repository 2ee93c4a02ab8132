//! Activations by window.

use candle_core::Tensor;

use crate::Result;
use crate::pipeline::activations::Hidden;

/// Activations of some windows.
pub trait States {
    /// Number of windows.
    fn windows(&self) -> usize;

    /// Those of one window, `[1, t, dim]`. Errors where there are not so many.
    fn window(&self, at: usize) -> Result<Tensor>;
}

/// Tokens that go through a block together: enough for products at full speed, few enough that what a backward pass keeps stays small.
const TOGETHER: usize = 2048;

/// The windows that go through a block together, of some in their order: the activations of each batch in both streams.
pub(super) fn batches(
    (inputs, targets): (&dyn States, &dyn States),
    windows: &[usize],
    mut see: impl FnMut(&Tensor, &Tensor) -> Result<()>,
) -> Result<()> {
    let Some(&first) = windows.first() else { return Ok(()) };
    let each = (TOGETHER / inputs.window(first)?.dim(1)?.max(1)).max(1);
    for windows in windows.chunks(each) {
        let joined = |states: &dyn States| -> Result<Tensor> {
            let windows = windows.iter().map(|&at| states.window(at)).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::cat(&windows, 0)?)
        };
        see(&joined(inputs)?, &joined(targets)?)?;
    }
    Ok(())
}

/// `[windows, t, dim]`.
impl States for Tensor {
    fn windows(&self) -> usize {
        self.dims().first().copied().unwrap_or(0)
    }

    fn window(&self, at: usize) -> Result<Tensor> {
        Ok(self.narrow(0, at, 1)?)
    }
}

impl States for Hidden {
    fn windows(&self) -> usize {
        Hidden::windows(self)
    }

    fn window(&self, at: usize) -> Result<Tensor> {
        Hidden::window(self, at)
    }
}
