//! Python's `random`, because the published codes draw their calibration windows with it: the Mersenne Twister MT19937
//! (Matsumoto and Nishimura, 1998) of `rand_mt`, with the seed and the integers that CPython makes.

use rand_mt::Mt;

/// The generator after `random.seed(seed)`.
#[derive(Clone)]
pub(super) struct Random(Mt);

impl Random {
    /// Seeded with the seed's words of 32 bits, of which 0 has one.
    pub(super) fn new(seed: u64) -> Self {
        let words = if seed >> 32 == 0 { 1 } else { 2 };
        Self(Mt::new_with_key([seed as u32, (seed >> 32) as u32].into_iter().take(words)))
    }

    /// `random.randint(0, last)`: the top bits of a word, drawn again until they are small enough.
    pub(super) fn up_to(&mut self, last: u32) -> u32 {
        loop {
            if let Some(drawn) = drawn(self.0.next_u32(), last) {
                return drawn;
            }
        }
    }

    /// The result of `randint(0, last)` for each of the next words, without using them up; `None`: drawn again.
    pub(super) fn upcoming(&self, last: u32) -> impl Iterator<Item = Option<u32>> {
        let mut ahead = self.0.clone();
        std::iter::repeat_with(move || drawn(ahead.next_u32(), last))
    }
}

/// The number up to `last` that is in the top bits of a word.
fn drawn(word: u32, last: u32) -> Option<u32> {
    // `last + 1`, which may need 33 bits, is the number of values that Python counts the bits of.
    let bits = 64 - (u64::from(last) + 1).leading_zeros();
    Some(if bits > 32 { word } else { word >> (32 - bits) }).filter(|&drawn| drawn <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From CPython: `random.seed(s); [random.randint(0, m) for _ in range(5)]`.
    #[test]
    fn draws_what_python_draws() {
        for (seed, last, want) in [
            (0, 999, [864, 394, 776, 911, 430]),
            (42, 65_535, [14_592, 3278, 36_048, 32_098, 29_256]),
            (1 << 33, 5, [0, 3, 5, 2, 0]),
        ] {
            let mut random = Random::new(seed);
            assert_eq!([0; 5].map(|_| random.up_to(last)), want, "seed {seed}");
        }
    }
}
