//! One body, compiled for several instruction sets, chosen at run time.
//!
//! Bodies are plain loops: a closure that is not inlined is compiled for the baseline only.
//! The bodies use no fused multiply-add, so every version gives the same bits as the plain one.

/// Defines `fn name(args)` whose body is compiled three times (AVX-512, AVX2, the target's baseline) and picked by what
/// the processor has.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features were detected just above.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was detected just above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// e^x for x ≤ 88, relative error under 2e-7, without branches so that loops over it vectorise (Cody and Waite's
/// reduction to [-ln 2 / 2, ln 2 / 2] and a polynomial of degree 6). Below -87 it gives 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.388_888_9e-3_f32;
    for c in [8.333_334e-3, 4.166_666_6e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    // n sits in the low mantissa bits of `shifted`; shifted into the exponent field it multiplies by 2^n.
    let bits = (shifted.to_bits() << 23).wrapping_add(p.to_bits());
    if x < -87.0 { 0.0 } else { f32::from_bits(bits) }
}

/// 2^x for x ≤ 0, relative error under 3e-7, without branches so that loops over it vectorise: the nearest integer to the exponent,
/// and a polynomial of degree 6 (2^f = e^(f ln 2)) for the rest. Below -125 it gives 2^-125, some 2e-38.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -125.0 { -125.0 } else { x };
    let shifted = clamped + ROUND;
    let f = clamped - (shifted - ROUND);
    let mut p = 1.540_353e-4_f32;
    for c in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, std::f32::consts::LN_2, 1.0] {
        p = p * f + c;
    }
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(p.to_bits()))
}

/// Bits of `x` rounded to bfloat16, half to even. NaN stays NaN, overflow becomes infinite.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

/// `x` rounded to bfloat16 and widened again.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> f32 {
    f32::from_bits(bf16_bits(x) << 16)
}

/// Rows and columns that are transposed at once.
pub(crate) const SIDE: usize = 16;

/// Transposes a square: four times, rows whose numbers differ in one bit exchange halves of their blocks of that size.
#[inline(always)]
pub(crate) fn transpose<T: Copy>(square: &mut [[T; SIDE]; SIDE]) {
    swap::<8, T>(square);
    swap::<4, T>(square);
    swap::<2, T>(square);
    swap::<1, T>(square);
}

#[inline(always)]
fn swap<const STEP: usize, T: Copy>(square: &mut [[T; SIDE]; SIDE]) {
    for upper in (0..SIDE).filter(|row| row & STEP == 0) {
        let (a, b) = (square[upper], square[upper + STEP]);
        let (mut above, mut below) = (a, b);
        for i in 0..SIDE {
            above[i] = if i & STEP == 0 { a[i] } else { b[i ^ STEP] };
            below[i] = if i & STEP == 0 { a[i ^ STEP] } else { b[i] };
        }
        (square[upper], square[upper + STEP]) = (above, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_the_range_of_a_softmax() {
        let mut worst = 0f64;
        for i in 0..200_000 {
            let x = -87.0 + i as f32 * 0.000_87;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max((got / want - 1.0).abs());
        }
        // Two roundings in the reduction and seven in the polynomial, each half an ulp (6e-8) at most.
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn powers_of_2_are_accurate_below_1() {
        let mut worst = 0f64;
        for i in 0..200_000 {
            let x = i as f32 * -6.25e-4;
            let (got, want) = (f64::from(exp2(x)), f64::from(x).exp2());
            worst = worst.max((got / want - 1.0).abs());
        }
        // Six roundings of the polynomial, of terms that fall, and what its degree leaves: 1.2e-7.
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!((exp2(-1000.0), exp2(f32::NEG_INFINITY)), (exp2(-125.0), exp2(-125.0)));
        assert!(exp2(-125.0) < 3e-38);
    }

    #[test]
    fn bf16_rounding_agrees_with_half() {
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = f32::from_bits((state >> 32) as u32);
            let want = half::bf16::from_f32(x);
            if x.is_nan() {
                assert!(round_bf16(x).is_nan());
            } else {
                assert_eq!(bf16_bits(x) as u16, want.to_bits(), "{x}");
            }
        }
    }
}
