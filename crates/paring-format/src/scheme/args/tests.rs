//! The arguments of matrices of every kind.

use super::*;
use crate::testing::{Kept, Rng, SpqrKind, SpqrZeros};
use crate::{Dtype, Element};

#[test]
fn a_matrix_tells_how_it_was_quantized() {
    let mut rng = Rng(41);
    let mut strategy = |tile: [usize; 2], scale_type: ScaleType| {
        let c = rng.tiled([6, 8], Dtype::Bf16, Element::Int(4), tile, scale_type);
        let args = QuantArgs::of(&c).unwrap();
        assert_eq!((args.element, args.symmetric, args.scale_type), (Element::Int(4), true, scale_type));
        assert!(!args.float_zeros && !args.has_group_index() && args.second.is_none());
        args.strategy
    };
    assert_eq!(strategy([1, 4], ScaleType::Float), Strategy::Group(4));
    assert_eq!(strategy([1, 8], ScaleType::Float), Strategy::Channel);
    assert_eq!(strategy([6, 8], ScaleType::Float), Strategy::Tensor);
    for tile in [[2, 8], [6, 4], [3, 4]] {
        assert_eq!(strategy(tile, ScaleType::Float), Strategy::Block(tile[0], tile[1]));
    }
    // Scales in bytes are those of groups, even where a row is one.
    assert_eq!(strategy([1, 8], ScaleType::Exponent), Strategy::Group(8));
    assert_eq!(strategy([1, 8], ScaleType::E4m3), Strategy::TensorGroup(8));
    assert_eq!(QuantArgs::of(&rng.dense(2, 2, Dtype::F32)), None);
}

#[test]
fn zero_points_and_orders_are_told() {
    let mut c = Rng(42).codes(2, 8, Dtype::F32, 4, 4, false);
    let of = |c: &Compressed| QuantArgs::of(c).unwrap();
    assert!(!of(&c).symmetric && !of(&c).float_zeros && !of(&c).has_group_index());
    let Values::Codes { grid, .. } = &mut c.values else { unreachable!() };
    (grid.zeros, grid.group_index) = (Some(Zeros::Floats(vec![0.5; 4])), Some(vec![0, 1, 0, 1, 0, 1, 0, 1]));
    assert!(!of(&c).symmetric && of(&c).float_zeros && of(&c).has_group_index());
    assert!(!QuantArgs { actorder: Some("static".into()), ..of(&c) }.has_group_index());
}

#[test]
fn matrices_of_spqr_tell_what_is_coded_again() {
    let plain = SpqrKind { scale_bits: None, zeros: SpqrZeros::Float, kept: Kept::Share(0), ..SpqrKind::published() };
    let of = |kind: SpqrKind| {
        let args = QuantArgs::of(&Rng(43).spqr(4, 32, Dtype::F32, &kind)).unwrap();
        let second = args.second.map(|second| (second.scale_bits, second.zero_bits, second.rows));
        (args.strategy, args.symmetric, args.float_zeros, second)
    };
    let groups = Strategy::Group(16);
    assert_eq!(of(plain.clone()), (groups, false, true, None));
    let [constant, whole] = [SpqrZeros::Constant, SpqrZeros::Integers].map(|zeros| SpqrKind { zeros, ..plain.clone() });
    assert_eq!(of(constant), (groups, true, false, None));
    assert_eq!(of(whole), (groups, false, false, None));
    let scales = SpqrKind { scale_bits: Some(2), height: 3, ..plain.clone() };
    assert_eq!(of(scales), (groups, false, true, Some((Some(2), None, 3))));
    let zeros = SpqrKind { zeros: SpqrZeros::Coded(5), height: 2, ..plain.clone() };
    assert_eq!(of(zeros), (groups, false, true, Some((None, Some(5), 2))));
    assert_eq!(of(SpqrKind { group_size: 32, ..plain }).0, Strategy::Channel);
}

#[test]
fn columns_of_a_group() {
    let size = |strategy| QuantArgs { strategy, ..QuantArgs::new(Element::Int(4)) }.group_size(64);
    assert_eq!([Strategy::Channel, Strategy::Group(16), Strategy::TensorGroup(8)].map(size), [64, 16, 8].map(Some));
    for strategy in [Strategy::Tensor, Strategy::Block(2, 16), Strategy::Token, Strategy::Head] {
        assert_eq!(size(strategy), None, "{strategy}");
    }
}
