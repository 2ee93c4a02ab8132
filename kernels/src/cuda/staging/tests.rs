//! The order of copies beside the work of a GPU, and the places that pieces come to.

use std::ffi::c_void;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::{CudaStream, ValidAsZeroBits, result};
use candle_core::{CudaDevice, Device, Tensor};
use half::bf16;

use super::{Plain, Ring, Uploads};
use crate::cuda::tensor;
use crate::device::{Choice, download, open};
use crate::matmul::{Matrix, Precision};
use crate::plain::add;

/// Holds the work back that a stream is given after it.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    gave_up: AtomicBool,
    passed: AtomicBool,
}

impl Gate {
    fn hold(stream: &CudaStream) -> &'static Self {
        extern "C" fn pass(gate: *mut c_void) {
            // SAFETY: the pointer is the one below, to a gate that is never freed.
            let gate = unsafe { &*gate.cast::<Gate>() };
            // Far longer than what is queued before a gate takes: waiting for the gate itself never ends.
            let end = Instant::now() + Duration::from_secs(10);
            while !gate.open.load(Ordering::SeqCst) {
                if Instant::now() > end {
                    gate.gave_up.store(true, Ordering::SeqCst);
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
            gate.passed.store(true, Ordering::SeqCst);
        }
        let gate: &'static Self = Box::leak(Box::default());
        stream.context().bind_to_thread().unwrap();
        // SAFETY: the function reads a gate, which lives as long as the process and is shared by atomics.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), pass, (&raw const *gate).cast_mut().cast()) }
            .unwrap();
        gate
    }

    fn open(&self) {
        assert!(!self.passed.load(Ordering::SeqCst), "something waited for work that was held back");
        self.open.store(true, Ordering::SeqCst);
    }
}

/// Runs `f` with the first GPU, if there is one, in a process of its own: other tests wait for all streams of theirs.
fn alone(test: &str, f: impl FnOnce(&Device, &CudaDevice)) {
    const ALONE: &str = "PARING_TEST_ALONE";
    let Ok(device) = open(Choice::Cuda(0)) else { return };
    if std::env::var_os(ALONE).is_some() {
        return f(&device, device.as_cuda_device().unwrap());
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("cuda::staging::tests::{test}");
    let done = command.args([&name, "--exact", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{errors}");
}

fn numbers(count: usize, from: f32) -> Vec<f32> {
    (0..count).map(|i| from + i as f32).collect()
}

/// Values uploaded as a tensor.
fn sent(uploads: &Uploads, device: &CudaDevice, values: &[f32]) -> Tensor {
    let copy = |at: usize, out: &mut [f32]| out.copy_from_slice(&values[at..][..out.len()]);
    tensor(uploads.send(device, values.len(), copy).unwrap(), device, values.len())
}

#[test]
fn uploads_are_done_while_the_device_is_held_back() {
    alone("uploads_are_done_while_the_device_is_held_back", |device, cuda| {
        let uploads = Uploads::new(cuda, 1 << 12).unwrap();
        let gate = Gate::hold(&cuda.cuda_stream());
        // Ten pieces: the third waits for the first to be copied.
        let values = numbers(10_000, 1.0);
        let x = sent(&uploads, cuda, &values);
        uploads.stream().synchronize().unwrap();
        gate.open();
        assert!(download(&x).unwrap() == values);

        // Weights of blocks, by what uploads them in a run: more than what is page-locked holds at once.
        let gate = Gate::hold(&cuda.cuda_stream());
        let [rows, cols] = [4200, 4096];
        let weights = (0..rows * cols).map(|i| (i / cols % 251) as f32 + (i % cols % 4) as f32).collect();
        let matrix = Matrix::on_device(device, rows, cols, weights, Precision::Bf16).unwrap();
        gate.open();
        let mut column = vec![0.0f32; cols];
        column[4093] = 1.0;
        let y = matrix.matmul(&Tensor::from_vec(column, (1, cols), device).unwrap()).unwrap();
        let want: Vec<f32> = (0..rows).map(|row| (row % 251) as f32 + 1.0).collect();
        assert!(download(&y).unwrap() == want);
    });
}

#[test]
fn what_uses_an_upload_first_waits_for_it() {
    alone("what_uses_an_upload_first_waits_for_it", |device, cuda| {
        let uploads = Uploads::new(cuda, 1 << 14).unwrap();
        let values = numbers(4000, -7.5);
        let gate = Gate::hold(uploads.stream());
        let x = sent(&uploads, cuda, &values);
        // By a kernel of ours, by one of candle's, and by a product: all of them are asked for before the copy is done.
        let sum = add(&x, &x).unwrap();
        let scaled = x.affine(2.0, 0.0).unwrap();
        gate.open();
        let want: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
        assert!(download(&sum).unwrap() == want && download(&scaled).unwrap() == want);

        let gate = Gate::hold(uploads.stream());
        let x = sent(&uploads, cuda, &values).reshape((40, 100)).unwrap();
        let one = Tensor::from_vec(numbers(100, 0.0), (1, 100), device).unwrap();
        let product = one.matmul(&x.t().unwrap()).unwrap();
        gate.open();
        let want = (0..40).map(|row| (0..100).map(|i| i as f32 * values[row * 100 + i]).sum::<f32>());
        for (got, want) in download(&product).unwrap().into_iter().zip(want) {
            assert!((got - want).abs() <= 1e-4 * want.abs(), "{got} for {want}");
        }
    });
}

#[test]
fn memory_of_an_upload_is_freed_after_its_last_use() {
    alone("memory_of_an_upload_is_freed_after_its_last_use", |_, cuda| {
        let uploads = Uploads::new(cuda, 1 << 14).unwrap();
        let values = numbers(4000, 3.0);
        let gate = Gate::hold(&cuda.cuda_stream());
        let x = sent(&uploads, cuda, &values);
        let sum = add(&x, &x).unwrap();
        drop(x);
        // Neither is it used again before that, nor does what comes later wait for it.
        let other = sent(&uploads, cuda, &numbers(4000, -1.0));
        uploads.stream().synchronize().unwrap();
        gate.open();
        assert!(download(&sum).unwrap().iter().zip(&values).all(|(sum, value)| *sum == 2.0 * value));
        assert!(download(&other).unwrap() == numbers(4000, -1.0));
        // Unused tensors are copied before they are freed.
        drop(sent(&uploads, cuda, &values));
        cuda.cuda_stream().synchronize().unwrap();
    });
}

#[test]
fn a_ring_brings_each_piece_to_its_place() {
    fn there_and_back<T: Plain + PartialEq + std::fmt::Debug + ValidAsZeroBits>(
        stream: &Arc<CudaStream>,
        ring: &mut Ring,
        of: impl Fn(usize) -> T + Sync,
    ) {
        for len in [1, 7, 8, 9, 64, 65, 1000, 4096] {
            // The places around are left alone.
            let mut all = stream.alloc_zeros::<T>(len + 2).unwrap();
            let write = |at: usize, piece: &mut [T]| {
                piece.iter_mut().enumerate().for_each(|(i, number)| *number = of(at + i));
            };
            ring.up(stream, &mut all.slice_mut(1..=len), write).unwrap();
            let mut got = vec![of(1); len + 2];
            ring.down(stream, &all.as_view(), &mut got).unwrap();
            let mut want: Vec<T> = (0..len).map(&of).collect();
            want.insert(0, T::default());
            want.push(T::default());
            assert_eq!(got, want, "{len} of {} bytes", size_of::<T>());
        }
        ring.down(stream, &stream.alloc_zeros::<T>(1).unwrap().slice(0..0), &mut []).unwrap();
    }
    let Ok(device) = open(Choice::Cuda(0)) else { return };
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    // Of one number of 8 bytes, of a few, and of all that there are.
    for bytes in [8, 72, 1 << 16] {
        let mut ring = Ring::new(stream.context(), bytes).unwrap();
        there_and_back(&stream, &mut ring, |i| (i % 251) as u8);
        there_and_back(&stream, &mut ring, |i| i as f32 - 0.5);
        there_and_back(&stream, &mut ring, |i| i as f64 + 0.25);
        there_and_back(&stream, &mut ring, |i| bf16::from_f32((i % 200) as f32));
    }
    // Pieces that several threads fill and empty.
    let mut ring = Ring::new(stream.context(), 8 << 20).unwrap();
    let mut all = stream.alloc_zeros::<u32>(5 << 20).unwrap();
    let write = |at: usize, piece: &mut [u32]| {
        piece.iter_mut().enumerate().for_each(|(i, number)| *number = (at + i) as u32);
    };
    ring.up(&stream, &mut all.as_view_mut(), write).unwrap();
    let mut got = vec![0; 5 << 20];
    ring.down(&stream, &all.as_view(), &mut got).unwrap();
    assert!(got.iter().enumerate().all(|(i, &number)| number == i as u32));
}
