//! The order of windows: a function of seed and step, so that a resumed run needs no state of a generator.

use crate::python::Random;

/// The windows of an epoch in their order: `range(count)` after Python's `random.seed(seed + epoch·2³²)` and `random.shuffle`.
///
/// Sums wrap at 2⁶⁴. Takes time linear in `count`.
pub fn order(seed: u64, epoch: u64, count: usize) -> Vec<u32> {
    let mut random = Random::new(seed.wrapping_add(epoch << 32));
    let mut windows: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    for last in (1..windows.len()).rev() {
        let at = random.up_to(u32::try_from(last).unwrap_or(u32::MAX));
        windows.swap(last, at as usize);
    }
    windows
}

/// The windows of each step of a run: those of all epochs one after the other, the same number in each step but the last.
///
/// A step that begins at the end of an epoch takes its other windows from the next.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    count: usize,
    each: usize,
    /// The epoch whose order is known.
    known: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// Of `count` windows, `each` a step. Both count as 1 where they are 0.
    pub fn new(seed: u64, count: usize, each: usize) -> Self {
        Self { seed, count: count.max(1), each: each.max(1), known: None }
    }

    /// Steps of so many epochs, which may be a fraction: as many as show all of their windows.
    pub fn steps(&self, epochs: f64) -> usize {
        let windows = (epochs.max(0.0) * self.count as f64).ceil();
        (windows as usize).div_ceil(self.each)
    }

    /// The windows of a step, counted from 0, of a run of `epochs` whole epochs; none after its end.
    pub fn step(&mut self, step: usize, epochs: usize) -> Vec<u32> {
        let end = self.count.saturating_mul(epochs);
        let first = step.saturating_mul(self.each).min(end);
        (first..first.saturating_add(self.each).min(end)).map(|place| self.window(place)).collect()
    }

    /// The window at a place of all epochs.
    fn window(&mut self, place: usize) -> u32 {
        let epoch = (place / self.count) as u64;
        let known = match self.known.take() {
            Some((of, windows)) if of == epoch => (of, windows),
            _ => (epoch, order(self.seed, epoch, self.count)),
        };
        let window = known.1.get(place % self.count).copied().unwrap_or_default();
        self.known = Some(known);
        window
    }
}
