//! Merged weights against PEFT's, and codes against the nearest there are.

use paring_format::writer::write_file;
use paring_format::{Dtype, Element, Grid, Outliers, ScaleType, Spqr, Statistic, Zeros};

use super::*;

fn folder(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The demo under the 2:4 mask of magnitudes, in f32 as the golden data has it, or in another type.
fn pruned_demo(dir: &Path, dtype: Dtype) -> Arc<Checkpoint> {
    let demo = Checkpoint::open(&folder("crates/paring-cli/demo")).unwrap();
    let tensors = demo.names().map(|name| {
        let shape = demo.info(name).unwrap().shape.clone();
        let mut values = demo.read_f32(name, &shape).unwrap();
        if name.ends_with("_proj.weight") {
            for four in values.chunks_exact_mut(4) {
                let mut order = [0, 1, 2, 3];
                // The first of equals goes first.
                order.sort_by(|&a, &b| four[a].abs().total_cmp(&four[b].abs()));
                order[..2].iter().for_each(|&i| four[i] = 0.0);
            }
        }
        NamedTensor { name: name.to_string(), dtype, shape, bytes: dtype.encode(&values) }
    });
    write_file(&dir.join("model.safetensors"), tensors.collect()).unwrap();
    std::fs::write(dir.join("config.json"), demo.config().to_string()).unwrap();
    Arc::new(Checkpoint::open(dir).unwrap())
}

fn golden(name: &str) -> Arc<Adapter> {
    Arc::new(Adapter::open(&folder("tests/golden/training/lora").join(name)).unwrap())
}

fn run(base: &Arc<Checkpoint>, adapter: &Arc<Adapter>, masks: Option<Masks>, out: &Path) -> (Merged, Checkpoint) {
    let how = Merging { adapter: Arc::clone(adapter), masks, dry_run: false };
    let made = merge(base, &how, out, Vec::new(), false, &mut ()).unwrap();
    (made, Checkpoint::open(out).unwrap())
}

/// ±1, as the golden data's README has it.
fn sign(i: usize) -> f64 {
    if (i as u64 * 2_654_435_761) & 0xffff_ffff < 1 << 31 { 1.0 } else { -1.0 }
}

/// Compares the merged weights with the sampled ones whose names have this prefix. Returns how many there are.
fn compare(made: &Checkpoint, file: &Path, prefix: &str) -> usize {
    let golden = Checkpoint::open_file(file).unwrap();
    let mut count = 0;
    for name in golden.names().filter(|name| name.starts_with(prefix) && name.ends_with(".weight")) {
        let read = |name: &str| golden.read_f32(name, &golden.info(name).unwrap().shape).unwrap();
        let shape = made.info(&name[prefix.len()..]).unwrap().shape.clone();
        let weight = made.read_f32(&name[prefix.len()..], &shape).unwrap();
        let cols = shape[1];
        let near = |got: f64, expected: f32, within: f64, what: &str| {
            assert!((got - f64::from(expected)).abs() < within, "{name}, {what}: {got}, expected {expected}");
        };
        for (row, expected) in read(name).chunks_exact(cols).enumerate() {
            for (col, &expected) in expected.iter().enumerate() {
                near(f64::from(weight[row * 8 * cols + col]), expected, 1e-6, "a row");
            }
        }
        // Sums of some hundred weights, each within 1e-6.
        let rows = weight.chunks_exact(cols);
        for (row, expected) in rows.clone().zip(read(&format!("{name}.row_dot"))) {
            near(row.iter().enumerate().map(|(i, &w)| sign(i) * f64::from(w)).sum(), expected, 1e-5, "row_dot");
        }
        for (col, expected) in read(&format!("{name}.col_dot")).into_iter().enumerate() {
            near(
                rows.clone().enumerate().map(|(i, row)| sign(i) * f64::from(row[col])).sum(),
                expected,
                1e-5,
                "col_dot",
            );
        }
        count += 1;
    }
    count
}

#[test]
fn merged_weights_are_peft_s() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("base")).unwrap();
    let base = pruned_demo(&dir.path().join("base"), Dtype::F32);
    // What was trained under the mask has the settings of `qv`.
    let masked = dir.path().join("adapter");
    std::fs::create_dir(&masked).unwrap();
    let lora = folder("tests/golden/training/lora");
    std::fs::copy(lora.join("qv/adapter_config.json"), masked.join("adapter_config.json")).unwrap();
    std::fs::copy(lora.join("qv_masked/adapter_model.safetensors"), masked.join("adapter_model.safetensors")).unwrap();
    let masked = Arc::new(Adapter::open(&masked).unwrap());
    for (name, adapter, count, shown) in
        [("qv", golden("qv"), 12, 12), ("all", golden("all"), 42, 14), ("qv_masked", masked, 12, 12)]
    {
        let file = lora.join(name).join("merged.safetensors");
        let (made, kept) = run(&base, &adapter, None, &dir.path().join(format!("{name}-kept")));
        assert_eq!((made.merged, made.masked, made.rounded), (count, count, 0));
        assert_eq!(compare(&kept, &file, "masked."), shown);
        assert_eq!((made.loss.zeros_before, made.loss.zeros_after), (0.5, 0.5));
        assert!(made.loss.masked > 0.3 && made.loss.rounding < 1e-3 && made.loss.distance > 0.0, "{:?}", made.loss);
        for name in kept.names().filter(|name| name.ends_with("_proj.weight")) {
            let values = |c: &Checkpoint| c.read_f32(name, &c.info(name).unwrap().shape).unwrap();
            let (before, after) = (values(&base), values(&kept));
            assert!(before.iter().zip(&after).all(|(b, a)| *b != 0.0 || a.to_bits() == b.to_bits()), "{name}");
        }
        if name == "qv_masked" {
            continue;
        }
        let (made, filled) = run(&base, &adapter, Some(Masks::Drop), &dir.path().join(format!("{name}-filled")));
        assert_eq!(compare(&filled, &file, "plain."), shown);
        assert!(made.masked == 0 && made.loss.zeros_after < 1e-3 && made.loss.masked == 0.0, "{:?}", made.loss);
        assert!(made.notes.iter().any(|note| note.starts_with("zeros were not kept: 50.0 %")), "{:?}", made.notes);
        // What is not adapted is what it was.
        let rest = base.names().filter(|name| name.ends_with("norm.weight") || name.contains("embed"));
        rest.for_each(|name| assert!(base.read(name).unwrap() == filled.read(name).unwrap(), "{name}"));
    }
}

