//! Codes of dense weights by hand, and grids that do not fit.

use super::*;

#[test]
fn elements_by_their_codes() {
    assert_eq!([Element::Int(3), Element::E4m3, Element::E2m1].map(Element::bits), [3, 8, 4]);
    assert_eq!([Element::Int(3), Element::E4m3].map(Element::int_bits), [Some(3), None]);
    assert_eq!(Element::Int(3).range(), (-4.0, 3.0));
    assert_eq!([Element::E4m3, Element::E2m1].map(Element::range), [(-448.0, 448.0), (-6.0, 6.0)]);
    for (value, code) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (2.5, 2), (9.0, 3), (-9.0, -4), (f32::NAN, 0)] {
        assert_eq!(Element::Int(3).code(value), code, "{value}");
    }
    assert_eq!((Element::E4m3.code(448.0), Element::E2m1.code(-1.5)), (0x7e, 0b1011));
    assert_eq!(
        (Element::Int(4).to_string(), Element::E2m1.to_string()),
        ("4-bit integers".into(), "4-bit floats".into())
    );
}

#[test]
fn weights_get_the_nearest_code_of_their_group() {
    let grid = Grid { scales: vec![0.5, 1.0, 2.0, 0.25], ..Grid::int(4, 2, Vec::new(), None) };
    let dense = [0.5f32, -0.75, 3.0, 9.0, -3.0, 40.0, 0.3, -9.0];
    assert_eq!(grid.quantize(&dense, 4, Dtype::F32).unwrap(), [1, -2, 3, 7, -2, 7, 1, -8]);
    let moved = Grid { group_index: Some(vec![1, 0, 0, 1]), ..grid.clone() };
    assert_eq!(moved.quantize(&dense, 4, Dtype::F32).unwrap(), [0, -2, 6, 7, -8, 7, 0, -8]);
    let shifted = Grid { zeros: Some(Zeros::Codes(vec![1, 0, -3, 2])), ..grid.clone() };
    assert_eq!(shifted.quantize(&dense, 4, Dtype::F32).unwrap(), [2, 0, 3, 7, -4, 7, 3, -8]);
    let global = Grid { scale_type: ScaleType::E4m3, global: Some(2.0), element: Element::E2m1, ..grid.clone() };
    let wanted = [2.0f32, -3.0, 6.0, 6.0, -3.0, 6.0, 2.0, -6.0].map(|value| Element::E2m1.code(value));
    assert_eq!(global.quantize(&dense, 4, Dtype::F32).unwrap(), wanted);
    // A tile of several rows.
    let tall = Grid { tile: [2, 4], scales: vec![1.0], ..grid.clone() };
    assert_eq!(tall.quantize(&dense, 4, Dtype::F32).unwrap(), [0, -1, 3, 7, -3, 7, 0, -8]);
    // Every step is rounded to the type of the weights: 101.33 to 101.5, which is as far from 101 as from 102.
    let thirds = Grid { scales: vec![3.0], ..Grid::int(8, 2, Vec::new(), None) };
    let codes = [Dtype::F32, Dtype::Bf16].map(|dtype| thirds.quantize(&[304.0, -304.0], 2, dtype).unwrap());
    assert_eq!(codes, [[101, -101], [102, -102]]);
    let none = Grid { scales: vec![0.5, 0.0, 2.0, 0.25], ..grid };
    let text = none.quantize(&dense, 4, Dtype::F32).unwrap_err().to_string();
    assert!(text.contains("weight_scale: 0 (element 1)"), "{text}");
}

#[test]
fn grids_that_do_not_fit_are_named() {
    let good = Grid::int(4, 2, vec![1.0; 6], Some(vec![0; 6]));
    let check = |grid: &Grid, rows: usize, cols: usize, dtype: Dtype| {
        grid.check(&vec![0; rows.saturating_mul(cols).min(99)], rows, cols, dtype).map_err(|error| error.to_string())
    };
    assert_eq!(check(&good, 3, 4, Dtype::F32), Ok(()));
    let with = |change: fn(&mut Grid)| {
        let mut grid = good.clone();
        change(&mut grid);
        grid
    };
    for (grid, rows, cols, dtype, words) in [
        (good.clone(), 0, 4, Dtype::F32, "F32 [0, 4] is not the type and shape of a weight"),
        (good.clone(), usize::MAX, 4, Dtype::F32, "is not the type and shape of a weight"),
        (good.clone(), 3, 4, Dtype::I8, "I8 [3, 4] is not the type and shape of a weight"),
        (good.clone(), 3, 5, Dtype::F32, "15 codes, 6 scales and 6 zero points, expected 15 and 9"),
        (with(|grid| grid.tile = [0, 2]), 3, 4, Dtype::F32, "a scale for each 0 by 2 weights do not fit [3, 4]"),
        (with(|grid| grid.tile = [4, 2]), 3, 4, Dtype::F32, "a scale for each 4 by 2 weights do not fit [3, 4]"),
        (with(|grid| grid.tile = [1, 0]), 3, 4, Dtype::F32, "a scale for each 1 by 0 weights do not fit [3, 4]"),
        (with(|grid| grid.tile = [1, 5]), 3, 4, Dtype::F32, "a scale for each 1 by 5 weights do not fit [3, 4]"),
        (with(|grid| grid.element = Element::Int(9)), 3, 4, Dtype::F32, "9-bit integers with a scale for each"),
        (with(|grid| grid.element = Element::Int(0)), 3, 4, Dtype::F32, "0-bit integers with a scale for each"),
        (with(|grid| grid.scales.push(1.0)), 3, 4, Dtype::F32, "12 codes, 7 scales and 6 zero points, expected 12"),
        (with(|grid| grid.zeros = Some(Zeros::Floats(vec![0.0; 5]))), 3, 4, Dtype::F32, "6 scales and 5 zero points"),
        (with(|grid| grid.global = Some(1.0)), 3, 4, Dtype::F32, "only scales of 8-bit floats have a global scale"),
        (
            with(|grid| grid.scale_type = ScaleType::E4m3),
            3,
            4,
            Dtype::F32,
            "only scales of 8-bit floats have a global scale",
        ),
        (with(|grid| grid.group_index = Some(vec![0; 3])), 3, 4, Dtype::F32, "3 group numbers for 4 columns in 2"),
        (with(|grid| grid.group_index = Some(vec![0, 1, 2, 0])), 3, 4, Dtype::F32, "4 group numbers for 4 columns"),
    ] {
        let text = check(&grid, rows, cols, dtype).unwrap_err();
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = good.check(&[0; 11], 3, 4, Dtype::F32).unwrap_err().to_string();
    assert!(text.contains("11 codes, 6 scales"), "{text}");
    assert_eq!(check(&with(|grid| grid.group_index = Some(vec![0, 1, 1, 0])), 3, 4, Dtype::Bf16), Ok(()));
    assert_eq!((good.tiles(3, 5), good.groups(5), good.group_of(3)), ([3, 3], 3, 1));
}
