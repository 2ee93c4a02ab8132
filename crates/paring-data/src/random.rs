//! Python's `random`, because the published codes draw their calibration windows with it: the Mersenne Twister MT19937
//! (Matsumoto and Nishimura, 1998) of `rand_mt`, with the seed and the integers that CPython makes.

use std::collections::BTreeSet;

use rand_mt::Mt;

/// The generator after `random.seed(seed)`.
#[derive(Clone, Debug)]
pub struct Random(Mt);

impl Random {
    /// Seeded with the seed's words of 32 bits, of which 0 has one.
    pub fn new(seed: u64) -> Self {
        let words = if seed >> 32 == 0 { 1 } else { 2 };
        Self(Mt::new_with_key([seed as u32, (seed >> 32) as u32].into_iter().take(words)))
    }

    /// `random.randint(0, last)`: the top bits of a word, drawn again until they are small enough.
    pub fn up_to(&mut self, last: u32) -> u32 {
        loop {
            if let Some(drawn) = drawn(self.0.next_u32(), last) {
                return drawn;
            }
        }
    }

    /// `random.random()`: a number from 0, below 1, of 53 bits.
    pub fn number(&mut self) -> f64 {
        let (high, low) = (self.0.next_u32() >> 5, self.0.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `random.choices(range(n), k=1)[0]`, for `n` that is not 0.
    pub fn choice(&mut self, n: usize) -> usize {
        // The product is exact below 2⁵³, and rounds to `n` for none of them.
        (self.number() * n as f64) as usize
    }

    /// `random.sample(range(n), k)`, of Python 3: the first draws are without replacement from a list that shrinks where `n` is
    /// small, and by repeated tries where it is large. `None` where `k` is more than `n`, or `n` more than 32 bits.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        let last = u32::try_from(n).ok()?;
        if k > n {
            return None;
        }
        // The size of a set of k, against that of a list of n, as Python estimates them.
        let set = 21 + if k > 5 { 4u64.saturating_pow((k as f64 * 3.0).log(4.0).ceil() as u32) } else { 0 };
        let mut picked = Vec::with_capacity(k);
        if n as u64 <= set {
            let mut pool: Vec<usize> = (0..n).collect();
            for _ in 0..k {
                let at = self.up_to(pool.len() as u32 - 1) as usize;
                picked.push(pool.swap_remove(at));
            }
        } else {
            let mut seen = BTreeSet::new();
            while picked.len() < k {
                let index = self.up_to(last - 1) as usize;
                if seen.insert(index) {
                    picked.push(index);
                }
            }
        }
        Some(picked)
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

    /// From CPython: `r = random.Random(1234); r.sample(range(n), k); r.sample(range(n), k)[:4]`.
    #[test]
    fn samples_are_those_of_python() {
        for (n, k, want, next) in [
            (8, 3, vec![7, 0, 6], vec![1, 6, 4]),
            (21, 2, vec![14, 3], vec![0, 2]),
            (22, 3, vec![14, 3, 0], vec![2, 18, 1]),
            (100, 5, vec![99, 56, 14, 0, 11], vec![74, 4, 85, 88]),
            (100, 6, vec![99, 56, 14, 0, 11, 74], vec![4, 85, 88, 10]),
            (277, 7, vec![225, 59, 3, 46, 17, 42, 50], vec![181, 121, 8, 15]),
        ] {
            let mut random = Random::new(1234);
            assert_eq!(random.sample(n, k), Some(want), "{k} of {n}");
            assert_eq!(random.sample(n, k).unwrap()[..next.len()], next, "{k} of {n}");
        }
        let mut random = Random::new(0);
        assert_eq!((random.sample(2, 3), random.sample(0, 0), random.sample(2, 0)), (None, Some(vec![]), Some(vec![])));
    }

    /// From CPython: `r = random.Random(7); [r.random() for _ in range(3)]; r.choices(range(5153), k=5)`.
    #[test]
    fn floats_and_choices_are_those_of_python() {
        let mut random = Random::new(7);
        let want = [0.323_832_764_833_162_37, 0.150_849_173_924_501_92, 0.650_934_473_039_853_7];
        assert_eq!([0; 3].map(|_| random.number()), want);
        assert_eq!([0; 5].map(|_| random.choice(5153)), [373, 2761, 1884, 298, 2614]);
    }
}
