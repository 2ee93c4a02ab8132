//! Memory that a run asks for, by weight of its linears: how often a weight is copied between the mapped shard and the
//! written one. `cargo bench -p paring --bench copies`.
//!
//! A forward pass of a few tokens, so that nearly all buffers of 16 KiB and more hold weights, what they are made into, or
//! matrices as wide as their inputs. The peak is that of all buffers alive at once, whatever the system maps.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::Device;
use paring::Precision;
use paring::compress::{Job, run};
use paring::pipeline::device::DeviceBudget;
use paring::plan::method::{GPTQ, MAGNITUDE, RTN, SPARSEGPT, WANDA};
use paring::plan::{MethodInfo, Pattern, Plan, Recipe, Rounding};
use paring::report::progress::Observer;
use paring::report::{Clock, LayerReport};
use paring_data::Windows;
use paring_format::Checkpoint;
use paring_format::writer::InputFiles;

/// Counts buffers of this many bytes and more.
const LARGE: usize = 16 << 10;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn taken(bytes: usize) {
    if bytes >= LARGE {
        COUNT.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes, Relaxed);
        PEAK.fetch_max(ALIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    }
}

fn given_back(bytes: usize) {
    if bytes >= LARGE {
        ALIVE.fetch_sub(bytes, Relaxed);
    }
}

// SAFETY: all calls go to the system's allocator as they come.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        given_back(layout.size());
        taken(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Silent;

impl Observer for Silent {
    fn start(&mut self, _: usize, _: usize, _: usize) {}
    fn linear(&mut self, _: &LayerReport) {}
    fn block(&mut self, _: usize) {}
    fn note(&mut self, _: &str) {}
}

fn recipe(method: &'static MethodInfo, pattern: Option<Pattern>, rounding: Option<Rounding>) -> Recipe {
    Recipe { pattern, rounding, ..Recipe::new(method) }
}

fn job(model: &Path, out: &Path, recipe: Recipe) -> Result<Job, Box<dyn std::error::Error>> {
    let checkpoint = Arc::new(Checkpoint::open(model)?);
    let decoder = paring_model::families::open(Arc::clone(&checkpoint), Precision::Bf16)?;
    let (seqlen, plan) = (16, plan(recipe));
    let ids = (0..2 * seqlen as u32).map(|i| i * 7 % decoder.vocab_size() as u32).collect();
    Ok(Job {
        windows: plan.needs_data().then_some(Windows { ids, seqlen, seed: None }),
        plan,
        checkpoint,
        decoder,
        budget: DeviceBudget::new(&Device::Cpu, None)?,
        masks: None,
        out: out.to_path_buf(),
        inputs: InputFiles::default(),
        resume: false,
        allow_mixed_arithmetic: false,
        resumable: Some(false),
        companions: Vec::new(),
        command: Vec::new(),
        notes: Vec::new(),
    })
}

fn plan(recipe: Recipe) -> Plan {
    Plan { nsamples: 2, seqlen: 16, precision: Precision::Bf16, ..Plan::new("opt", recipe) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/trained/opt");
    let four = Some(Rounding::int(4, Some(32)));
    let half = Some(Pattern::NofM { keep: 2, of: 4 });
    let recipes = [
        recipe(&MAGNITUDE, half, None),
        recipe(&RTN, None, four),
        recipe(&WANDA, half, None),
        recipe(&SPARSEGPT, half, None),
        recipe(&GPTQ, None, four),
    ];
    // What libraries take once.
    let out = tempfile::tempdir()?;
    run(job(&model, &out.path().join("out"), recipe(&GPTQ, None, four))?, &mut Silent, &mut Clock::default())?;
    println!("method     buffers a linear  bytes a weight  peak, bytes a weight");
    for recipe in recipes {
        let (method, out) = (recipe.method.name, tempfile::tempdir()?);
        let job = job(&model, &out.path().join("out"), recipe)?;
        [&COUNT, &BYTES, &PEAK].iter().for_each(|counter| counter.store(0, Relaxed));
        let before = ALIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let report = run(job, &mut Silent, &mut Clock::default())?;
        let weights = report.layers.iter().map(|layer| layer.rows * layer.cols).sum::<usize>() as f64;
        println!(
            "{method:<10} {:>16.1}  {:>14.2}  {:>20.2}",
            COUNT.load(Relaxed) as f64 / report.layers.len() as f64,
            BYTES.load(Relaxed) as f64 / weights,
            (PEAK.load(Relaxed) - before) as f64 / weights,
        );
    }
    Ok(())
}
