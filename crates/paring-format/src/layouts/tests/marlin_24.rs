use safetensors::SafeTensors;

use super::sparse::{cases, expected, scheme};
use super::*;
use crate::layouts::marlin_24::Marlin24;
use crate::testing::{Rng, encode, two_of_four};
use crate::{Grid, Values};

#[test]
fn official_marlin_files_byte_for_byte() {
    let cases = cases(&["marlin-24"]);
    assert_eq!(cases.len(), 5);
    for (case, bytes) in cases {
        let name = case["file"].as_str().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let scheme = scheme(&case, "marlin-24");
        let args = scheme.codes().unwrap();
        let (rows, cols) = (case["rows"].as_u64().unwrap() as usize, case["cols"].as_u64().unwrap() as usize);
        let numbers = |name: &str| Dtype::F16.decode_f32(&part(&file, name).unwrap().bytes);
        let (weight, stored) = (numbers("input.weight"), numbers("input.weight_scale"));
        let bits = args.element.bits();
        let tile = scales::tile(args, rows, cols).unwrap();
        let grid = Grid { tile, ..Grid::int(bits, tile[1], stored, None) };
        let (low, high) = crate::bits::range(bits);
        let code = |(i, w): (usize, &f32)| {
            let scale = grid.scales[i / cols * grid.groups(cols) + i % cols / tile[1]];
            Dtype::F16.round(w / scale).clamp(f32::from(low), f32::from(high)).round_ties_even() as i8
        };
        let codes: Vec<i8> = weight.iter().enumerate().map(code).collect();
        let c = Compressed { rows, cols, dtype: Dtype::F16, values: Values::Codes { codes, grid } };
        let expected = expected(&file);
        assert_eq!(Marlin24.encode(&scheme, &c).unwrap(), expected, "{name}");
        assert_eq!(Marlin24.decode(&scheme, expected.clone()).unwrap(), c, "{name}");
        assert_eq!(Marlin24.shape(&expected).unwrap(), Some((rows, cols)), "{name}");
    }
}

#[test]
fn any_matrix_that_fits_comes_back() {
    let mut rng = Rng(21);
    for bits in [4, 8] {
        for (rows, cols, group) in [(64, 32, 32), (128, 96, 96), (64, 128, 128), (64, 256, 128), (192, 640, 128)] {
            let mut c = two_of_four(rng.codes(rows, cols, Dtype::F16, bits, group, true));
            let Values::Codes { codes, .. } = &mut c.values else { unreachable!() };
            // Fours with one weight, or none.
            (0..codes.len()).filter(|i| i % 5 == 0 || i / 4 % 7 == 0).for_each(|i| codes[i] = 0);
            let parts = encode(&Marlin24, &c).unwrap();
            let back = Marlin24.decode(&Scheme::of(&c, "marlin-24", vec![]), parts.clone()).unwrap();
            assert_eq!(back, c, "{bits} bits of [{rows}, {cols}] by {group}");
        }
    }
}

#[test]
fn other_matrices_are_refused() {
    let mut rng = Rng(22);
    let check = |c: &Compressed, part: &str| {
        let text = encode(&Marlin24, c).unwrap_err().to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text:?} lacks {part:?}");
    };
    check(&rng.dense(64, 32, Dtype::F16), "how the weights are quantized");
    check(&rng.codes(64, 32, Dtype::F16, 4, 32, false), "integers of 4 or 8 bits without zero points");
    check(&two_of_four(rng.codes(64, 32, Dtype::F16, 3, 32, true)), "integers of 4 or 8 bits without zero points");
    check(&two_of_four(rng.codes(64, 64, Dtype::F16, 4, 32, true)), "128 columns");
    check(&two_of_four(rng.codes(64, 32, Dtype::Bf16, 4, 32, true)), "F16 scales");
    check(&two_of_four(rng.codes(32, 32, Dtype::F16, 4, 32, true)), "[32, 32] does not fit the tiles");
    check(&two_of_four(rng.codes(64, 48, Dtype::F16, 4, 48, true)), "[64, 48] does not fit the tiles");
    let mut c = two_of_four(rng.codes(64, 64, Dtype::F16, 4, 64, true));
    let Values::Codes { codes, .. } = &mut c.values else { unreachable!() };
    codes[3 * 64 + 8..3 * 64 + 12].copy_from_slice(&[1, -2, 3, 0]);
    check(&c, "row 3, columns 8 to 11: more than two weights");
    let Values::Codes { codes, .. } = &mut c.values else { unreachable!() };
    codes[3 * 64 + 8..3 * 64 + 12].copy_from_slice(&[0, 9, 0, 0]);
    check(&c, "the code 9 (element 201) does not fit in 4 bits");
}

