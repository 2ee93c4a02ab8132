//! Floats of 8, 6 and 4 bits and powers of two: numbers ↔ codes, two 4-bit codes in a byte and four 6-bit ones in three.

/// The largest number of `float8_e4m3fn` (OCP FP8): sign, 4 bits of exponent with bias 7, 3 of mantissa. There are no
/// infinities, and 0x7F and 0xFF are NaN.
pub const E4M3_MAX: f32 = 448.0;

/// The largest number of the 4-bit float (OCP MX, section 5.3.3): sign, 2 bits of exponent with bias 1, 1 of mantissa,
/// which are 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
pub const E2M1_MAX: f32 = 6.0;

/// The largest number of the 6-bit float that is called E2M3 (OCP MX, section 5.3.2): sign, 2 bits of exponent with bias 1, 3 of
/// mantissa, which are multiples of 0.125 up to 2, of 0.25 up to 4 and of 0.5 from there on, and their negatives.
pub const E2M3_MAX: f32 = 7.5;

/// The number of a `float8_e4m3fn` byte.
#[inline]
pub fn from_e4m3(code: u8) -> f32 {
    let magnitude = if code & 0x7f == 0x7f { f32::NAN } else { number::<3, 7>(code & 0x7f) };
    f32::from_bits(magnitude.to_bits() | u32::from(code & 0x80) << 24)
}

/// The number of a 4-bit float; higher bits of the byte are not looked at.
#[inline]
pub fn from_e2m1(code: u8) -> f32 {
    f32::from_bits(number::<1, 1>(code & 7).to_bits() | u32::from(code & 8) << 28)
}

/// The number of a 6-bit float; higher bits of the byte are not looked at.
#[inline]
pub fn from_e2m3(code: u8) -> f32 {
    f32::from_bits(number::<3, 1>(code & 31).to_bits() | u32::from(code & 32) << 26)
}

/// The number with this code among floats of this mantissa and bias. As in [`nearest`], nothing branches.
#[inline]
fn number<const MANTISSA: u32, const BIAS: u32>(code: u8) -> f32 {
    // The f32 with the same exponent and mantissa.
    let normal = f32::from_bits((u32::from(code) << (23 - MANTISSA)) + ((127 - BIAS) << 23));
    // Codes below that of the smallest normal number count steps as wide as there.
    let step = f32::from_bits((127 + 1 - BIAS - MANTISSA) << 23);
    if code < 1 << MANTISSA { f32::from(code) * step } else { normal }
}

/// The byte of the nearest `float8_e4m3fn` number, ties to even. What is larger than 448 becomes 448, NaN stays NaN (0x7F), and
/// zeros keep their sign.
#[inline]
pub fn to_e4m3(x: f32) -> u8 {
    let code = nearest::<3, 7>(x, E4M3_MAX) as u8 | ((x.to_bits() >> 24) as u8 & 0x80);
    if x.is_nan() { 0x7f } else { code }
}

/// The 4 bits of the nearest number of the 4-bit float, ties to even. What is larger than 6 becomes 6, and NaN 0. Both zeros become
/// 0, but small negative numbers -0 (8), as in compressed-tensors.
#[inline]
pub fn to_e2m1(x: f32) -> u8 {
    let code = nearest::<1, 1>(x, E2M1_MAX) as u8 | (u8::from(x < 0.0) << 3);
    if x.is_nan() { 0 } else { code }
}

/// The 6 bits of the nearest number of the 6-bit float, ties to even. What is larger than 7.5 becomes 7.5, and NaN 0. Zeros keep
/// their sign, as in compressed-tensors.
#[inline]
pub fn to_e2m3(x: f32) -> u8 {
    let code = nearest::<3, 1>(x, E2M3_MAX) as u8 | ((x.to_bits() >> 26) as u8 & 32);
    if x.is_nan() { 0 } else { code }
}

/// The code of the magnitude nearest to that of `x` among floats of this mantissa and bias, at most that of `max`. It has
/// no branches, so that loops over it become vectors.
#[inline]
fn nearest<const MANTISSA: u32, const BIAS: u32>(x: f32, max: f32) -> u32 {
    let magnitude = x.abs().min(max);
    let bits = magnitude.to_bits();
    let cut = 23 - MANTISSA;
    // Half of what is cut off, less one where the last bit that stays is even.
    let half = (1 << (cut - 1)) - 1 + (bits >> cut & 1);
    let normal = (bits.wrapping_add(half) >> cut).wrapping_sub((127 - BIAS) << MANTISSA);
    // Below the smallest normal number all steps are as wide as there. Adding the f32 whose last bit is worth a step
    // rounds to whole steps.
    let steps = f32::from_bits((127 + 1 - BIAS - MANTISSA + 23) << 23);
    let subnormal = (magnitude + steps).to_bits().wrapping_sub(steps.to_bits());
    let smallest_normal = f32::from_bits((127 + 1 - BIAS) << 23);
    if magnitude < smallest_normal { subnormal } else { normal }
}

