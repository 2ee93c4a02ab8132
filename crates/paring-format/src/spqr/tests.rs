//! Matrices of SpQR by hand, and what contradicts itself in them.

use super::*;

/// `[2, 3]` in groups of 2, with every kind of statistic.
fn small() -> Spqr {
    Spqr {
        bits: 2,
        group_size: 2,
        order: Some(vec![2, 0, 1]),
        codes: vec![0, 3, 1, 2, 1, 3],
        scales: Statistic::Plain(vec![0.5, 1.0, 2.0, 0.25]),
        zeros: Statistic::Integers(vec![1, 0, 2, 3]),
        outliers: Outliers { at: vec![1, 5], values: vec![9.0, -7.0] },
    }
}

#[test]
fn weights_and_outliers_by_hand() {
    let spqr = small();
    // Positions: (0 − 1)/2, (3 − 1)/2, 1 − 0; (2 − 2)·2, (1 − 2)·2, (3 − 3)/4. The second and the last are kept.
    assert_eq!(spqr.base(2, 3, Dtype::F32), [-0.5, 1.0, 1.0, 0.0, -2.0, 0.0]);
    assert_eq!(spqr.to_dense(2, 3, Dtype::F32), [9.0, 1.0, -0.5, -2.0, -7.0, 0.0]);
    assert_eq!(spqr.outlier_mask(2, 3), [1, 0, 0, 0, 1, 0]);
    let plain = Spqr { order: None, ..spqr.clone() };
    assert_eq!(plain.to_dense(2, 3, Dtype::F32), [-0.5, 9.0, 1.0, 0.0, -2.0, -7.0]);
    assert_eq!(plain.outlier_mask(2, 3), [0, 1, 0, 0, 0, 1]);
    assert_eq!((spqr.groups(3), spqr.groups(4), spqr.groups(5)), (2, 2, 3));
    assert_eq!((Spqr::order_of(vec![0, 1, 2]), Spqr::order_of(vec![0, 2, 1])), (None, Some(vec![0, 2, 1])));
    // Coded again: 2 · (code − 0.5), of rows 0 and 1 alike, and of row 2 by itself.
    let coded = Statistic::Coded {
        bits: 3,
        rows: 2,
        codes: vec![0, 1, 2, 3, 4, 5],
        scales: vec![2.0, 3.0, 4.0, 5.0],
        zeros: vec![0.5, 1.0, 0.0, 2.0],
    };
    assert_eq!(coded.values(3, 2, Dtype::F32), [-1.0, 0.0, 3.0, 6.0, 16.0, 15.0]);
    assert_eq!(Statistic::Constant(2.0).values(2, 2, Dtype::F32), [2.0; 4]);
}

#[test]
fn bits_are_counted() {
    let spqr = small();
    // Codes, plain scales, integer zeros, two outliers with gaps, and an order of 2 bits a column.
    let gaps = bits::gaps::bits(&[1, 5], bits::gaps::best_width(&[1, 5])) as f64;
    assert_eq!(spqr.formula_bits(2, 3, Dtype::F16), (12.0 + 64.0 + 8.0 + 32.0 + gaps + 6.0) / 6.0);
    let tall = Statistic::Coded { bits: 3, rows: 2, codes: vec![], scales: vec![], zeros: vec![] };
    let constant = Spqr { zeros: Statistic::Constant(2.0), scales: tall, order: None, ..spqr };
    // Statistics of 3 rows in 2 groups: 6 codes, and two floats for each of 2 tiles down and 2 across.
    assert_eq!(constant.formula_bits(3, 3, Dtype::F32), (18.0 + 18.0 + 256.0 + 64.0 + gaps) / 9.0);
    assert_eq!([1, 2, 3, 4, 5, 256, 257].map(order_bits), [1, 1, 2, 2, 3, 8, 9]);
}

/// A change that makes a matrix wrong.
type Change<'a> = &'a dyn Fn(&mut Spqr);

