//! Tiles of every version against sums of whole numbers, which are exact in any order.

use super::*;

/// Pseudo-random whole numbers from -8 to 8: their sums of products are exact in any order.
fn integers(count: usize, seed: u64) -> Vec<f32> {
    crate::test_values(count, 4.0, seed).into_iter().map(|x| x.round().clamp(-8.0, 8.0)).collect()
}

/// The number that a word stands for.
fn meant(word: u32, elements: Elements) -> [f32; 2] {
    match elements {
        Elements::Pairs => [word << 16, word & 0xffff_0000].map(f32::from_bits),
        Elements::Singles => [f32::from_bits(word), 0.0],
    }
}

/// Words of whole numbers.
fn operand(words: usize, elements: Elements, seed: u64) -> Vec<u32> {
    let numbers = integers(2 * words, seed);
    let each = |x: &[f32]| match elements {
        Elements::Pairs => (x[0].to_bits() >> 16) | x[1].to_bits(),
        Elements::Singles => x[0].to_bits(),
    };
    numbers.chunks_exact(2).map(each).collect()
}

/// The rows of a left operand that has the words of a panel `[steps, NR]`: row after row, or as the panel lies.
fn as_left<'a>(isa: Isa, elements: Elements, by_rows: bool, panel: &'a [u32], room: &'a mut Lines) -> Left<'a> {
    let steps = panel.len() / NR;
    let at = |row: usize, k: usize| panel[k * NR + row];
    match (by_rows, elements) {
        (false, Elements::Pairs) => return isa.left_of_panel(panel, room),
        (false, Elements::Singles) => return Left { words: panel, row: 1, step: NR },
        (true, Elements::Pairs) => {
            let numbers = (0..NR).flat_map(|row| (0..steps).flat_map(move |k| meant(at(row, k), elements)));
            *room = isa.rounded(&numbers.collect::<Vec<f32>>(), 2 * steps);
        }
        (true, Elements::Singles) => {
            let words = |i: usize| at(i / steps, i % steps);
            let write = |to: &mut [MaybeUninit<u32>]| {
                to.iter_mut().enumerate().for_each(|(i, word)| _ = word.write(words(i)));
            };
            // SAFETY: all words are written.
            unsafe { room.fill(NR * steps, write) };
        }
    }
    Left::rows(isa, elements, room, steps)
}

#[test]
fn every_version_multiplies_every_shape_of_a_tile() {
    const STRIDE: usize = NR + 3;
    let shapes = || {
        let rows = (1..=MR).chain([15, 16, 17, 32, 33, NR]);
        rows.flat_map(|rows| [1, 3, 4, 15, 16, 17, 33, 40, 63, NR].map(|cols| (rows, cols)))
    };
    for elements in [Elements::Pairs, Elements::Singles] {
        for steps in [1, 2, 3, 16, 32, KC - 1, KC, KC + 1, 2 * KC + 5] {
            let [a, b] = [1, 2].map(|seed| operand(steps * NR, elements, seed));
            let product = |row: usize, col: usize| -> f32 {
                let at = |k: usize| [meant(a[k * NR + row], elements), meant(b[k * NR + col], elements)];
                (0..steps).map(at).map(|[a, b]| a[0] * b[0] + a[1] * b[1]).sum()
            };
            let want: Vec<f32> = (0..NR * NR).map(|i| product(i / NR, i % NR)).collect();
            for &isa in Isa::available() {
                for by_rows in [true, false] {
                    let mut room = Lines::default();
                    let left = as_left(isa, elements, by_rows, &a, &mut room);
                    for ((rows, cols), fresh) in shapes().flat_map(|shape| [(shape, true), (shape, false)]) {
                        let before: Vec<f32> = (0..NR * STRIDE).map(|i| (i % 1000) as f32).collect();
                        let mut y = before.clone();
                        let target = Target { rows, cols, stride: STRIDE, fresh };
                        multiply((isa, elements), &left, &b, steps, &target, as_uninit(&mut y));
                        for (i, (&y, &before)) in y.iter().zip(&before).enumerate() {
                            let (row, col) = (i / STRIDE, i % STRIDE);
                            let want = match row < rows && col < cols {
                                true => want[row * NR + col] + if fresh { 0.0 } else { before },
                                false => before,
                            };
                            assert_eq!(
                                y, want,
                                "{isa:?}, {elements:?}, by rows {by_rows}, {target:?}, {steps} steps: row {row}, column {col}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A unit of the processor and its plain loops round alike, so that the loops stand for it where it is not.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn blocks_have_the_bits_of_plain_loops() {
    if !Isa::available().contains(&Isa::Amx) {
        return;
    }
    for (rows, cols, steps) in [(1, 1, 1), (16, 32, 16), (33, 70, 40), (64, 64, 129), (100, 130, 700)] {
        let x = crate::test_values(rows * 2 * steps, 3.0, 1);
        let w = crate::test_values(cols * 2 * steps, 3.0, 2);
        let run = |isa: Isa| {
            let panels = crate::matmul::panels::Panels::pack(&w, cols, 2 * steps);
            isa.used_in(|| panels.apply(&x, None))
        };
        assert!(run(Isa::Amx) == run(Isa::Blocks), "{rows} x {cols} over {steps}");
    }
}

#[test]
fn every_version_rounds_rows_to_nearest_even() {
    for cols in [1, 2, 3, 31, 32, 33, 70] {
        let mut x = crate::test_values(3 * cols, 1.0, 3);
        // Halfway between two bfloat16, to the even one below and above; a sum that carries into the exponent; the largest.
        let special = [0x3f80_8000, 0x3f81_8000, 0x3fff_ffff, 0xff7f_ffff].map(f32::from_bits);
        x.iter_mut().zip(special).for_each(|(x, special)| *x = special);
        for &isa in Isa::available() {
            let words = isa.rounded(&x, cols);
            for (row, x) in x.chunks_exact(cols).enumerate() {
                let numbers = numbers(isa, &words, row, cols);
                let mut want: Vec<f32> = x.iter().map(|&x| simd::round_bf16(x)).collect();
                want.resize(2 * cols.div_ceil(2), 0.0);
                assert_eq!(numbers, want, "{isa:?}, {cols} columns");
            }
        }
    }
}

/// The numbers that the words of one row stand for.
fn numbers(isa: Isa, words: &[u32], row: usize, cols: usize) -> Vec<f32> {
    let pairs = cols.div_ceil(2);
    if isa.has_blocks() {
        const SIDE: usize = blocks::SIDE;
        let group = &words[row / SIDE * SIDE * blocks::pad(pairs)..];
        let word = |k: usize| group[k / SIDE * blocks::TILE + row % SIDE * SIDE + k % SIDE];
        return (0..pairs).flat_map(|k| meant(word(k), Elements::Pairs)).collect();
    }
    let each = pairs * isa.left_words(Elements::Pairs);
    let words = &words[row * each..][..each];
    match isa.left_words(Elements::Pairs) {
        1 => words.iter().flat_map(|&word| meant(word, Elements::Pairs)).collect(),
        _ => words.iter().map(|&word| f32::from_bits(word)).collect(),
    }
}