#[test]
fn bfloat16_is_rounded_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("base")).unwrap();
    let (base, adapter) = (pruned_demo(&dir.path().join("base"), Dtype::Bf16), golden("qv"));
    let (made, merged) = run(&base, &adapter, Some(Masks::Drop), &dir.path().join("out"));
    for (module, pair) in &adapter.pairs {
        let read = |c: &Checkpoint| c.read_f32(&format!("{module}.weight"), &[pair.rows, pair.cols]).unwrap();
        let change = paring_kernels::low_rank::change(&pair.a, &pair.b, pair.scale, (pair.rank, pair.cols));
        let expected = read(&base).iter().zip(change).map(|(w, c)| Dtype::Bf16.round(w + c)).collect::<Vec<_>>();
        assert!(read(&merged) == expected, "{module}");
    }
    assert!(made.loss.rounding > 0.0 && made.loss.vanished > 0.0 && made.loss.vanished < 0.5, "{:?}", made.loss);
    // The numbers of a merge that is not written are the same.
    let how = Merging { adapter, masks: Some(Masks::Drop), dry_run: true };
    let dry = super::merge(&base, &how, &dir.path().join("none"), Vec::new(), false, &mut ()).unwrap();
    assert!(dry.out.is_none() && dry.bytes_out.is_none() && !dir.path().join("none").exists());
    assert_eq!(json!(dry.loss), json!(made.loss));
}

/// Numbers in -1..1 that look random.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + seed) * 2_654_435_761 % 4093) as f32 / 2046.5 - 1.0).collect()
}

fn pair(rows: usize, cols: usize, scale: f32) -> Pair {
    Pair::new(2, (rows, cols), numbers(2 * cols, 5), numbers(2 * rows, 9), scale).unwrap()
}

/// Matrices of codes `[6, 32]` in f32: integers with zero points, floats of 4 bits under two scales, SpQR in another order.
fn coded() -> Vec<Compressed> {
    let (rows, cols) = (6, 32);
    let scales = || numbers(rows * 2, 3).iter().map(|v| 0.1 + v.abs() / 16.0).collect::<Vec<f32>>();
    let codes = |bits: usize| (0..rows * cols).map(|i| (i * 7 % (1 << bits)) as i8 - (1 << (bits - 1))).collect();
    let ints = Grid::int(4, 16, scales(), Some((0..rows * 2).map(|i| (i % 5) as i8 - 2).collect()));
    let float_zeros = Grid { zeros: Some(Zeros::Floats(numbers(rows * 2, 1))), ..Grid::int(4, 16, scales(), None) };
    let floats = Grid {
        element: Element::E2m1,
        scale_type: ScaleType::E4m3,
        global: Some(4.0),
        ..Grid::int(4, 16, vec![1.5; rows * 2], None)
    };
    let spqr = Spqr {
        bits: 3,
        group_size: 16,
        order: Spqr::order_of((0..cols as u32).rev().collect()),
        codes: (0..rows * cols).map(|i| (i * 5 % 8) as u8).collect(),
        scales: Statistic::Plain(scales()),
        zeros: Statistic::Plain(vec![3.5; rows * 2]),
        outliers: Outliers { at: vec![3, 40, 41, 191], values: vec![2.0, -3.0, 1.5, 4.0] },
    };
    let of = |values| Compressed { rows, cols, dtype: Dtype::F32, values };
    let bytes: Vec<i8> = (0..rows * cols).map(|i| (i * 3 % 16) as i8).collect();
    vec![
        of(Values::Codes { codes: codes(4), grid: ints }),
        of(Values::Codes { codes: codes(4), grid: float_zeros }),
        of(Values::Codes { codes: bytes, grid: floats }),
        of(Values::Spqr(Box::new(spqr))),
    ]
}

