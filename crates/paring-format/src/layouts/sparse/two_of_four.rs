//! The mask of `sparse-24-bitmask`: two of every four weights, those of largest magnitude.
//!
//! Which of several equal ones are taken changes no weight that is read back, but it changes bytes. It is what torch's
//! `topk` does on a CPU: the C++ library's `nth_element` of four, in falling order, and a sort of what that left open.

use std::sync::LazyLock;

use super::bitmask::raw;

/// By the comparisons of [`index`]: the bits of the two that are taken.
static TAKEN: LazyLock<[u8; 4096]> = LazyLock::new(|| {
    let mut taken = [0; 4096];
    // Four numbers of 0 to 3 have every order that four numbers can have.
    for order in 0..256u32 {
        let keys = std::array::from_fn(|i| order >> (2 * i) & 3);
        taken[index(keys)] = select(keys);
    }
    taken
});

/// The two of four keys that `topk` returns, as bits.
fn select(keys: [u32; 4]) -> u8 {
    let mut order = [0, 1, 2, 3];
    let above = |a: usize, b: usize| keys[a] > keys[b];
    // The median of the last three is the pivot and goes to the front.
    let [_, a, b, c] = order;
    let pivot = match (above(a, b), above(b, c), above(a, c)) {
        (true, true, _) | (false, false, false) => b,
        (true, false, true) | (false, true, false) => c,
        (true, false, false) | (false, _, true) => a,
    };
    order.swap(0, pivot);
    // What is above the pivot to the left, what is below it to the right. The median stops both walks.
    let (mut left, mut right) = (1, 4);
    loop {
        while above(order[left], order[0]) {
            left += 1;
        }
        right -= 1;
        while above(order[0], order[right]) {
            right -= 1;
        }
        if left >= right {
            break;
        }
        order.swap(left, right);
        left += 1;
    }
    // The side that holds the second largest is sorted; equal ones keep their order.
    let side = if left <= 1 { &mut order[left..] } else { &mut order[..left] };
    side.sort_by_key(|&i| std::cmp::Reverse(keys[i]));
    1 << order[0] | 1 << order[1]
}

/// All comparisons of four keys.
fn index(keys: [u32; 4]) -> usize {
    const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    PAIRS.iter().enumerate().fold(0, |index, (k, &(a, b))| {
        index | usize::from(keys[a] > keys[b]) << (2 * k) | usize::from(keys[b] > keys[a]) << (2 * k + 1)
    })
}

/// The key that elements are compared by. Bytes are compared as signed integers without their sign, those of floats too. To
/// torch −128, whose magnitude is no such integer, is the smallest of all; with `whole` it is the largest, and not lost.
fn key<const N: usize>(element: [u8; N], whole: bool) -> u32 {
    match N {
        1 if element[0] == 0x80 && !whole => 0,
        1 => 1 + u32::from((element[0] as i8).unsigned_abs()),
        _ => raw(element) & (u32::MAX >> (33 - 8 * N)),
    }
}

/// The mask of four elements.
fn four<const N: usize>(elements: &[[u8; N]; 4], whole: bool, taken: &[u8; 4096]) -> u8 {
    taken[index(elements.map(|element| key(element, whole)))]
}

/// Sets the bits of a row whose length is a multiple of four; on `whole` see [`key`].
pub(super) fn mask<const N: usize>(row: &[[u8; N]], whole: bool, bits: &mut [u8]) {
    let taken = &*TAKEN;
    for (eight, byte) in row.as_chunks::<4>().0.chunks(2).zip(bits) {
        *byte = eight.iter().enumerate().fold(0, |byte, (i, elements)| byte | four(elements, whole, taken) << (4 * i));
    }
}

/// The mask of a matrix whose fours cross rows, each of which begins at a byte.
pub(super) fn ragged<const N: usize>(elements: &[[u8; N]], whole: bool, rows: usize, cols: usize) -> Vec<u8> {
    let taken = &*TAKEN;
    let step = cols.div_ceil(8);
    let mut mask = vec![0; rows * step];
    for (i, elements) in elements.as_chunks::<4>().0.iter().enumerate() {
        let bits = four(elements, whole, taken);
        for at in (0..4).filter(|k| bits >> k & 1 == 1).map(|k| 4 * i + k) {
            mask[at / cols * step + at % cols / 8] |= 1 << (at % cols % 8);
        }
    }
    mask
}

/// The first four of a row's mask that has not two bits set; the row's length is a multiple of four.
pub(super) fn uneven(bits: &[u8], cols: usize) -> Option<usize> {
    // Bits of every half byte, as the half bytes of a sum.
    let counts = |word: u64| {
        let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
        (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333)
    };
    let two = |four: usize| (bits[four / 2] >> (4 * (four % 2)) & 15).count_ones() == 2;
    let (words, _) = bits[..cols / 8].as_chunks::<8>();
    let even = words.iter().take_while(|&&word| counts(u64::from_le_bytes(word)) == 0x2222_2222_2222_2222).count();
    (16 * even..cols / 4).find(|&four| !two(four))
}