#[test]
fn positions_that_make_no_sense_are_refused() {
    let c = two_of_four(Rng(23).codes(64, 32, Dtype::F16, 8, 32, true));
    let scheme = Scheme::of(&c, "marlin-24", vec![]);
    let mut parts = encode(&Marlin24, &c).unwrap();
    parts.get_mut("meta").unwrap().bytes[0] = 0x55;
    let text = Marlin24.decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert!(text.contains("meta: positions 1 and 1 for row 0, columns 0 to 3"), "{text}");
    let mut parts = encode(&Marlin24, &c).unwrap();
    parts.get_mut("meta").unwrap().shape = vec![2, 64];
    let text = Marlin24.decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert!(text.contains("meta: shape [2, 64]"), "{text}");
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rng = Rng(24);
    let cases = [
        ("marlin-24", two_of_four(rng.codes(64, 256, Dtype::F16, 4, 128, true))),
        ("sparse-24-bitmask", two_of_four(rng.codes(5, 12, Dtype::F32, 8, 12, true))),
        ("sparse-bitmask", rng.dense(5, 33, Dtype::Bf16)),
    ];
    for (name, c) in cases {
        let layout = layout(name).unwrap();
        let scheme = Scheme::of(&c, name, vec![]);
        let parts = encode(layout, &c).unwrap();
        for _ in 0..500 {
            let mut changed = parts.clone();
            let which = rng.below(changed.len());
            let part = changed.values_mut().nth(which).unwrap();
            let at = rng.below(part.bytes.len());
            part.bytes[at] = rng.next() as u8;
            if let Ok(c) = layout.decode(&scheme, changed.clone()) {
                assert_eq!(c.to_dense().len(), c.rows * c.cols);
            }
        }
    }
}

/// Groups of 128 columns whose scales a kernel reads by eights, in an order of its own; two groups have the order of rows.
#[test]
fn scales_lie_as_a_kernel_reads_them() {
    for (cols, order) in [(256, [0, 1, 2, 3, 4, 5, 6, 7]), (384, [0, 4, 1, 5, 2, 6, 3, 7])] {
        let mut c = two_of_four(Rng(25).codes(64, cols, Dtype::F16, 4, 128, true));
        let groups = cols / 128;
        let Values::Codes { grid, .. } = &mut c.values else { unreachable!() };
        // The row and the group of a scale are its value.
        grid.scales = (0..64 * groups).map(|i| (i / groups + 64 * (i % groups)) as f32 + 1.0).collect();
        let parts = encode(&Marlin24, &c).unwrap();
        let packed = Dtype::F16.decode_f32(&parts["scale_packed"].bytes);
        let expected: Vec<f32> = (0..64 * groups).map(|i| (i - i % 8 + order[i % 8]) as f32 + 1.0).collect();
        assert_eq!(packed, expected, "{cols} columns");
    }
}

#[test]
fn shapes_and_arguments_that_do_not_fit_are_refused() {
    for (rows, cols, fits) in [
        (64, 32, true),
        (128, 96, true),
        (0, 32, false),
        (64, 0, false),
        (32, 32, false),
        (64, 16, false),
        (64, 1 << 33, false),
        (usize::MAX - 63, 1 << 31, false),
    ] {
        assert_eq!(Marlin24.check_shape(rows, cols).is_ok(), fits, "[{rows}, {cols}]");
    }
    let c = two_of_four(Rng(26).codes(64, 256, Dtype::F16, 4, 128, true));
    let scheme = Scheme::of(&c, "marlin-24", vec![]);
    let args = scheme.codes().unwrap();
    assert!(Marlin24.check_args(args).is_ok());
    for (other, words) in [
        (QuantArgs { scale_type: ScaleType::Exponent, ..args.clone() }, "integers of 4 or 8 bits"),
        (QuantArgs { element: Element::E4m3, ..args.clone() }, "integers of 4 or 8 bits"),
        (QuantArgs { symmetric: false, ..args.clone() }, "integers of 4 or 8 bits"),
        (QuantArgs { strategy: Strategy::Group(64), ..args.clone() }, "integers of 4 or 8 bits"),
        (QuantArgs { actorder: Some("group".into()), ..args.clone() }, "groups in file order"),
    ] {
        let text = Marlin24.check_args(&other).unwrap_err().to_string();
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut moved = c.clone();
    let Values::Codes { grid, .. } = &mut moved.values else { unreachable!() };
    grid.group_index = Some((0..256).map(|col| col % 2).collect());
    let text = Marlin24.encode(&scheme, &moved).unwrap_err().to_string();
    assert!(text.contains("group") && !text.contains('\n'), "{text}");
    // An odd width is no two numbers a row.
    let mut parts = encode(&Marlin24, &c).unwrap();
    parts.get_mut("meta").unwrap().shape = vec![8, 129];
    assert!(Marlin24.shape(&parts).unwrap_err().to_string().contains("meta: shape [8, 129]"));
}
