//! Small floats as numbers: f32 rounded to those that a float of 8, 6 or 4 bits has (OCP FP8 and MX).

/// The largest `e4m3` number.
pub const E4M3_MAX: f32 = 448.0;
/// The largest `e2m3` number.
pub const E2M3_MAX: f32 = 7.5;
/// The largest `e2m1` number.
pub const E2M1_MAX: f32 = 6.0;

/// `x` rounded to the nearest number with `MANTISSA` bits after the leading one and exponents from `LOWEST` on, half to
/// even; below them the spacing stays. For |x| < 2^100, without branches. The sign of zero is kept.
#[inline(always)]
fn nearest<const MANTISSA: i32, const LOWEST: i32>(x: f32) -> f32 {
    let exponent = (x.to_bits() >> 23 & 0xff) as i32;
    let lowest = 127 + LOWEST;
    let exponent = if exponent > lowest { exponent } else { lowest };
    // 1.5 · 2^23 times the spacing: adding and subtracting it rounds to a multiple of the spacing, half to even.
    let shift = f32::from_bits(((exponent - MANTISSA + 23) as u32) << 23 | 0x40_0000);
    ((x.abs() + shift) - shift).copysign(x)
}

/// `x` as `e4m3`: four bits of exponent, three of mantissa. Beyond ±[`E4M3_MAX`] it is that; NaN stays NaN.
#[inline(always)]
pub fn e4m3(x: f32) -> f32 {
    nearest::<3, -6>(x.clamp(-E4M3_MAX, E4M3_MAX))
}

/// The byte of a number that [`e4m3`] gives.
#[inline(always)]
pub(crate) fn e4m3_byte(number: f32) -> u8 {
    let magnitude = number.to_bits() & 0x7fff_ffff;
    // From 2^-6 on exponent and mantissa are those of the f32, but for the bias; below, numbers are multiples of 2^-9.
    let code = if magnitude < 121 << 23 { (number.abs() * 512.0) as u32 } else { (magnitude >> 20) - (120 << 3) };
    code as u8 | ((number.to_bits() >> 24) as u8 & 0x80)
}

/// The number of a byte that [`e4m3_byte`] gives.
#[inline(always)]
pub(crate) fn e4m3_number(byte: u8) -> f32 {
    let code = u32::from(byte & 0x7f);
    let magnitude = if code < 8 { code as f32 / 512.0 } else { f32::from_bits((code + (120 << 3)) << 20) };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// `x` as `e2m3`: multiples of 0.125 up to 2, of 0.25 up to 4, of 0.5 up to 7.5, and their negatives. Beyond ±[`E2M3_MAX`] it is
/// that; NaN stays NaN.
#[inline(always)]
pub fn e2m3(x: f32) -> f32 {
    nearest::<3, 0>(x.clamp(-E2M3_MAX, E2M3_MAX))
}

/// The six bits of a number that [`e2m3`] gives.
#[inline(always)]
pub(crate) fn e2m3_bits(number: f32) -> u8 {
    let magnitude = number.to_bits() & 0x7fff_ffff;
    // From 1 on exponent and mantissa are those of the f32, but for the bias; below, numbers are multiples of 2^-3.
    let code = if magnitude < 127 << 23 { (number.abs() * 8.0) as u32 } else { (magnitude >> 20) - (126 << 3) };
    code as u8 | ((number.to_bits() >> 26) as u8 & 0x20)
}

/// The number of a code of `e2m3`, whose sign is bit 5.
pub(crate) const fn e2m3_number(code: u8) -> f32 {
    let magnitude = code & 31;
    let number =
        if magnitude < 8 { magnitude as f32 / 8.0 } else { f32::from_bits((magnitude as u32 + (126 << 3)) << 20) };
    if code & 32 == 0 { number } else { -number }
}

/// The number of a code of `e2m1`, whose sign is bit 3.
pub(crate) const fn e2m1_number(code: u8) -> f32 {
    let number = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][(code & 7) as usize];
    if code & 8 == 0 { number } else { -number }
}

