use super::*;
use crate::testing::Rng;
use crate::{Grid, Strategy, Values, Zeros};

/// Integer codes of any width, shape and strategy, and the scheme to store them under.
fn any(rng: &mut Rng, format: &str) -> (Scheme, Compressed) {
    let dtype = [Dtype::F32, Dtype::F16, Dtype::Bf16][rng.below(3)];
    let bits = 1 + rng.below(8) as u32;
    let (rows, group, groups) = (1 + rng.below(40), 1 + rng.below(70), 1 + rng.below(9));
    let cols = group * groups;
    let symmetric = rng.below(2) == 0;
    let mut c = rng.codes(rows, cols, dtype, bits, group, symmetric);
    let Values::Codes { grid, .. } = &mut c.values else { unreachable!() };
    if groups > 1 && rng.below(3) == 0 {
        let mut index: Vec<u32> = (0..cols).map(|col| (col / group) as u32).collect();
        (1..cols).for_each(|col| index.swap(col, rng.below(col + 1)));
        grid.group_index = Some(index);
    } else if rng.below(4) == 0 {
        grid.tile = [rows, cols];
        grid.scales.truncate(1);
        if let Some(Zeros::Codes(zeros)) = &mut grid.zeros {
            zeros.truncate(1);
        }
    }
    let mut scheme = Scheme::of(&c, format, vec![]);
    scheme.padded = rng.below(2) == 0;
    (scheme, c)
}

#[test]
fn whatever_is_stored_comes_back() {
    let mut rng = Rng(21);
    for name in ["int-quantized", "naive-quantized", "pack-quantized"] {
        let layout = layout(name).unwrap();
        let mut ordered = 0;
        for _ in 0..500 {
            let (scheme, c) = any(&mut rng, name);
            let Values::Codes { grid, .. } = &c.values else { unreachable!() };
            let parts = layout.encode(&scheme, &c).unwrap();
            assert_eq!(layout.decode(&scheme, parts.clone()).unwrap(), c, "{scheme:?}");
            ordered += usize::from(grid.group_index.is_some());
        }
        assert!(ordered > 50, "{name} {ordered}");
    }
}

#[test]
fn the_number_of_words_says_how_they_are_packed() {
    let mut rng = Rng(22);
    let packed = layout("pack-quantized").unwrap();
    let (mut told, mut doubtful) = (0, 0);
    for _ in 0..500 {
        let (scheme, c) = any(&mut rng, "pack-quantized");
        let parts = packed.encode(&scheme, &c).unwrap();
        let other = Scheme { padded: !scheme.padded, ..scheme.clone() };
        let rewritten = packed.encode(&other, &c).unwrap();
        if parts.iter().any(|(name, part)| rewritten[name].shape != part.shape) {
            assert_eq!(packed.decode(&other, parts.clone()).unwrap(), c, "{scheme:?}");
            told += 1;
        } else if parts != rewritten {
            assert_ne!(packed.decode(&other, parts.clone()).unwrap(), c, "{scheme:?}");
            doubtful += 1;
        }
    }
    assert!(told > 100 && doubtful > 5, "{told} {doubtful}");
}

#[test]
fn weights_and_zero_points_of_different_packings_are_refused() {
    let packed = layout("pack-quantized").unwrap();
    let c = Rng(23).codes(40, 64, Dtype::F32, 3, 16, false);
    let scheme = Scheme::of(&c, "pack-quantized", vec![]);
    let mut parts = packed.encode(&scheme, &c).unwrap();
    assert_eq!(parts["weight_packed"].shape, [40, 6]);
    let padded = packed.encode(&Scheme { padded: true, ..scheme.clone() }, &c).unwrap();
    assert_eq!((&padded["weight_packed"].shape[..], &padded["weight_scale"]), (&[40, 7][..], &parts["weight_scale"]));
    // 40 zero points of 3 bits take four words either way: the weight tells how they lie in them.
    assert_eq!(padded["weight_zero_point"].shape, parts["weight_zero_point"].shape);
    assert_eq!(packed.decode(&scheme, padded.clone()).unwrap(), c);

    let c = Rng(23).codes(64, 64, Dtype::F32, 3, 16, false);
    parts = packed.encode(&scheme, &c).unwrap();
    let padded = packed.encode(&Scheme { padded: true, ..scheme.clone() }, &c).unwrap();
    parts.insert("weight_zero_point", padded["weight_zero_point"].clone());
    let text = packed.decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert_eq!(text, "weight_zero_point: shape [7, 4], expected [6, 4]");
    parts = padded;
    parts.get_mut("weight_packed").unwrap().shape = vec![64, 8];
    parts.get_mut("weight_packed").unwrap().bytes.resize(64 * 8 * 4, 0);
    let text = packed.decode(&scheme, parts.clone()).unwrap_err().to_string();
    assert_eq!(text, "weight_packed: shape [64, 8], expected [64, 6]");
}

