//! The running log-sum-exp on a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor};

use super::Running;
use crate::cuda::{Source, function, rows_of_blocks, with_view};

/// The state of all positions, in the memory of a device.
pub(super) struct State {
    device: CudaDevice,
    targets: CudaSlice<u32>,
    tops: CudaSlice<f32>,
    likeliest: CudaSlice<u32>,
    sums: CudaSlice<f64>,
    found: CudaSlice<f32>,
}

impl State {
    pub fn new(device: &CudaDevice, targets: &[u32]) -> Result<Self> {
        let count = targets.len();
        Ok(Self {
            device: device.clone(),
            targets: device.clone_htod(targets)?,
            tops: device.clone_htod(&vec![f32::NEG_INFINITY; count])?,
            likeliest: device.clone_htod(&vec![u32::MAX; count])?,
            sums: device.alloc_zeros(count)?,
            found: device.alloc_zeros(count)?,
        })
    }

    /// [`super::Likelihood::add`] for `count` positions that are there.
    pub fn add(&mut self, position: usize, count: usize, first: u32, logits: &Tensor) -> Result<()> {
        let own = position..position + count;
        with_view::<f32, _>(logits, |values, device| {
            let width = values.len() / count;
            let cols = width as i32;
            let (targets, mut tops) = (self.targets.slice(own.clone()), self.tops.slice_mut(own.clone()));
            let (mut sums, mut found) = (self.sums.slice_mut(own.clone()), self.found.slice_mut(own.clone()));
            let mut likeliest = self.likeliest.slice_mut(own.clone());
            let kernel = function(device, Source::Likelihood, "likelihood_add")?;
            let mut launch = kernel.builder();
            launch.arg(&values).arg(&targets).arg(&mut tops).arg(&mut likeliest).arg(&mut sums).arg(&mut found);
            launch.arg(&cols).arg(&first);
            // SAFETY: a block reads its row of `width` logits and writes the state of its position.
            unsafe { launch.launch(rows_of_blocks(count, width)).w()? };
            Ok(())
        })
    }

    /// The state, in host memory.
    pub fn download(&self) -> Result<Vec<Running>> {
        let device = &self.device;
        let (tops, sums) = (device.clone_dtoh(&self.tops)?, device.clone_dtoh(&self.sums)?);
        let (found, likeliest) = (device.clone_dtoh(&self.found)?, device.clone_dtoh(&self.likeliest)?);
        let all = tops.into_iter().zip(sums).zip(found).zip(likeliest);
        Ok(all.map(|(((top, sum), target), likeliest)| Running { top, sum, likeliest, target }).collect())
    }
}
