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
fn as_left<'a>(isa: Isa, elements: Elements, by_rows: bool, panel: &'a [u32], room: &'a mut Vec<u32>) -> Left<'a> {
    let steps = panel.len() / NR;
    match (by_rows, elements) {
        (false, Elements::Pairs) => isa.left_of_panel(panel, room),
        (false, Elements::Singles) => Left { words: panel, row: 1, step: NR },
        (true, _) => {
            let words = |row| (0..steps).flat_map(move |k| meant(panel[k * NR + row], elements));
            for row in 0..NR {
                match elements {
                    Elements::Pairs => room.extend(isa.rounded(&words(row).collect::<Vec<f32>>(), 2 * steps)),
                    Elements::Singles => room.extend((0..steps).map(|k| panel[k * NR + row])),
                }
            }
            Left::rows(isa, elements, room, steps)
        }
    }
}

#[test]
fn every_version_multiplies_every_shape_of_a_tile() {
    const STRIDE: usize = NR + 3;
    let shapes =
        |steps| (1..=MR).flat_map(move |rows| [1, 3, 4, 15, 16, 17, 40, 63, NR].map(|cols| (steps, rows, cols)));
    for elements in [Elements::Pairs, Elements::Singles] {
        for steps in [1, 2, 3, 32, KC - 1, KC, KC + 1, 2 * KC + 5] {
            let [a, b] = [1, 2].map(|seed| operand(steps * NR, elements, seed));
            let product = |row: usize, col: usize| -> f32 {
                let at = |k: usize| [meant(a[k * NR + row], elements), meant(b[k * NR + col], elements)];
                (0..steps).map(at).map(|[a, b]| a[0] * b[0] + a[1] * b[1]).sum()
            };
            let want: Vec<f32> = (0..MR * NR).map(|i| product(i / NR, i % NR)).collect();
            for &isa in Isa::available() {
                for by_rows in [true, false] {
                    let mut room = Vec::new();
                    let left = as_left(isa, elements, by_rows, &a, &mut room);
                    for ((steps, rows, cols), fresh) in shapes(steps).flat_map(|shape| [(shape, true), (shape, false)])
                    {
                        let before: Vec<f32> = (0..MR * STRIDE).map(|i| i as f32).collect();
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

#[test]
fn every_version_rounds_rows_to_nearest_even() {
    for cols in [1, 2, 3, 31, 32, 33, 70] {
        let mut x = crate::test_values(3 * cols, 1.0, 3);
        // Halfway between two bfloat16, to the even one below and above; a sum that carries into the exponent; the largest.
        let special = [0x3f80_8000, 0x3f81_8000, 0x3fff_ffff, 0xff7f_ffff].map(f32::from_bits);
        x.iter_mut().zip(special).for_each(|(x, special)| *x = special);
        for &isa in Isa::available() {
            let words = isa.rounded(&x, cols);
            let each = cols.div_ceil(2) * isa.left_words(Elements::Pairs);
            assert_eq!(words.len(), 3 * each, "{isa:?}");
            for (words, x) in words.chunks_exact(each).zip(x.chunks_exact(cols)) {
                let numbers: Vec<f32> = match isa.left_words(Elements::Pairs) {
                    1 => words.iter().flat_map(|&word| meant(word, Elements::Pairs)).collect(),
                    _ => words.iter().map(|&word| f32::from_bits(word)).collect(),
                };
                let mut want: Vec<f32> = x.iter().map(|&x| simd::round_bf16(x)).collect();
                want.resize(2 * cols.div_ceil(2), 0.0);
                assert_eq!(numbers, want, "{isa:?}, {cols} columns");
            }
        }
    }
}
