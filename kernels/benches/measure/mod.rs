//! Numbers to compute with, and the time that it takes: shared by the benches.

use std::time::Instant;

/// Pseudo-random numbers from -0.5 to 0.5.
pub fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// The least of as many runs as half a second has, and of five, after a warm-up: others may use the processor too.
pub fn seconds(f: &mut dyn FnMut()) -> f64 {
    f();
    let (begun, mut runs, mut least) = (Instant::now(), 0, f64::INFINITY);
    while runs < 5 || begun.elapsed().as_secs_f64() < 0.5 {
        runs += 1;
        let start = Instant::now();
        f();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}

/// The parts of names that were asked for.
pub fn wanted() -> Vec<String> {
    std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect()
}
