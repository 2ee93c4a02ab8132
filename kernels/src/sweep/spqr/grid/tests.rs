//! Grids and coded statistics by hand: the fast sweep and the plain one share them, so that comparing the two says nothing of
//! them.

use super::*;
use crate::cases::spqr::rules;
use crate::sweep::spqr::SecondLevel;
use crate::sweep::tests::random;

fn grid(scale: f32, zero: f32) -> AffineGrid {
    AffineGrid { scale, zero, max_code: 7.0, stored: Precision::F32 }
}

/// Scale and zero of a grid of 3 bits over a range.
fn spanned(lo: f32, hi: f32, symmetric: bool, stored: Precision) -> (f32, f32) {
    let made = AffineGrid::spanning(lo, hi, 3, symmetric, stored);
    assert_eq!((made.max_code, made.stored), (7.0, stored));
    (made.scale, made.zero)
}

#[test]
fn codes_are_rounded_after_the_zero_was_added() {
    let line = grid(0.5, 2.0);
    for (x, code) in [(-1.0, 0.0), (0.0, 2.0), (2.5, 7.0), (0.25, 2.0), (0.75, 4.0), (9.0, 7.0), (-9.0, 0.0)] {
        assert_eq!(line.encode(x), code, "{x}");
    }
    assert_eq!(grid(0.5, 2.3).encode(0.1), 2.0, "0.2 + 2.3");
    assert_eq!([0.0, 2.0, 7.0].map(|code| line.decode(code)), [-1.0, 0.0, 2.5]);
    // A code that is read back has no sign.
    assert_eq!(grid(1.0, 0.0).encode(-0.1).to_bits(), 0);
    // No division by zero: all that is not zero is at an end.
    assert_eq!([-1.0, 0.0, 1.0].map(|x| grid(0.0, 3.0).encode(x)), [0.0, 3.0, 7.0]);
    // A reader subtracts and multiplies in the stored type.
    let half = Precision::F16;
    let line = AffineGrid { stored: half, ..grid(half.round(0.3), half.round(1.7)) };
    let inner = half.round(5.0 - line.zero);
    assert_ne!(inner, 5.0 - line.zero);
    assert_eq!(line.decode(5.0), half.round(line.scale * inner));
}

#[test]
fn grids_span_their_range_and_hold_constants() {
    let f32 = Precision::F32;
    assert_eq!(spanned(-1.0, 2.5, false, f32), (0.5, 2.0));
    // Zero need not be among the codes.
    assert_eq!(spanned(1.0, 4.5, false, f32), (0.5, -2.0));
    assert_eq!(spanned(-1.0, 3.5, true, f32), (1.0, 4.0));
    assert_eq!(spanned(-3.5, 1.0, true, f32), (1.0, 4.0));
    assert_eq!(spanned(1.0, 4.5, true, f32), (0.5, 4.0));
    for (bits, symmetric, want) in
        [(2, false, (1.0, 0.5)), (8, false, (3.0 / 255.0, 42.5)), (2, true, (5.0 / 3.0, 2.0))]
    {
        let made = AffineGrid::spanning(-0.5, 2.5, bits, symmetric, f32);
        let max_code = ((1 << bits) - 1) as f32;
        assert_eq!((made.scale, made.max_code), (want.0, max_code));
        assert!((made.zero - want.1).abs() < 1e-5, "{} want {}", made.zero, want.1);
    }
    // One value is reached from the end of the codes that is on its other side.
    for (value, scale, zero) in [(0.3, 0.3, 0.0), (-0.3, 0.3, 1.0), (0.0, 1.0, 0.0)] {
        assert_eq!(spanned(value, value, false, f32), (scale, zero));
        assert_eq!(spanned(value, value, true, f32), (scale, 4.0));
        let held = grid(scale, zero);
        assert_eq!(held.decode(held.encode(value)), value);
    }
    let brain = Precision::Bf16;
    let scale = brain.round(3.3 / 7.0);
    assert_eq!(spanned(-1.1, 2.2, false, brain), (scale, brain.round(1.1 / scale)));
    assert_eq!(spanned(0.3, 0.3, false, brain), (brain.round(0.3), 0.0));
}

