//! Seconds of a forward and of a backward pass of one block of a model: `cargo bench -p paring-model --bench backward -- MODEL`, by
//! default for 16 windows of 512 tokens, window by window, or four together with `FOLDER 4`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;
use paring_format::Checkpoint;
use paring_model::{Arithmetic, Decoder, Precision};

const WINDOWS: usize = 16;
const TOKENS: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let Some(folder) = words.next() else {
        println!("name the folder of a model");
        return Ok(());
    };
    let together: usize = words.next().map_or(Ok(1), |word| word.parse())?;
    let checkpoint = Arc::new(Checkpoint::open(Path::new(&folder))?);
    for precision in [Precision::F32, Precision::Bf16] {
        let model = paring_model::open(Arc::clone(&checkpoint), Arithmetic::weights_only(precision))?;
        let windows = inputs(model.as_ref(), together)?;
        let block = model.block(0)?;
        let mut seconds = [f64::INFINITY; 3];
        for _ in 0..3 {
            let mut times = [0.0; 3];
            let mut gradients = block.gradients();
            for h in &windows {
                let start = Instant::now();
                block.forward(h, &mut ())?;
                times[0] += start.elapsed().as_secs_f64();
                let start = Instant::now();
                let (y, tape) = block.record(h)?;
                times[1] += start.elapsed().as_secs_f64();
                let start = Instant::now();
                block.backward(tape, &y, &mut gradients)?;
                times[2] += start.elapsed().as_secs_f64();
            }
            seconds.iter_mut().zip(times).for_each(|(best, time)| *best = best.min(time));
        }
        let [forward, record, backward] = seconds;
        println!("{precision:?}: forward {forward:.3} s, recorded {record:.3} s, backward {backward:.3} s");
    }
    Ok(())
}

/// Embeddings of some tokens, in batches of so many windows.
fn inputs(model: &dyn Decoder, together: usize) -> Result<Vec<Tensor>, Box<dyn std::error::Error>> {
    let vocabulary = model.vocab_size() as u32;
    let ids: Vec<u32> = (0..(WINDOWS * TOKENS) as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary).collect();
    let batches = ids.chunks(together * TOKENS).map(|ids| model.embed(ids, ids.len() / TOKENS));
    Ok(batches.collect::<paring_model::Result<_>>()?)
}
