use super::*;
use crate::testing::Rng;

fn packing(bits: u32, padded: bool) -> Packing {
    Packing::new(bits, padded).unwrap()
}

/// `[rows, cols]` to `[cols, rows]`.
fn transpose<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
}

/// The definition: bit k of code i is bit `i * bits + k` of the row's stream; where words are padded, it is bit
/// `i % f * bits + k` of word `i / f`, for words of f codes.
fn pack_bit_by_bit(codes: &[i8], cols: usize, bits: u32, padded: bool) -> Vec<u8> {
    let bits = bits as usize;
    let each = if padded { 32 / bits } else { cols };
    let start = |i: usize| if padded { i / each * 32 + i % each * bits } else { i * bits };
    let width = if padded { cols.div_ceil(each) } else { (cols * bits).div_ceil(32) } * 4;
    let mut out = Vec::new();
    for row in codes.chunks(cols) {
        let mut bytes = vec![0u8; width];
        for (i, &code) in row.iter().enumerate() {
            let value = i32::from(code) + (1 << (bits - 1));
            for k in 0..bits {
                let at = start(i) + k;
                bytes[at / 8] |= ((value >> k & 1) as u8) << (at % 8);
            }
        }
        out.extend(bytes);
    }
    out
}

#[test]
fn agrees_with_the_definition_and_comes_back() {
    let mut rng = Rng(1);
    // Around words, around the blocks of 512 codes that are done at once, and rows without bits between them.
    let widths = [1, 2, 3, 7, 8, 9, 10, 31, 32, 33, 64, 65, 100, 511, 512, 513, 520, 1024, 1100];
    for (bits, padded) in (1..=8).flat_map(|bits| [(bits, false), (bits, true)]) {
        let packing = packing(bits, padded);
        for cols in widths {
            for rows in [1, 2, 33] {
                let name = format!("{packing:?}, {rows}x{cols}");
                let codes: Vec<i8> = (0..rows * cols).map(|_| rng.code(bits)).collect();
                let packed = packing.pack(&codes, cols).unwrap();
                assert_eq!(packed, pack_bit_by_bit(&codes, cols, bits, padded), "{name}");
                assert_eq!(packing.unpack(&packed, rows, cols).unwrap(), codes, "{name}");
                for version in Version::all() {
                    let mut words = vec![0; packed.len()];
                    packing.pack_by(version, &codes, cols, &mut words).unwrap();
                    assert_eq!(words, packed, "{version:?} {name}");
                    let mut found = vec![0; codes.len()];
                    packing.unpack_by(version, &words, cols, &mut found).unwrap();
                    assert_eq!(found, codes, "{version:?} {name}");
                }
                let columns = packing.pack_columns(&codes, cols).unwrap();
                assert_eq!(columns.len(), packing.words(rows).unwrap() * cols * 4, "{name}");
                let turned = transpose(&codes, rows, cols);
                let plain = pack_bit_by_bit(&turned, rows, bits, padded);
                assert_eq!(transpose(columns.as_chunks::<4>().0, columns.len() / 4 / cols, cols).as_flattened(), plain);
                assert_eq!(packing.unpack_columns(&columns, rows, cols).unwrap(), codes, "{name}");
            }
        }
    }
}

#[test]
fn worked_examples() {
    let hex = |bytes: Vec<u8>| bytes.as_chunks::<4>().0.iter().map(|&w| u32::from_le_bytes(w)).collect::<Vec<_>>();
    let check = |codes: &[i8], bits, expected: &[u32]| {
        assert_eq!(hex(packing(bits, false).pack(codes, codes.len()).unwrap()), expected);
    };
    check(&[-2, -1, 0, 1].repeat(4), 2, &[0xe4e4_e4e4]);
    check(&[-4, -3, -2, -1, 0, 1, 2, 3, -4, -3, -2], 3, &[0x88fa_c688, 0]);
    check(&[-8, -7, -6, -5, -4, -3, -2, -1, 0], 4, &[0x7654_3210, 8]);
    check(&[-128, -127, -126, -125, -124], 8, &[0x0302_0100, 4]);
    let zeros = [-8, 7, 0, 1, 3, -3];
    assert_eq!(hex(packing(4, false).pack_columns(&zeros, 2).unwrap()), [0xb80, 0x59f]);
    let zeros = [-8, -7, -6, -5, -4, -3, -2, -1, 7];
    assert_eq!(hex(packing(4, false).pack_columns(&zeros, 1).unwrap()), [0x7654_3210, 0xf]);
    // Ten codes of 3 bits a word.
    let padded = [-4, -3, -2, -1, 0, 1, 2, 3, -4, -3, -2];
    assert_eq!(hex(packing(3, true).pack(&padded, 11).unwrap()), [0x08fa_c688, 2]);
    assert_eq!(packing(4, true), packing(4, false));
}

#[test]
fn every_code_out_of_range_is_seen() {
    for (bits, padded) in (1..=7).flat_map(|bits| [(bits, false), (bits, true)]) {
        let (low, high) = range(bits);
        for at in [0, 17, 511, 512, 600, 699] {
            for bad in [low - 1, high + 1, i8::MIN, i8::MAX] {
                let mut codes = vec![0i8; 700];
                codes.iter_mut().for_each(|code| *code = low);
                codes[at] = bad;
                for version in Version::all() {
                    let packing = packing(bits, padded);
                    let mut words = vec![0; packing.words(700).unwrap() * 4];
                    let text = packing.pack_by(version, &codes, 700, &mut words).unwrap_err().to_string();
                    let expected = format!("code {bad} (element {at}) is outside {low}..={high}");
                    assert!(text.contains(&expected), "{version:?}: {text}");
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    assert!(
        Packing::new(0, false).is_err() && Packing::new(9, true).is_err() && Packing::new(u32::MAX, false).is_err()
    );
    for padded in [false, true] {
        let four = packing(3, padded);
        assert!(four.pack(&[0; 4], 3).is_err() && four.pack(&[], 0).is_err());
        assert!(four.pack_columns(&[0; 4], 3).is_err() && four.pack_columns(&[0; 4], 0).is_err());
        for code in [-5, 4, i8::MIN, i8::MAX] {
            for at in 0..4 {
                let mut codes = [3, -4, 0, 1];
                codes[at] = code;
                let error = four.pack_columns(&codes, 2).unwrap_err().to_string();
                assert!(error.contains(&format!("code {code} (element {at}) is outside -4..=3")), "{error}");
            }
        }
        assert!(four.pack_into(&[0; 4], 4, &mut [0; 8]).is_err());
        assert!(four.unpack(&[0; 8], 1, 8).is_err() && four.unpack(&[0; 3], 1, 8).is_err());
        assert!(four.unpack(&[], usize::MAX, 8).is_err() && four.unpack(&[], 1, usize::MAX).is_err());
        assert!(four.unpack_into(&[0; 4], 8, &mut [0; 9]).is_err());
        assert!(four.unpack_columns(&[0; 8], 8, 1).is_err() && four.unpack_columns(&[], usize::MAX, 1).is_err());
    }
}