#[test]
fn a_narrow_range_is_a_constant_in_sixteen_bits_alone() {
    for stored in [Precision::Bf16, Precision::F16] {
        assert_eq!(constant(1023.0, 1024.0, stored), Some(1023.5));
        assert_eq!(constant(-1024.0, -1023.0, stored), Some(-1023.5));
        assert_eq!(constant(1022.875, 1024.0, stored), None);
        assert_eq!((constant(-4.0, 4.0, stored), constant(1.0, 2.0, stored)), (None, None));
        assert_eq!((constant(-0.5, -0.5, stored), constant(0.0, 0.0, stored)), (Some(-0.5), Some(0.0)));
    }
    assert_eq!(constant(1023.0, 1024.0, Precision::F32), None);
    assert_eq!(constant(3.0, 3.0, Precision::F32), Some(3.0));
}

#[test]
fn symmetric_ranges_are_mirrored_unless_nothing_is_negative() {
    for (lo, hi, want) in [
        (-1.0, 3.0, (-3.0, 3.0)),
        (-3.0, 1.0, (-3.0, 3.0)),
        (-2.0, 2.0, (-2.0, 2.0)),
        (-3.0, -1.0, (-3.0, 3.0)),
        (0.0, 3.0, (0.0, 3.0)),
        (1.0, 3.0, (1.0, 3.0)),
    ] {
        assert_eq!(mirrored(lo, hi, true), want);
        assert_eq!(mirrored(lo, hi, false), (lo, hi));
    }
    assert_eq!(positive(0.0, Precision::F32), f32::MIN_POSITIVE);
    assert_eq!(positive(0.0, Precision::Bf16), f32::MIN_POSITIVE);
    assert_eq!(positive(1e-9, Precision::F16), 2f32.powi(-24));
    assert_eq!(positive(0.3, Precision::F16), Precision::F16.round(0.3));
}

/// The first level by its settings: what is coded again is rounded only there, and a group that lost all but equal weights
/// gets the published range.
#[test]
fn the_first_level_rounds_what_is_stored() {
    let plain = Rule { stored: Precision::Bf16, ..rules()[0] };
    let second = |scale_bits, zero_bits| SecondLevel { scale_bits, zero_bits, zero_symmetric: false, rows: 4 };
    let brain = |v: f32| Precision::Bf16.round(v);
    let (lo, hi) = (-1.1f32, 2.2f32);
    let exact = (hi - lo) / 7.0;
    let scale = brain(exact);
    assert_eq!(first_level(&plain, lo, hi, false), (scale, brain(1.1 / scale), None));
    let scaled = Rule { second: second(Some(3), None), ..plain };
    assert_eq!(first_level(&scaled, lo, hi, false), (exact, brain(1.1 / exact), None));
    let both = Rule { second: second(Some(3), Some(3)), ..plain };
    assert_eq!(first_level(&both, lo, hi, false), (exact, 1.1 / exact, None));
    assert_eq!(first_level(&Rule { round_zero: true, ..plain }, lo, hi, false), (scale, 2.0, None));
    assert_eq!(first_level(&Rule { symmetric: true, ..plain }, -2.2, 1.0, false), (brain(4.4 / 7.0), 4.0, None));
    // 7.5 is no code; a symmetric zero is in the middle whatever else is asked.
    let wide = Rule { symmetric: true, round_zero: true, bits: 4, ..plain };
    assert_eq!(first_level(&wide, -2.2, 1.0, false).1, 8.0);
    // A constant is known as one, also where it is so in sixteen bits alone.
    assert_eq!(first_level(&plain, 0.5, 0.5, true), (0.5, 0.0, Some(0.5)));
    assert_eq!(first_level(&plain, -1024.0, -1023.0, false), (brain(1023.5), 1.0, Some(-1023.5)));
    // What is left of a group may be one value, and the group was none.
    assert_eq!(first_level(&plain, 0.5, 0.5, false), (brain(2.0 / 7.0), brain(1.0 / brain(2.0 / 7.0)), None));
}

