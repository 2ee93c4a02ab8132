//! The peak rate of the processor, measured.

use std::mem::MaybeUninit;
use std::time::Instant;

use super::{Elements, Isa, KC, Left, Lines, NR, Target, as_uninit, multiply};

/// Times that the tile is tried, and seconds of each: others may use the processor too.
const TRIES: usize = 5;
const SECONDS: f64 = 0.01;

/// Operations (a product and its sum are two) per second of this version's tile on all threads of the pool together, with its
/// operands in the first-level caches: an upper bound for every product. Takes a twentieth of a second.
pub(super) fn peak(isa: Isa, elements: Elements) -> f64 {
    let rows = isa.rows(elements);
    let one = |_: rayon::BroadcastContext<'_>| {
        let filled = |len, with| {
            let mut lines = Lines::default();
            // SAFETY: all words are written.
            unsafe { lines.fill(len, |words| words.fill(MaybeUninit::new(with))) };
            lines
        };
        let left = filled(rows * KC * isa.left_words(elements), 0x3f80_3f80);
        let right = filled(KC * NR, 0x3e80_3e80);
        let left = Left::rows(isa, elements, &left, KC);
        let target = Target { rows, cols: NR, stride: NR, fresh: true };
        let mut sums = vec![0f32; rows * NR];
        let (start, mut runs) = (Instant::now(), 0u32);
        while start.elapsed().as_secs_f64() < SECONDS {
            // Asking for the time takes longer than a tile.
            for _ in 0..100 {
                multiply((isa, elements), &left, &right, KC, &target, as_uninit(&mut sums));
            }
            runs += 100;
        }
        std::hint::black_box(&sums);
        let each = if elements == Elements::Pairs { 4 } else { 2 };
        f64::from(runs) * (rows * NR * KC * each) as f64 / start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(|_| rayon::broadcast(one).into_iter().sum()).fold(0.0, f64::max)
}
