//! Page-locked buffers that copies between ordinary memory of the host and a GPU go through.
//!
//! A copy runs at the rate of the link, and beside other work, only where the host's side is page-locked. Such memory takes
//! long to make and cannot be swapped out, so each GPU has little of it, which is kept: two [`Ring`]s, made when they are
//! needed first, of which one half is filled or emptied while the other half is copied. One serves the sweeps, whose copies
//! are work of the device like any other; the other one serves [`Uploads`].

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceRepr, PinnedHostSlice, sys,
};
use candle_core::{CudaDevice, Result};

use crate::{PAGE_LOCKED, threads};

/// Bytes of half a ring.
const HALF: usize = PAGE_LOCKED / 2;
/// Threads that fill or empty half a ring at most: a few are as fast as the memory.
const THREADS: usize = 4;
/// Bytes that are worth a thread.
const WORTH: usize = 2 << 20;

/// Numbers that are copied.
///
/// # Safety
/// All patterns of bits are values, and no value needs more than a page to be aligned.
pub(crate) unsafe trait Plain: DeviceRepr + Copy + Default + Send + Sync {}

macro_rules! plain {
    ($($type:ty),*) => {
        $(
            // SAFETY: a number whose bits may be any, aligned to its size.
            unsafe impl Plain for $type {}
        )*
    };
}

plain!(u8, u16, u32, u64, f32, f64, half::bf16, half::f16);

/// Two page-locked buffers that are used in turn.
pub(super) struct Ring {
    halves: [Half; 2],
    bytes: usize,
    turn: usize,
}

struct Half {
    memory: PinnedHostSlice<u8>,
    /// Recorded after the last copy from or to the memory.
    done: CudaEvent,
}

impl Half {
    /// The first numbers of the memory, once its copy is done.
    fn numbers<T: Plain>(&mut self, count: usize) -> Result<&mut [T]> {
        assert!(count * size_of::<T>() <= self.memory.len(), "{count} numbers in half a ring");
        self.done.synchronize().w()?;
        let first = self.memory.as_mut_ptr().w()?;
        // SAFETY: the memory begins at a page, is longer than that, holds numbers of which all bits are one, and the only
        // copy that used it is done.
        Ok(unsafe { std::slice::from_raw_parts_mut(first.cast(), count) })
    }
}

impl Ring {
    /// A ring of two times `bytes`, a multiple of 8.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let half = || -> Result<Half> {
            // Not write-combined: it is read here as well.
            // SAFETY: all of what is copied from it is written before.
            let memory = unsafe { context.alloc_pinned_with_flags::<u8>(bytes, 0) }.w()?;
            // Waiting for a copy leaves the processor to others.
            let done = context.new_event(Some(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC)).w()?;
            Ok(Half { memory, done })
        };
        Ok(Self { halves: [half()?, half()?], bytes, turn: 0 })
    }

    /// Copies to `to`, when the stream gets there, the numbers that `write` puts into pieces of it: it is given where a
    /// piece begins and is called on several threads.
    pub fn up<T: Plain>(
        &mut self,
        stream: &Arc<CudaStream>,
        to: &mut CudaViewMut<'_, T>,
        write: impl Fn(usize, &mut [T]) + Sync,
    ) -> Result<()> {
        let (len, each) = (to.len(), self.bytes / size_of::<T>());
        for first in (0..len).step_by(each) {
            let count = each.min(len - first);
            let half = &mut self.halves[self.turn % 2];
            let numbers = half.numbers::<T>(count)?;
            on_threads(numbers, |at, piece| write(first + at, piece));
            stream.memcpy_htod(&*numbers, &mut to.slice_mut(first..first + count)).w()?;
            half.done.record(stream).w()?;
            self.turn += 1;
        }
        Ok(())
    }

    /// Copies `from` to as many numbers of the host, when the stream gets there, and waits for it.
    pub fn down<T: Plain>(&mut self, stream: &Arc<CudaStream>, from: &CudaView<'_, T>, to: &mut [T]) -> Result<()> {
        assert_eq!(from.len(), to.len(), "numbers of a GPU and room for them");
        let each = self.bytes / size_of::<T>();
        let mut rest = to;
        let mut before = 0;
        // Each piece is taken out while the next one is copied.
        for first in (0..from.len().next_multiple_of(each) + each).step_by(each) {
            let count = each.min(from.len().saturating_sub(first));
            if count > 0 {
                let half = &mut self.halves[self.turn % 2];
                stream.memcpy_dtoh(&from.slice(first..first + count), half.numbers::<T>(count)?).w()?;
                half.done.record(stream).w()?;
            }
            self.turn += 1;
            if before > 0 {
                let numbers: &[T] = self.halves[self.turn % 2].numbers(before)?;
                let (piece, after) = rest.split_at_mut(before);
                on_threads(piece, |at, part| part.copy_from_slice(&numbers[at..][..part.len()]));
                rest = after;
            }
            before = count;
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for half in &self.halves {
            // The memory goes when its copies are done; an error of the device shows wherever it is used next.
            let _ = half.done.synchronize();
        }
    }
}