#[test]
fn outliers_are_what_a_reader_makes_of_them() {
    let replaces = Rule { stored: Precision::Bf16, outlier: Outlier::Replaces, ..rules()[0] };
    let adds = Rule { outlier: Outlier::Adds, ..replaces };
    let brain = |v: f32| Precision::Bf16.round(v);
    let (w, base) = (1.2345f32, 0.7f32);
    assert_eq!(kept(&replaces, w, base), brain(w));
    assert_eq!(kept(&adds, w, base), brain(base + brain(w - base)));
    assert_ne!(kept(&adds, w, base), brain(w - base));
}

#[test]
fn constant_rows_do_not_widen_the_range_of_the_others() {
    let values = [1.0, -5.0, 3.0, 9.0];
    assert_eq!(range(&values, &[None, Some(0.1), None, Some(0.2)]), (1.0, 3.0));
    assert_eq!(range(&values, &[None; 4]), (-5.0, 9.0));
    // Unless there are no others.
    assert_eq!(range(&values, &[Some(0.1); 4]), (-5.0, 9.0));
}

/// The definition that [`settle`] is held to: all pairs that the second level can say for a constant row, in the order in which
/// they are tried.
fn pairs(
    rule: &Rule<'_>,
    value: f32,
    scale_grid: Option<AffineGrid>,
    zero_grid: Option<AffineGrid>,
    now: (f32, f32),
) -> Vec<(Said, Said)> {
    let codes = |grid: AffineGrid| (0..8u8).map(|code| (grid.decode(f32::from(code)), code)).collect();
    let scales: Vec<Said> = scale_grid.map_or(vec![(now.0, 0), (0.0, 0)], codes);
    let zeros: Vec<Said> = zero_grid.map_or(vec![(now.1, 0)], codes);
    let free_zero = zero_grid.is_none() && !rule.symmetric && !rule.round_zero;
    let mut all = Vec::new();
    for &zero in &zeros {
        for &scale in &scales {
            all.push((scale, zero));
            if free_zero && scale.0 > 0.0 {
                all.push((scale, (rule.stored.round(-value / scale.0), 0)));
            }
        }
        if scale_grid.is_none() {
            let reach = if value > 0.0 { rule.max_code() - zero.0 } else { -zero.0 };
            all.push(((rule.stored.round(value / reach), 0), zero));
        }
    }
    // A scale is a finite number, and not below zero.
    all.retain(|(scale, zero)| scale.0.is_finite() && zero.0.is_finite() && scale.0 >= 0.0);
    all
}

#[test]
fn a_constant_row_is_held_by_the_first_of_the_best_pairs() {
    let mut next = random(31);
    let (mut better, mut same) = (0, 0);
    for rule in [
        rules()[0],
        Rule { symmetric: true, ..rules()[0] },
        Rule { round_zero: true, ..rules()[0] },
        Rule { stored: Precision::F16, ..rules()[0] },
    ] {
        for round in 0..60 {
            let value = if round % 7 == 0 { 0.0 } else { next() };
            let stored = |v: f32| rule.stored.round(v);
            // Scales from below zero, and zeros beyond the codes.
            let mut line = |width: f32, zero: f32| AffineGrid {
                scale: stored(width * next().abs()),
                zero: stored(zero * next()),
                stored: rule.stored,
                ..grid(1.0, 0.0)
            };
            let scale_grid = (round % 3 != 0).then(|| line(0.1, 4.0));
            let zero_grid = (round % 2 == 0).then(|| line(2.0, 8.0));
            let now = (stored(next().abs()), if rule.symmetric { 4.0 } else { stored(4.0 + 5.0 * next()) });
            let miss = |scale: f32, zero: f32| {
                let held = AffineGrid { stored: rule.stored, ..grid(scale, zero) };
                (held.decode(held.encode(value)) - value).abs()
            };
            let mut want = None;
            let mut least = miss(now.0, now.1);
            for pair in pairs(&rule, value, scale_grid, zero_grid, now) {
                let off = miss(pair.0.0, pair.1.0);
                if off < least {
                    (least, want) = (off, Some(pair));
                }
            }
            assert_eq!(settle(&rule, value, scale_grid, zero_grid, now), want, "{round}: {value} {now:?} {rule:?}");
            *if want.is_some() { &mut better } else { &mut same } += 1;
        }
    }
    assert!(better > 50 && same > 10, "{better} {same}");
}

