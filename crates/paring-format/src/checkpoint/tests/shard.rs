//! Parts of a tensor: never a byte of its neighbours.

use super::super::shard::{Extent, Shard, Strides};
use super::{TWO, open, raw};

/// Tensors of 24 and of 4 bytes, one after the other, and the first one's place.
fn two() -> (Shard, Extent) {
    let shard = Shard::built_in("two", raw(TWO, 28).leak());
    let place = shard.entries().unwrap().tensors.into_iter().find(|(name, _)| name == "a.weight").unwrap().1.place;
    assert_eq!((place.start, place.len), (8 + TWO.len(), 24));
    (shard, place)
}

fn looked(shard: &Shard, place: &Extent, offset: usize, len: usize, piece: usize) -> (bool, Vec<Vec<u8>>) {
    let mut pieces = Vec::new();
    let all = shard.look(place, offset, len, piece, |bytes| {
        pieces.push(bytes.to_vec());
        true
    });
    (all, pieces)
}

#[test]
fn a_part_ends_where_the_tensor_ends() {
    let (shard, place) = two();
    for offset in 0..40 {
        for len in 0..40 {
            let want = (offset + len <= 24).then(|| (offset as u8..(offset + len) as u8).collect::<Vec<u8>>());
            assert_eq!(shard.read(&place, offset, len), want, "{len} bytes from {offset}");
            let (all, pieces) = looked(&shard, &place, offset, len, 5);
            assert_eq!((all, pieces.concat()), (want.is_some(), want.unwrap_or_default()), "{len} bytes from {offset}");
            assert!(pieces.iter().all(|piece| piece.len() <= 5));
        }
    }
    for (offset, len) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
        assert_eq!(shard.read(&place, offset, len), None);
        assert_eq!(looked(&shard, &place, offset, len, 1), (false, vec![]));
    }
}

/// A tensor that lies in order is looked at where it is.
#[test]
fn tensors_in_order_are_not_copied() {
    let checkpoint = open(&raw(TWO, 28)).unwrap();
    let mut seen = Vec::new();
    let all = checkpoint.look(checkpoint.info("a.weight").unwrap(), 4, 16, 4, |piece| {
        seen.extend_from_slice(piece);
        true
    });
    assert!(all);
    assert_eq!(seen, (4..20).collect::<Vec<u8>>());
}

#[test]
fn a_look_ends_with_the_first_no() {
    let (shard, place) = two();
    let mut seen = 0;
    let all = shard.look(&place, 4, 20, 8, |_| {
        seen += 1;
        seen < 2
    });
    assert_eq!((all, seen), (false, 2));
}

#[test]
fn a_part_of_strided_elements_ends_where_they_end() {
    let (shard, place) = two();
    // The two bytes each of a transposed [4, 3].
    let strides = Strides { size: 2, dims: vec![(3, 1), (4, 3)] };
    let transposed = Extent { strides: Some(strides), ..place };
    let elements: Vec<u8> = (0..3).flat_map(|col| (0..4).map(move |row| 2 * (row * 3 + col))).collect();
    let bytes: Vec<u8> = elements.iter().flat_map(|&first| [first, first + 1]).collect();
    for offset in (0..40).step_by(2) {
        for len in (0..40).step_by(2) {
            let want = (offset + len <= 24).then(|| bytes[offset..offset + len].to_vec());
            assert_eq!(shard.read(&transposed, offset, len), want, "{len} bytes from {offset}");
            // Not in order, so that they are never shown.
            assert_eq!(looked(&shard, &transposed, offset, len, 2), (false, vec![]));
        }
    }
}

#[test]
fn a_place_beyond_the_file_is_none() {
    let (shard, place) = two();
    for start in [shard.len() - 23, shard.len(), usize::MAX - 8, usize::MAX] {
        let beyond = Extent { start, ..place.clone() };
        assert_eq!(shard.read(&beyond, 0, 24), None, "{start}");
        assert_eq!(looked(&shard, &beyond, 0, 24, 8), (false, vec![]), "{start}");
        shard.prefetch(&beyond);
        let strided = Extent { strides: Some(Strides { size: 2, dims: vec![(12, 1)] }), ..beyond };
        assert_eq!(shard.read(&strided, 0, 24), None, "{start}");
    }
}