/// Calls `f` with pieces of `to` and where they begin, on a few threads of their own: one of rayon's would take up other
/// work while it waits, which may need the ring that the caller has.
fn on_threads<T: Send>(to: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    let threads = (size_of_val(to) / WORTH).clamp(1, THREADS.min(rayon::current_num_threads()).max(1));
    if threads == 1 {
        return f(0, to);
    }
    let each = to.len().div_ceil(threads);
    thread::scope(|scope| {
        for (i, piece) in to.chunks_mut(each).enumerate() {
            let f = &f;
            if let Err(piece) = threads::spawn_scoped(scope, piece, move |piece| f(i * each, piece)) {
                f(i * each, piece);
            }
        }
    });
}

/// A ring that is made when it is needed first.
struct Later {
    bytes: usize,
    ring: Mutex<Option<Ring>>,
}

impl Later {
    fn with<R>(&self, stream: &CudaStream, f: impl FnOnce(&mut Ring) -> Result<R>) -> Result<R> {
        // A ring whose user panicked waits for its copies like any other.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *ring {
            Some(ring) => f(ring),
            none => f(none.insert(Ring::new(stream.context(), self.bytes)?)),
        }
    }
}

/// Uploads beside the work of a device, in a stream of their own: weights of a block that comes later.
///
/// The rule of memory that two streams use:
/// * It is allocated by this stream, which need not wait for what the device has yet to do. Memory of the device's own
///   stream may be that of a tensor that work in the queue still reads; a copy into it would have to wait for the queue.
/// * The slice that is handed out belongs to the device's stream, as candle takes for granted of every tensor.
/// * The copy leaves an event in the slice, for which each stream waits that uses it: the device's, at the first use.
/// * So it is the device's stream that frees it, after its last use and after the copy. This stream never waits for the
///   device; the driver gives it no memory that is still in use, and may let it wait where the
///   card has no other.
pub(crate) struct Uploads {
    stream: Arc<CudaStream>,
    ring: Later,
}

impl Uploads {
    /// A stream, and a ring of two times `bytes`, a multiple of 8.
    pub fn new(device: &CudaDevice, bytes: usize) -> Result<Self> {
        let stream = device.cuda_stream().context().new_stream().w()?;
        Ok(Self { stream, ring: Later { bytes, ring: Mutex::new(None) } })
    }

    /// `len` numbers on the device, which `write` puts into pieces: it is given where a piece begins and is called on
    /// several threads. Returns when all but the last pieces are copied. Errors where slices are not tracked by events:
    /// nothing would wait for the copy then.
    pub fn send<T: Plain>(
        &self,
        device: &CudaDevice,
        len: usize,
        write: impl Fn(usize, &mut [T]) + Sync,
    ) -> Result<CudaSlice<T>> {
        if !device.is_event_tracking() {
            candle_core::bail!("uploads beside the work of {device:?}, whose slices no events track");
        }
        // SAFETY: all of it is written below, on the stream that allocates it, before anybody has it.
        let own = unsafe { self.stream.alloc::<T>(len.max(1)) }.w()?;
        // SAFETY: nothing else has the memory any more, and it is as long.
        let mut slice = unsafe { device.cuda_stream().upgrade_device_ptr::<T>(own.leak(), len) };
        self.ring.with(&self.stream, |ring| ring.up(&self.stream, &mut slice.as_view_mut(), write))?;
        Ok(slice)
    }

    /// The stream, for tests that look at what waits for what.
    #[cfg(test)]
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

/// The rings and uploads of a GPU.
struct Kept {
    uploads: Uploads,
    sweeps: Later,
}

/// By the number of the GPU: page-locking takes longer than most copies.
static KEPT: Mutex<Vec<(usize, Arc<Kept>)>> = Mutex::new(Vec::new());

fn kept(device: &CudaDevice) -> Result<Arc<Kept>> {
    let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let number = device.cuda_stream().context().ordinal();
    if let Some((_, kept)) = all.iter().find(|(other, _)| *other == number) {
        return Ok(kept.clone());
    }
    let sweeps = Later { bytes: HALF, ring: Mutex::new(None) };
    let kept = Arc::new(Kept { uploads: Uploads::new(device, HALF)?, sweeps });
    all.push((number, kept.clone()));
    Ok(kept)
}

/// [`Uploads::send`] of those that the process keeps for the device.
pub(crate) fn send<T: Plain>(
    device: &CudaDevice,
    len: usize,
    write: impl Fn(usize, &mut [T]) + Sync,
) -> Result<CudaSlice<T>> {
    kept(device)?.uploads.send(device, len, write)
}

/// Copies numbers to as many of the device, in order with its work.
pub(crate) fn up<T: Plain>(device: &CudaDevice, from: &[T], to: &mut CudaViewMut<'_, T>) -> Result<()> {
    assert_eq!(from.len(), to.len(), "numbers for a GPU and room for them");
    let stream = device.cuda_stream();
    let write = |at: usize, piece: &mut [T]| piece.copy_from_slice(&from[at..][..piece.len()]);
    kept(device)?.sweeps.with(&stream, |ring| ring.up(&stream, to, write))
}

/// Copies numbers of the device to as many of the host, in order with its work, and waits for it.
pub(crate) fn down_to<T: Plain>(device: &CudaDevice, from: &CudaView<'_, T>, to: &mut [T]) -> Result<()> {
    let stream = device.cuda_stream();
    kept(device)?.sweeps.with(&stream, |ring| ring.down(&stream, from, to))
}

/// [`down_to`] memory of its own.
pub(crate) fn down<T: Plain>(device: &CudaDevice, from: &CudaView<'_, T>) -> Result<Vec<T>> {
    let mut to = vec![T::default(); from.len()];
    down_to(device, from, &mut to)?;
    Ok(to)
}