/// A group of zeros in all rows of a tile has the published codes: scales on a grid from −1 to 1, and zeros that are 1.
#[test]
fn dead_groups_have_the_published_codes() {
    let second = SecondLevel { scale_bits: Some(3), zero_bits: Some(3), zero_symmetric: false, rows: 2 };
    let rule = Rule { second, ..rules()[0] };
    let (groups, group) = (3, 1);
    // The first tile is dead; the second has a row of zeros, and one that is not constant.
    let constant = [Some(0.0), Some(0.0), Some(0.0), None];
    let (mut scales, mut zeros) = ([1.0, 1.0, 1.0, 0.25], [0.0, 0.0, 0.0, 3.0]);
    let [mut scale_codes, mut zero_codes] = [[9u8; 12]; 2];
    let mut tiles = [[9f32; 6]; 4];
    let [scale_scales, scale_zeros, zero_scales, zero_zeros] = &mut tiles;
    let mut first = FirstLevel { scales: &mut scales, zeros: &mut zeros, constant: &constant };
    let mut scale_part = CodedPart { codes: &mut scale_codes, scales: scale_scales, zeros: scale_zeros };
    let mut zero_part = CodedPart { codes: &mut zero_codes, scales: zero_scales, zeros: zero_zeros };
    second_level(&rule, &mut first, &[], Some(&mut scale_part), Some(&mut zero_part), Place { groups, group });
    // Of the second tile the one row that counts is held exactly, and the row of zeros by a scale or a zero of it.
    let (wide, middle) = (2.0 / 7.0f32, 1.0 / (2.0 / 7.0f32));
    assert_eq!(tiles[0], [9.0, wide, 9.0, 9.0, 0.25, 9.0]);
    assert_eq!(tiles[1], [9.0, middle, 9.0, 9.0, 0.0, 9.0]);
    assert_eq!(tiles[2], [9.0, 1.0, 9.0, 9.0, 3.0, 9.0]);
    assert_eq!(tiles[3], [9.0, 6.0, 9.0, 9.0, 0.0, 9.0]);
    let line = AffineGrid { scale: wide, zero: middle, ..grid(1.0, 0.0) };
    assert_eq!((scales[0], scales[3]), (line.decode(4.0), 0.25));
    assert_eq!(zeros, [1.0, 1.0, zeros[2], 3.0]);
    assert_eq!((scale_codes[1], scale_codes[4], scale_codes[10]), (4, 4, 1));
    assert_eq!((zero_codes[1], zero_codes[4], zero_codes[10]), (7, 7, 1));
    // Nothing of the other groups is touched.
    for codes in [scale_codes, zero_codes] {
        assert!(codes.iter().enumerate().all(|(i, &code)| (code == 9) == (i % groups != group)), "{codes:?}");
    }
    let held = grid(scales[2], zeros[2]);
    assert_eq!(held.decode(held.encode(0.0)), 0.0);
}

/// Without a second level the statistics stay as they are, and so do zeros where
/// scales alone are coded.
#[test]
fn what_is_not_coded_stays() {
    let second = SecondLevel { scale_bits: Some(3), zero_bits: None, zero_symmetric: false, rows: 2 };
    let rule = Rule { second, ..rules()[0] };
    let (mut scales, mut zeros) = ([0.25, 0.25], [1.0, 2.0]);
    let mut first = FirstLevel { scales: &mut scales, zeros: &mut zeros, constant: &[Some(0.0), Some(0.0)] };
    second_level(&rules()[0], &mut first, &[], None, None, Place { groups: 1, group: 0 });
    let (mut codes, mut tile_scales, mut tile_zeros) = ([9; 2], [9.0], [9.0]);
    let mut part = CodedPart { codes: &mut codes, scales: &mut tile_scales, zeros: &mut tile_zeros };
    second_level(&rule, &mut first, &[], Some(&mut part), None, Place { groups: 1, group: 0 });
    assert_eq!((scales, zeros), ([0.25, 0.25], [1.0, 2.0]));
    assert_eq!((codes, tile_scales, tile_zeros), ([1, 1], [0.25], [0.0]));
}
