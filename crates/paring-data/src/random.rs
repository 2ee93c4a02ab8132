//! Python's `random`, because the published codes draw their calibration windows with it: the Mersenne Twister
//! MT19937 (Matsumoto and Nishimura, 1998), seeded with the array [seed].

const N: usize = 624;
const M: usize = 397;

/// The generator after `random.seed(seed)`.
#[derive(Clone)]
pub(super) struct Random {
    state: [u32; N],
    next: usize,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut key = vec![seed as u32];
        if seed >> 32 != 0 {
            key.push((seed >> 32) as u32);
        }
        let mut s = [0u32; N];
        s[0] = 19_650_218;
        for i in 1..N {
            s[i] = 1_812_433_253u32.wrapping_mul(s[i - 1] ^ (s[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = s[i] ^ (s[i - 1] ^ (s[i - 1] >> 30)).wrapping_mul(1_664_525);
            s[i] = mixed.wrapping_add(key[j]).wrapping_add(j as u32);
            (i, j) = (i + 1, (j + 1) % key.len());
            if i == N {
                s[0] = s[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let mixed = s[i] ^ (s[i - 1] ^ (s[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            s[i] = mixed.wrapping_sub(i as u32);
            i += 1;
            if i == N {
                s[0] = s[N - 1];
                i = 1;
            }
        }
        s[0] = 0x8000_0000;
        Self { state: s, next: N }
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random.randint(0, last)`: the top bits of a word, drawn again until they are small enough.
    pub(super) fn up_to(&mut self, last: u32) -> u32 {
        loop {
            if let Some(drawn) = meaning(self.word(), last) {
                return drawn;
            }
        }
    }

    /// What each of the next words would mean to `randint(0, last)`, without using them up; `None`: drawn again.
    pub(super) fn upcoming(&self, last: u32) -> impl Iterator<Item = Option<u32>> {
        let mut ahead = self.clone();
        std::iter::repeat_with(move || meaning(ahead.word(), last))
    }
}

/// The number up to `last` that is in the top bits of a word.
fn meaning(word: u32, last: u32) -> Option<u32> {
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