#[test]
fn contradictions_are_named() {
    let check = |change: &dyn Fn(&mut Spqr)| {
        let mut spqr = small();
        change(&mut spqr);
        spqr.check(2, 3, Dtype::Bf16).map_err(|error| error.to_string())
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|spqr| spqr.zeros = Statistic::Constant(2.0)), Ok(()));
    assert_eq!(check(&|spqr| spqr.outliers.at = vec![1, 4]), Ok(()));
    let coded = |bits: u32, rows: usize, codes: usize, scales: usize, zeros: usize| Statistic::Coded {
        bits,
        rows,
        codes: vec![1; codes],
        scales: vec![1.0; scales],
        zeros: vec![1.0; zeros],
    };
    assert_eq!(check(&|spqr| spqr.scales = coded(1, 2, 4, 2, 2)), Ok(()));
    assert_eq!(check(&|spqr| spqr.scales = coded(8, 1, 4, 4, 4)), Ok(()));
    let fails: [(Change<'_>, &str); 22] = [
        (&|spqr| spqr.bits = 1, "codes of 1 bits; they have 2 to 8"),
        (&|spqr| spqr.bits = 9, "codes of 9 bits"),
        (&|spqr| spqr.group_size = 0, "groups of 0 columns in rows of 3"),
        (&|spqr| spqr.group_size = 4, "groups of 4 columns in rows of 3"),
        (&|spqr| spqr.codes.truncate(5), "the codes are 5, expected 6"),
        (&|spqr| spqr.codes[4] = 4, "the codes: 4 (element 4) has more than 2 bits"),
        (&|spqr| spqr.order = Some(vec![2, 0]), "the column order lists 2 columns of 3"),
        (&|spqr| spqr.order = Some(vec![2, 0, 0]), "the column order lists column 0 twice"),
        (&|spqr| spqr.order = Some(vec![2, 0, 3]), "the column order lists column 3 of 3"),
        (&|spqr| spqr.order = Some(vec![0, 1, 2]), "is that of the file, which is not stored"),
        (&|spqr| spqr.outliers.values.truncate(1), "1 outliers at 2 positions"),
        (&|spqr| spqr.outliers.at = vec![5, 1], "do not ascend to 6"),
        (&|spqr| spqr.outliers.at = vec![1, 1], "do not ascend to 6"),
        (&|spqr| spqr.outliers.at = vec![1, 6], "do not ascend to 6"),
        (&|spqr| spqr.outliers.values[1] = 1.001, "the outliers: 1.001 (element 1) is not a number of BF16"),
        (&|spqr| spqr.scales = Statistic::Integers(vec![1; 4]), "the scales are neither floats nor coded"),
        (&|spqr| spqr.scales = Statistic::Plain(vec![1.0; 3]), "the scales are 3, expected 4"),
        (&|spqr| spqr.zeros = Statistic::Constant(1.0), "the zeros are 1 everywhere"),
        (&|spqr| spqr.zeros = Statistic::Integers(vec![1, 2, 4, 0]), "the zeros: 4 (element 2) has more than 2 bits"),
        (&|spqr| spqr.scales = coded(9, 2, 4, 2, 2), "the scales are coded with 9 bits for 2 rows"),
        (&|spqr| spqr.scales = coded(3, 2, 4, 3, 2), "the scales have 3 and 2 statistics, expected 2"),
        (&|spqr| spqr.scales = coded(3, 0, 4, 2, 2), "the scales are coded with 3 bits for 0 rows"),
    ];
    for (change, words) in fails {
        let text = check(change).unwrap_err();
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = check(&|spqr| spqr.scales = coded(3, 2, 4, 2, 1)).unwrap_err();
    assert!(text.contains("have 2 and 1 statistics"), "{text}");
    assert!(small().check(0, 3, Dtype::Bf16).is_err() && small().check(2, 3, Dtype::I8).is_err());
}