/// The matrix with one code another one, at this place of its list.
fn with_code(c: &Compressed, at: usize, code: u8) -> Compressed {
    let mut c = c.clone();
    match &mut c.values {
        Values::Codes { codes, .. } => codes[at] = code as i8,
        Values::Spqr(spqr) => spqr.codes[at] = code,
        Values::Dense(_) => {}
    }
    c
}

#[test]
fn codes_are_the_nearest_on_their_grids() {
    for c in coded() {
        let (before, pair) = (c.to_dense(), pair(c.rows, c.cols, 0.3));
        let change = paring_kernels::low_rank::change(&pair.a, &pair.b, pair.scale, (2, c.cols));
        let (made, sums) = weights::merged("x", c.clone(), &pair, false).unwrap();
        let after = made.to_dense();
        let outliers = made.outlier_mask().unwrap_or_else(|| vec![0; after.len()]);
        assert!(before != after);
        let codes: Vec<u8> = match &c.values {
            Values::Codes { grid, .. } => match grid.element {
                Element::Int(_) => (-8i8..8).map(|code| code as u8).collect(),
                _ => (0..16).collect(),
            },
            _ => (0..8).collect(),
        };
        for code in codes {
            for at in 0..after.len() {
                let other = with_code(&made, at, code).to_dense();
                for (i, (other, after)) in
                    other.iter().zip(&after).enumerate().filter(|(_, (other, after))| other != after)
                {
                    let (target, slack) = (f64::from(before[i]) + f64::from(change[i]), 1e-5);
                    let far = |value: f32| (f64::from(value) - target).abs();
                    assert!(far(*after) <= far(*other) + slack, "{i}: {after} for {target}, {other} is nearer");
                    assert_eq!(outliers[i], 0);
                }
            }
        }
        for i in (0..after.len()).filter(|&i| outliers[i] == 1) {
            assert_eq!(after[i], before[i] + change[i], "an outlier");
        }
        let loss = sums.loss();
        assert!(loss.rounding > 0.0 && loss.rounding < 1.0 && loss.vanished > 0.0 && loss.vanished < 1.0, "{loss:?}");
        // By less than half a unit nothing moves but what is exact.
        let (same, sums) = weights::merged("x", c.clone(), &super::tests::pair(c.rows, c.cols, 1e-4), false).unwrap();
        let moved = same.to_dense().iter().zip(&before).filter(|(a, b)| a != b).count();
        assert_eq!(moved, outliers.iter().filter(|&&o| o == 1).count());
        assert!(sums.loss().rounding > 0.85 && sums.loss().vanished > 0.9, "{:?}", sums.loss());
        // Kept zeros stay.
        let zeros = before.iter().filter(|&&v| v == 0.0).count();
        let (kept, _) = weights::merged("x", c, &pair, true).unwrap();
        assert!(before.iter().zip(kept.to_dense()).filter(|(b, a)| **b == 0.0 && *a == 0.0).count() == zeros);
    }
}

#[test]
fn pruned_matrices_are_told_from_others() {
    let of = |values| Compressed { rows: 2, cols: 16, dtype: Dtype::F32, values };
    let is = |c: Compressed| weights::is_pruned(&c, &c.to_dense());
    let dense = |zeros: usize| of(Values::Dense((0..32).map(|i| if i * 5 % 32 < zeros { 0.0 } else { 1.0 }).collect()));
    assert!(!is(dense(0)) && !is(dense(1)) && is(dense(8)));
    let codes = |bits: u32, zero: &dyn Fn(usize) -> bool| {
        let codes = (0..32).map(|i| if zero(i) { 0 } else { -1 }).collect();
        of(Values::Codes { codes, grid: Grid::int(bits, 16, vec![1.0; 2], None) })
    };
    assert!(is(codes(2, &|i| i % 4 < 2)) && is(codes(4, &|i| i % 8 < 4)));
    // More than half of them, in no pattern: at 2 bits rounding alone does that.
    assert!(!is(codes(2, &|i| i % 16 < 9)) && is(codes(4, &|i| i % 16 < 9)) && !is(codes(4, &|i| i % 4 == 0)));
}
