//! A GPU's memory as a whole, and copies to host memory and back.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result, sys};
use candle_core::{CudaDevice, Device, Result, Shape, Tensor};

use super::{tensor, with_view};

/// The pool that tensors of the device are allocated from; `None` where the driver has none.
fn pool(device: &CudaDevice) -> Result<Option<sys::CUmemoryPool>> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(None);
    }
    context.bind_to_thread().w()?;
    // SAFETY: the number is that of the device of a context that exists.
    unsafe { result::device::get_mem_pool(context.cu_device()) }.w().map(Some)
}

/// Memory that was freed stays with the process. By default the pool gives it back to the driver whenever the host waits
/// for the device, and mapping it again takes longer than many a kernel.
pub(crate) fn keep_freed(device: &CudaDevice) -> Result<()> {
    let Some(pool) = pool(device)? else { return Ok(()) };
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool exists, and this attribute is a number of 64 bits.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()) }.w()
}

/// Most bytes that tensors of the process took at once; `None` where the driver has no pool that counts them.
pub(crate) fn peak(device: &CudaDevice) -> Result<Option<usize>> {
    let Some(pool) = pool(device)? else { return Ok(None) };
    let mut bytes = 0u64;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the pool exists, and this attribute is a number of 64 bits.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }.w()?;
    Ok(Some(bytes as usize))
}

/// Page-locked numbers.
pub(crate) struct Locked(PinnedHostSlice<f32>);

/// A tensor on its way to the device.
pub(crate) struct Coming {
    tensor: Tensor,
    device: CudaDevice,
    there: CudaEvent,
}

impl Coming {
    /// The tensor, for work of the device that is asked for from now on.
    pub fn arrive(self) -> Result<Tensor> {
        self.device.cuda_stream().wait(&self.there).w()?;
        Ok(self.tensor)
    }
}

/// A stream for copies beside the work of a device. Tensors belong to the device's own stream, as candle takes for granted,
/// and the two streams wait for each other where a tensor changes hands.
pub(crate) struct Lane {
    stream: Arc<CudaStream>,
    device: CudaDevice,
}

impl Lane {
    /// A lane of this device; `None` for the CPU. Errors where slices are not tracked by events: nothing would wait then.
    pub fn new(device: &Device) -> Result<Option<Self>> {
        let Device::Cuda(device) = device else { return Ok(None) };
        if !device.is_event_tracking() {
            candle_core::bail!("copies beside the work of {device:?}, whose slices no events track");
        }
        let stream = device.cuda_stream().context().new_stream().w()?;
        Ok(Some(Self { stream, device: device.clone() }))
    }

    /// A copy of the tensor in new memory of the host, which is filled when the lane gets there.
    pub fn take(&self, x: &Tensor) -> Result<Locked> {
        // Not write-combined: what waits may be read by the CPU on its way to a file.
        // SAFETY: it is written before anything reads it.
        let host = unsafe { self.stream.context().alloc_pinned_with_flags::<f32>(x.elem_count().max(1), 0) }.w()?;
        let mut locked = Locked(host);
        self.replace(&mut locked, x)?;
        Ok(locked)
    }

    /// Puts a copy of a tensor of as many elements in the place of what is there.
    pub fn replace(&self, locked: &mut Locked, x: &Tensor) -> Result<()> {
        with_view::<f32, _>(x, |values, _| {
            self.stream.join(&self.device.cuda_stream()).w()?;
            self.stream.memcpy_dtoh(&values, &mut locked.0).w()
        })
    }

    /// A tensor of that shape, filled when the lane gets there.
    pub fn bring(&self, locked: &Locked, shape: &Shape) -> Result<Coming> {
        // SAFETY: the copy writes it, and work that reads it waits for that.
        let mut slice = unsafe { self.device.alloc::<f32>(locked.0.len()) }?;
        // Its memory may be that of a tensor which the device still works with.
        self.stream.join(&self.device.cuda_stream()).w()?;
        self.stream.memcpy_htod(&locked.0, &mut slice).w()?;
        let there = self.stream.record_event(None).w()?;
        Ok(Coming { tensor: tensor(slice, &self.device, shape), device: self.device.clone(), there })
    }
}