#[test]
fn groups_of_columns_are_checked() {
    let packed = layout("pack-quantized").unwrap();
    let mut c = Rng(25).codes(4, 12, Dtype::F32, 4, 4, false);
    let grid_of = |c: &mut Compressed, change: &dyn Fn(&mut Grid)| {
        let Values::Codes { grid, .. } = &mut c.values else { unreachable!() };
        change(grid);
    };
    let index = [2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2];
    grid_of(&mut c, &|grid| grid.group_index = Some(index.to_vec()));
    let scheme = Scheme::of(&c, "pack-quantized", vec![]);
    let parts = packed.encode(&scheme, &c).unwrap();
    let part = |index: &[i32]| {
        let bytes = index.iter().flat_map(|group| group.to_le_bytes()).collect();
        LayoutPart { dtype: Dtype::I32, shape: vec![index.len()], bytes }
    };
    assert_eq!(parts["weight_g_idx"], part(&index.map(|group| group as i32)));
    let with = |scheme: &Scheme, index: &[i32]| {
        let mut parts = parts.clone();
        parts.insert("weight_g_idx", part(index));
        packed.decode(scheme, parts.clone())
    };
    let check = |index: &[i32], expected: &str| {
        let text = with(&scheme, index).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(&[2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 3], "weight_g_idx: group 3 of column 11, expected 0 to 2");
    check(&[2, 0, 1, 1, 0, -2, 2, 0, 1, 1, 0, 0], "group -2 of column 5");
    check(&[2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 0], "weight_g_idx: group 0 has 5 columns, expected 4");
    check(&[0; 11], "weight_g_idx: shape [11], expected [12]");
    let mut missing = parts.clone();
    missing.remove("weight_g_idx");
    let text = packed.decode(&scheme, missing.clone()).unwrap_err().to_string();
    assert!(text.contains("no tensor weight_g_idx"), "{text}");

    // A group of -1 means that columns are in order; so it is written where the scheme asks for groups.
    let mut plain = c.clone();
    grid_of(&mut plain, &|grid| grid.group_index = None);
    assert_eq!(with(&scheme, &[2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, -1]).unwrap(), plain);
    assert_eq!(packed.encode(&scheme, &plain).unwrap()["weight_g_idx"], part(&[-1; 12]));
    // Stored groups count, whatever the scheme says; but they are not written unasked.
    let silent = Scheme::of(&plain, "pack-quantized", vec![]);
    assert_eq!(packed.decode(&silent, parts.clone()).unwrap(), c);
    assert!(packed.encode(&silent, &c).unwrap_err().to_string().contains("activation order"));
    let mut whole = scheme.clone();
    whole.weights.as_mut().unwrap().strategy = Strategy::Channel;
    let mut rows = parts.clone();
    rows.get_mut("weight_scale").unwrap().shape = vec![4, 1];
    rows.get_mut("weight_scale").unwrap().bytes.truncate(16);
    let text = packed.decode(&whole, rows.clone()).unwrap_err().to_string();
    assert!(text.contains("weight_g_idx belongs to scales by group"), "{text}");

    grid_of(&mut c, &|grid| grid.group_index.as_mut().unwrap()[0] = 1);
    let text = packed.encode(&scheme, &c).unwrap_err().to_string();
    assert!(text.contains("group 1 has 5 columns"), "{text}");
    grid_of(&mut c, &|grid| grid.group_index.as_mut().unwrap()[0] = u32::MAX);
    assert!(packed.encode(&scheme, &c).is_err());
}