/// `x` as `e2m1`: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. Beyond ±[`E2M1_MAX`] it is that; NaN stays NaN.
#[inline(always)]
pub fn e2m1(x: f32) -> f32 {
    nearest::<1, 0>(x.clamp(-E2M1_MAX, E2M1_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest of all numbers, of two the one with the even code: the definition.
    fn search(numbers: &[f32], x: f32) -> f32 {
        let x = x.abs().min(numbers[numbers.len() - 1]);
        let above = numbers.iter().position(|&v| v >= x).unwrap_or(0);
        let below = if numbers[above] == x { above } else { above - 1 };
        let (low, high) = (x - numbers[below], numbers[above] - x);
        numbers[if low < high || (low == high && below % 2 == 0) { below } else { above }]
    }

    #[test]
    fn the_nearest_number_is_found() {
        let eight: Vec<f32> = (0..127u32)
            .map(|code| match (code >> 3, (code & 7) as f32) {
                (0, mantissa) => mantissa / 512.0,
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(exponent as i32 - 7),
            })
            .collect();
        let four = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let six: Vec<f32> = (0..32u32)
            .map(|code| match (code >> 3, (code & 7) as f32) {
                (0, mantissa) => mantissa / 8.0,
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(exponent as i32 - 1),
            })
            .collect();
        assert_eq!((eight[126], six[31], four[7]), (E4M3_MAX, E2M3_MAX, E2M1_MAX));
        // All halves between neighbours, their neighbours in f32, and values of every size.
        let halves =
            eight.windows(2).chain(six.windows(2)).chain(four.windows(2)).map(|pair| (pair[0] + pair[1]) / 2.0);
        let mut values: Vec<f32> =
            halves.flat_map(|half| [half.next_down(), half, half.next_up()]).chain(eight.clone()).collect();
        values.extend(crate::test_values(10_000, 1.0, 1).iter().map(|&v| v.abs() * 2f32.powf(20.0 * v - 5.0)));
        for &x in &values {
            for signed in [x, -x] {
                let (of_eight, of_four) = (e4m3(signed), e2m1(signed));
                assert_eq!(of_eight, search(&eight, x).copysign(signed), "e4m3 {signed}");
                assert_eq!(e2m3(signed), search(&six, x).copysign(signed), "e2m3 {signed}");
                assert_eq!(of_four, search(&four, x).copysign(signed), "e2m1 {signed}");
            }
        }
        for (code, &number) in eight.iter().enumerate() {
            for (byte, signed) in [(code as u8, number), (code as u8 | 0x80, -number)] {
                assert_eq!((e4m3_byte(signed), e4m3_number(byte).to_bits()), (byte, signed.to_bits()));
            }
        }
        for (code, &number) in six.iter().enumerate() {
            assert_eq!([e2m3_bits(number), e2m3_bits(-number)], [code as u8, code as u8 | 0x20]);
            let both = [code as u8, code as u8 | 0x20].map(|code| e2m3_number(code).to_bits());
            assert_eq!(both, [number.to_bits(), (-number).to_bits()]);
        }
        for (code, &number) in four.iter().enumerate() {
            assert_eq!([e2m1_number(code as u8), e2m1_number(code as u8 | 8)], [number, -number]);
        }
        assert!([e4m3, e2m3, e2m1].iter().all(|round| round(f32::NAN).is_nan()));
        assert_eq!((e4m3(f32::INFINITY), e2m1(f32::NEG_INFINITY)), (E4M3_MAX, -E2M1_MAX));
        assert_eq!([e2m3(f32::INFINITY), e2m3(f32::NEG_INFINITY)], [E2M3_MAX, -E2M3_MAX]);
        assert!(e4m3(-1e-9).is_sign_negative());
    }
}