/// The byte of a power of two from 2^-127 to 2^127 (E8M0), its exponent + 127; `None` for all other numbers.
#[inline]
pub fn to_exponent(power: f32) -> Option<u8> {
    match power.to_bits() {
        // 2^-127 is no normal f32.
        0x0040_0000 => Some(0),
        bits if bits & 0x807f_ffff == 0 && (1..=254).contains(&(bits >> 23)) => Some((bits >> 23) as u8),
        _ => None,
    }
}

/// The power of two with this exponent + 127 (E8M0); 255 is NaN.
#[inline]
pub fn from_exponent(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// Two codes a byte, the first one in the lower half. Of each code the lower 4 bits count; a last single code has 0
/// beside it.
pub fn pack_pairs(codes: &[i8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(codes.len().div_ceil(2));
    let (eights, rest) = codes.as_chunks::<8>();
    bytes.extend(eights.iter().flat_map(|codes| {
        // Eight codes as one number, squeezed together in three steps.
        let spread = u64::from_le_bytes(codes.map(|code| code as u8)) & 0x0f0f_0f0f_0f0f_0f0f;
        let two = (spread | spread >> 4) & 0x00ff_00ff_00ff_00ff;
        let four = (two | two >> 8) & 0x0000_ffff_0000_ffff;
        ((four | four >> 16) as u32).to_le_bytes()
    }));
    let pair = |codes: &[i8]| codes.iter().rev().fold(0, |byte, &code| byte << 4 | (code as u8 & 15));
    bytes.extend(rest.chunks(2).map(pair));
    bytes
}

/// The codes of [`pack_pairs`], 0 to 15, two for each byte.
pub fn unpack_pairs(bytes: &[u8]) -> Vec<i8> {
    let mut codes = vec![0; bytes.len() * 2];
    for (pair, &byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [(byte & 15) as i8, (byte >> 4) as i8];
    }
    codes
}

/// Four codes in three bytes, the first one in the lowest bits. Of each code the lower 6 bits count; what is left of the last bytes
/// is 0.
pub fn pack_quads(codes: &[i8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((codes.len() * 6).div_ceil(8));
    let word = |codes: &[i8]| codes.iter().rev().fold(0u32, |word, &code| word << 6 | u32::from(code as u8 & 63));
    let (quads, rest) = codes.as_chunks::<4>();
    for quad in quads {
        bytes.extend_from_slice(&word(quad).to_le_bytes()[..3]);
    }
    bytes.extend_from_slice(&word(rest).to_le_bytes()[..(rest.len() * 6).div_ceil(8)]);
    bytes
}

/// The codes of [`pack_quads`], 0 to 63, four for every three bytes; what is left of the last bytes makes none.
pub fn unpack_quads(bytes: &[u8]) -> Vec<i8> {
    let mut codes = vec![0; bytes.len() / 3 * 4];
    for (quad, &[a, b, c]) in codes.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<3>().0) {
        let word = u32::from_le_bytes([a, b, c, 0]);
        *quad = [0, 6, 12, 18].map(|shift| (word >> shift & 63) as i8);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    fn e4m3() -> Vec<f32> {
        (0..=255).map(from_e4m3).collect()
    }

    fn e2m1() -> Vec<f32> {
        (0..16).map(from_e2m1).collect()
    }

    fn e2m3() -> Vec<f32> {
        (0..64).map(from_e2m3).collect()
    }

    /// The nearest number by search: the definition.
    fn by_search(values: &[f32], x: f32) -> usize {
        let magnitude = f64::from(x.abs().min(values[values.len() - 1]));
        let near = |code: &usize| (f64::from(values[*code]) - magnitude).abs();
        let order = |a: &usize, b: &usize| near(a).total_cmp(&near(b)).then((a % 2).cmp(&(b % 2)));
        (0..values.len()).min_by(order).unwrap()
    }

    /// Numbers of all sizes, the ties between neighbours, and what lies beside them.
    fn numbers(values: &[f32]) -> Vec<f32> {
        let mut rng = Rng(11);
        let mut all: Vec<f32> =
            (0..20_000).map(|_| rng.float(crate::Dtype::F32) * 2f32.powi(rng.below(24) as i32 - 12)).collect();
        for pair in values.windows(2) {
            let tie = (pair[0] + pair[1]) / 2.0;
            all.extend([pair[0], tie, f32::from_bits(tie.to_bits() - 1), f32::from_bits(tie.to_bits() + 1)]);
        }
        all.extend([0.0, 1e-40, f32::MIN_POSITIVE, 448.0, 460.0, 464.0, 465.0, 1e30, f32::MAX, f32::INFINITY]);
        all.iter().flat_map(|&x| [x, -x]).collect()
    }

    #[test]
    fn the_nearest_code_is_found() {
        let (eight, six, four) = (e4m3(), e2m3(), e2m1());
        for x in numbers(&six[..32]) {
            let expected = by_search(&six[..32], x) as u8 | if x.is_sign_negative() { 32 } else { 0 };
            assert_eq!(to_e2m3(x), expected, "{x:e}");
        }
        for x in numbers(&eight[..127]) {
            let expected = by_search(&eight[..127], x) as u8 | if x.is_sign_negative() { 0x80 } else { 0 };
            assert_eq!(to_e4m3(x), expected, "{x:e}");
        }
        for x in numbers(&four[..8]) {
            let expected = by_search(&four[..8], x) as u8 | if x < 0.0 { 8 } else { 0 };
            assert_eq!(to_e2m1(x), expected, "{x:e}");
        }
        assert_eq!((to_e4m3(f32::NAN), to_e4m3(-f32::NAN)), (0x7f, 0x7f));
        assert_eq!((to_e2m1(f32::NAN), to_e2m3(f32::NAN), to_e2m3(-f32::NAN)), (0, 0, 0));
    }

    #[test]
    fn numbers_of_the_standard() {
        // Sign, exponent and mantissa by the definition.
        let defined = |code: i32| match (code >> 3 & 15, code & 7) {
            (15, 7) => f64::NAN,
            (0, mantissa) => f64::from(mantissa) / 512.0,
            (exponent, mantissa) => (1.0 + f64::from(mantissa) / 8.0) * 2f64.powi(exponent - 7),
        };
        for (code, value) in e4m3().iter().enumerate() {
            let magnitude = f64::from(value.abs());
            let expected = defined(code as i32);
            assert!(magnitude == expected || (magnitude.is_nan() && expected.is_nan()), "{code}");
            assert_eq!(value.is_sign_negative(), code > 127, "{code}");
        }
        let four = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0f32];
        let both: Vec<u32> = four.iter().chain(four.map(|x| -x).iter()).map(|x| x.to_bits()).collect();
        assert_eq!(e2m1().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), both);
        let six: Vec<f32> = (0..32u8)
            .map(|code| match (code >> 3, f32::from(code & 7)) {
                (0, mantissa) => mantissa / 8.0,
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(i32::from(exponent) - 1),
            })
            .collect();
        let both: Vec<u32> = six.iter().copied().chain(six.iter().map(|x| -x)).map(f32::to_bits).collect();
        assert_eq!(e2m3().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), both);
        for code in 0..64u8 {
            assert_eq!(to_e2m3(from_e2m3(code)), code);
        }
        assert_eq!((from_e4m3(0x7e), from_e2m3(0xdf), from_e2m1(0xf7)), (E4M3_MAX, E2M3_MAX, E2M1_MAX));
        for code in (0..=255u8).filter(|code| code & 0x7f != 0x7f) {
            assert_eq!(to_e4m3(from_e4m3(code)), code);
        }
        for code in (0..16u8).filter(|&code| code != 8) {
            assert_eq!(to_e2m1(from_e2m1(code)), code);
        }
        // The thresholds that compressed-tensors rounds by.
        let halves = [(0.25, 0), (0.75, 2), (1.25, 2), (1.75, 4), (2.5, 4), (3.5, 6), (5.0, 6), (-0.1, 8), (-0.0, 0)];
        for (x, code) in halves {
            assert_eq!(to_e2m1(x), code, "{x}");
        }
    }

    #[test]
    fn exponents() {
        for code in 0..255u8 {
            let power = from_exponent(code);
            assert_eq!(f64::from(power), 2f64.powi(i32::from(code) - 127));
            assert_eq!(to_exponent(power), Some(code));
            assert_eq!(to_exponent(-power), None);
            assert_eq!(to_exponent(power * 1.5), None);
        }
        assert!(from_exponent(255).is_nan());
        for x in [0.0, -0.0, f32::NAN, f32::INFINITY, 2f32.powi(-128), f32::from_bits(1), 3.0] {
            assert_eq!(to_exponent(x), None, "{x}");
        }
    }

    #[test]
    fn pairs() {
        let codes: Vec<i8> = (0..256).map(|i| i as i8).collect();
        let packed = pack_pairs(&codes);
        assert_eq!(packed[..4], [0x10, 0x32, 0x54, 0x76]);
        assert_eq!(unpack_pairs(&packed), codes.iter().map(|code| code & 15).collect::<Vec<_>>());
        assert_eq!(pack_pairs(&[-1, 2, 3]), [0x2f, 0x03]);
        assert_eq!(pack_pairs(&codes[..15]), [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0x0e]);
        assert!(unpack_pairs(&[]).is_empty());
    }

    #[test]
    fn quads() {
        let codes: Vec<i8> = (0..64).collect();
        let packed = pack_quads(&codes);
        // 0 | 1 << 6 | 2 << 12 | 3 << 18, and the next four.
        assert_eq!(packed[..6], [0x40, 0x20, 0x0c, 0x44, 0x61, 0x1c]);
        assert_eq!((packed.len(), unpack_quads(&packed)), (48, codes.clone()));
        assert_eq!(pack_quads(&[-1, 64]), [0x3f, 0x00]);
        assert_eq!(pack_quads(&codes[..5]), [0x40, 0x20, 0x0c, 0x04]);
        assert_eq!(unpack_quads(&[0x40, 0x20, 0x0c, 0x04]), [0, 1, 2, 3]);
    }
}
