mod labels;
mod lenient;
mod linear;
mod official;
mod shard;
mod sparse;

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::Dtype;
use crate::testing::Rng;
#[cfg(target_os = "linux")]
use crate::testing::kept_pages;

/// A safetensors file of this header and this many bytes of data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Opens a folder with an empty configuration and one file.
fn open(file: &[u8]) -> Result<Checkpoint> {
    let dir = folder(&[(CONFIG, b"{}"), (SINGLE, file)]);
    Checkpoint::open(dir.path())
}

/// The one-line text of an error, which must name all `parts`.
fn check_error<T>(result: Result<T>, parts: &[&str]) {
    let text = result.err().expect("an error").to_string();
    assert!(!text.contains('\n'), "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

const TWO: &str = r#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I8","shape":[4],"data_offsets":[24,28]}}"#;

#[test]
fn reads_what_is_there() {
    let dir = folder(&[(CONFIG, br#"{"model_type": "llama"}"#), (SINGLE, &raw(TWO, 28))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a.weight", "b"]);
    assert_eq!(checkpoint.config()["model_type"], "llama");
    assert_eq!(checkpoint.dir(), Some(dir.path()));
    assert_eq!(checkpoint.describe(), dir.path().display().to_string());
    assert_eq!(checkpoint.config_path(), dir.path().join(CONFIG));
    assert_eq!((checkpoint.total_bytes(), checkpoint.file_bytes()), (28, raw(TWO, 28).len() as u64));
    assert_eq!(checkpoint.quant_config().unwrap(), None);
    let info = checkpoint.info("a.weight").unwrap();
    assert_eq!((info.dtype, &info.shape[..], &info.file[..], info.bytes()), (Dtype::F32, &[2, 3][..], SINGLE, 24));

    // Twice: pages given back after the first time come again from the file.
    for _ in 0..2 {
        assert_eq!(checkpoint.read("a.weight").unwrap(), (0..24).collect::<Vec<u8>>());
        assert_eq!(checkpoint.read("b").unwrap(), [24, 25, 26, 27]);
    }
    assert_eq!(checkpoint.read_rows("a.weight", 1, 1).unwrap(), (12..24).collect::<Vec<u8>>());
    assert!(checkpoint.read_rows("a.weight", 2, 0).unwrap().is_empty());
    let floats = checkpoint.read_f32("a.weight", &[2, 3]).unwrap();
    assert_eq!(floats[1], f32::from_le_bytes([4, 5, 6, 7]));
    assert_eq!(checkpoint.read_rows_f32("a.weight", 1, 1).unwrap(), floats[3..]);

    check_error(checkpoint.read_rows("a.weight", 1, 2), &["a.weight", "2 rows"]);
    check_error(checkpoint.read_rows("a.weight", usize::MAX, 2), &["a.weight"]);
    check_error(checkpoint.read_f32("a.weight", &[3, 2]), &["a.weight", "[2, 3]", "[3, 2]", SINGLE]);
    check_error(checkpoint.read_f32("b", &[4]), &["b", "I8", "float"]);
    check_error(checkpoint.read("a.bias"), &["a.bias", "nearest it has a.weight"]);
    check_error(checkpoint.read("norm"), &["norm", "2 others", "a.weight"]);
}

/// Pages that were read do not stay with the process: a model larger than memory can be walked through.
#[cfg(target_os = "linux")]
#[test]
fn pages_are_given_back() {
    let (tensors, each) = (16, 2 << 20);
    let list =
        |i| format!(r#""t{i}":{{"dtype":"I8","shape":[{each}],"data_offsets":[{},{}]}}"#, i * each, (i + 1) * each);
    let header = format!("{{{}}}", (0..tensors).map(list).collect::<Vec<_>>().join(","));
    let checkpoint = open(&raw(&header, tensors * each)).unwrap();
    let kept = kept_pages(&checkpoint);
    assert!(kept < 8 << 10, "{kept} kB of 32 MB stayed");
}

#[test]
fn a_built_in_model_reads_the_same() {
    let shard: &'static [u8] = Box::leak(raw(TWO, 28).into_boxed_slice());
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let checkpoint = Checkpoint::from_memory("demo", r#"{"vocab_size": 3}"#, &[("demo.safetensors", shard)]).unwrap();
    let checkpoint = shared(checkpoint);
    assert_eq!((checkpoint.dir(), checkpoint.describe().as_str()), (None, "demo (built in)"));
    assert_eq!(checkpoint.read("b").unwrap(), [24, 25, 26, 27]);
    check_error(checkpoint.read("c"), &["demo (built in)", "c"]);
    check_error(Checkpoint::from_memory("demo", "[]", &[]), &["demo", "not a JSON object"]);
    check_error(Checkpoint::from_memory("demo", "{", &[]), &["demo", "not valid JSON"]);
    let twice = Checkpoint::from_memory("demo", "{}", &[("x", shard), ("y", shard)]);
    check_error(twice, &["y", "a.weight", "so does x"]);
}

#[test]
fn a_folder_without_a_model() {
    let dir = folder(&[]);
    check_error(Checkpoint::open(&dir.path().join("nowhere")), &["nowhere", "not found", "org/model"]);
    check_error(Checkpoint::open(dir.path()), &["no config.json"]);
    let dir = folder(&[(CONFIG, b"{}")]);
    check_error(Checkpoint::open(&dir.path().join(CONFIG)), &["not a folder"]);
    check_error(Checkpoint::open(dir.path()), &["neither model.safetensors nor model.safetensors.index.json"]);
    check_error(Checkpoint::open(dir.path()), &["no pytorch_model.bin or its index"]);
    let dir = folder(&[("model-Q4.gguf", b"GGUF")]);
    let instead = "GGUF is not read; use the original Hugging Face folder";
    check_error(Checkpoint::open(dir.path()), &["no config.json", "it has model-Q4.gguf", instead]);
    check_error(Checkpoint::open(&dir.path().join("model-Q4.gguf")), &["model-Q4.gguf: ", instead]);
    let dir = folder(&[(CONFIG, b"{}"), ("model.GGUF", b"GGUF")]);
    check_error(Checkpoint::open(dir.path()), &["neither model.safetensors", "it has model.GGUF", instead]);
    let dir = folder(&[(CONFIG, b"{}"), ("tf_model.h5", b"")]);
    check_error(Checkpoint::open(dir.path()), &["tf_model.h5", "convert"]);
    let dir = folder(&[(CONFIG, b"{}"), ("pytorch_model.bin", b"")]);
    check_error(Checkpoint::open(dir.path()), &["pytorch_model.bin", "0 bytes"]);
    let dir = folder(&[(CONFIG, b"{\"a\": "), (SINGLE, &raw("{}", 0))]);
    check_error(Checkpoint::open(dir.path()), &[CONFIG, "not valid JSON"]);
    let dir = folder(&[(CONFIG, "[".repeat(100_000).as_bytes()), (SINGLE, &raw("{}", 0))]);
    check_error(Checkpoint::open(dir.path()), &[CONFIG, "not valid JSON"]);
}

#[test]
fn files_that_lie() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    // Only a header, and tensors without elements, are fine.
    assert_eq!(open(&raw("{}", 0)).unwrap().names().count(), 0);
    assert_eq!(open(&raw(r#"{"__metadata__":{"format":"pt"}}  "#, 0)).unwrap().names().count(), 0);
    let empty = open(&raw(&tensor("F32", "[0,9223372036854775807]", "[0,0]"), 0));
    assert!(empty.is_err() || empty.unwrap().read("t").unwrap().is_empty());
    let empty = open(&raw(&tensor("F32", "[3,0]", "[0,0]"), 0)).unwrap();
    assert!(empty.read_f32("t", &[3, 0]).unwrap().is_empty());
    assert!(empty.read_rows_f32("t", 1, 2).unwrap().is_empty());

    check_error(open(b""), &[SINGLE, "0 bytes"]);
    check_error(open(b"1234567"), &[SINGLE, "7 bytes"]);
    check_error(open(&u64::MAX.to_le_bytes()), &[SINGLE, "18446744073709551615 bytes"]);
    check_error(open(&1_000u64.to_le_bytes()), &[SINGLE, "1000 bytes", "cut off"]);
    check_error(open(&raw("not json", 0)), &[SINGLE, "bad header"]);
    check_error(open(&raw("[]", 0)), &[SINGLE, "bad header"]);
    check_error(open(&raw(&"[".repeat(100_000), 0)), &[SINGLE, "bad header"]);
    check_error(open(&raw("\"\u{1}\n\n\"", 0)), &[SINGLE]);
    let whole = raw(TWO, 28);
    for cut in [1, 5, 27, 28, 40, whole.len() - 9] {
        check_error(open(&whole[..whole.len() - cut]), &[SINGLE, "cut off"]);
    }
    check_error(open(&raw(TWO, 29)), &[SINGLE, "28 bytes", "29"]);
    check_error(open(&raw(&tensor("F32", "[2]", "[0,8]"), 4)), &["8 bytes", "cut off"]);
    check_error(open(&raw(&tensor("F32", "[2]", "[4,12]"), 12)), &["invalid offset"]);
    check_error(open(&raw(&tensor("F32", "[2]", "[8,0]"), 8)), &["invalid offset"]);
    check_error(open(&raw(&tensor("F32", "[3]", "[0,8]"), 8)), &["invalid shape"]);
    check_error(open(&raw(&tensor("F32", "[-2]", "[0,8]"), 8)), &["bad header"]);
    check_error(open(&raw(&tensor("F32", "[4294967296,4294967296,4]", "[0,8]"), 8)), &["overflow"]);
    check_error(open(&raw(&tensor("F32", "[4611686018427387905]", "[0,4]"), 4)), &["overflow"]);
    check_error(open(&raw(&tensor("F32", "[2]", "[0,18446744073709551615]"), 8)), &[SINGLE]);
    check_error(open(&raw(&tensor("F33", "[2]", "[0,8]"), 8)), &["F33"]);
    check_error(open(&raw(&tensor("U64", "[1]", "[0,8]"), 8)), &["t has the type U64"]);
    let overlap =
        r#"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[4],"data_offsets":[2,6]}}"#;
    check_error(open(&raw(overlap, 6)), &["invalid offset"]);
    let hole =
        r#"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[4],"data_offsets":[8,12]}}"#;
    check_error(open(&raw(hole, 12)), &["invalid offset"]);
    // Eight tensors of 2^61 bytes: their sum is 0 where additions wrap.
    let mut wrap = String::from("{");
    let step = 1u64 << 61;
    for i in 0..8u64 {
        let (start, end) = (i * step, (i + 1).wrapping_mul(step).wrapping_sub(u64::from(i == 7)));
        let len = end.wrapping_sub(start);
        wrap += &format!(
            r#"{}"t{i}":{{"dtype":"I8","shape":[{len}],"data_offsets":[{start},{end}]}}"#,
            if i > 0 { "," } else { "" }
        );
    }
    check_error(open(&raw(&(wrap + "}"), 16)), &[SINGLE]);
}

#[test]
fn shards_and_their_index() {
    let a = raw(r#"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#, 4);
    let b = raw(r#"{"b":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, 2);
    let open = |index: &str| {
        let dir = folder(&[(CONFIG, b"{}"), (INDEX, index.as_bytes()), ("1.safetensors", &a), ("2.safetensors", &b)]);
        Checkpoint::open(dir.path())
    };
    let good = open(r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#).unwrap();
    assert_eq!(good.read("b").unwrap(), [0, 1]);
    assert_eq!(good.info("a").unwrap().file, "1.safetensors");
    check_error(open("{}"), &[INDEX, "weight_map"]);
    check_error(open("[1"), &[INDEX, "not valid JSON"]);
    check_error(open(r#"{"weight_map": {"a": 1}}"#), &[INDEX, "the shard of a: invalid type: integer `1`"]);
    check_error(open(r#"{"weight_map": {"a": "3.safetensors"}}"#), &[INDEX, "3.safetensors", "not in the folder"]);
    check_error(open(r#"{"weight_map": {"a": "2.safetensors"}}"#), &["2.safetensors", "says that a is in here"]);
    check_error(open(r#"{"weight_map": {"a": "1.safetensors", "c": "2.safetensors"}}"#), &["2.safetensors", "c"]);
    for name in ["../1.safetensors", "/1.safetensors", "x/1.safetensors", "..", ".", "", "x\\\\1.safetensors", "c:1"] {
        check_error(open(&format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#)), &[INDEX, "not the name of a file"]);
    }
    let twice = folder(&[
        (CONFIG, b"{}"),
        (INDEX, br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#),
        ("1.safetensors", &a),
        ("2.safetensors", &a),
    ]);
    check_error(Checkpoint::open(twice.path()), &["2.safetensors", "holds a, and so does 1.safetensors"]);
}

#[test]
fn numbers_that_are_none() {
    let header = r#"{"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;
    let mut file = raw(header, 12);
    let at = file.len() - 4;
    file[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
    let checkpoint = open(&file).unwrap();
    check_error(checkpoint.read_f32("w", &[2, 3]), &[SINGLE, "w", "NaN", "row 1, column 1", "element 4"]);
    check_error(checkpoint.read_rows_f32("w", 1, 1), &["row 1, column 1", "element 4"]);
    check_error(checkpoint.read_linear("w", 2, 3), &["w.weight"]);
    assert!(checkpoint.read_rows_f32("w", 0, 1).is_ok());
}

/// Rows that are longer than what is decoded at once, in every float type, with one infinity.
#[test]
fn long_rows_are_decoded_where_they_lie() {
    let (rows, cols, bad) = (3, 10_000, 25_001);
    let mut rng = Rng(7);
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut values: Vec<f32> = (0..rows * cols).map(|_| rng.float(dtype)).collect();
        let stored = |values: &[f32]| {
            let bytes = dtype.encode(values);
            let info = json!({"dtype": dtype.name(), "shape": [rows, cols], "data_offsets": [0, bytes.len()]});
            let mut file = raw(&json!({"m.weight": info}).to_string(), 0);
            file.extend(bytes);
            let dir = folder(&[(CONFIG, b"{}"), (SINGLE, &file)]);
            (Checkpoint::open(dir.path()).unwrap(), dir)
        };
        let (whole, _dir) = stored(&values);
        assert_eq!(whole.read_f32("m.weight", &[rows, cols]).unwrap(), values);
        assert_eq!(whole.read_rows_f32("m.weight", 1, 2).unwrap(), values[cols..]);
        assert_eq!(whole.read_rows_f32("m.weight", 3, 0).unwrap(), [0.0; 0]);
        check_error(whole.read_rows_f32("m.weight", 2, 2), &["m.weight has 3 rows, asked for 2 from row 2 on"]);
        values[bad] = f32::INFINITY;
        let (broken, _dir) = stored(&values);
        let place = ["m.weight", "inf at row 2, column 5001 (element 25001)"];
        check_error(broken.read_f32("m.weight", &[rows, cols]), &place);
        check_error(broken.read_rows_f32("m.weight", 2, 1), &place);
        assert_eq!(broken.read_rows_f32("m.weight", 0, 2).unwrap(), values[..2 * cols]);
        check_error(broken.read_linear("m", rows, cols), &place);
        let read = whole.read_linear("m", rows, cols).unwrap();
        assert_eq!((read.dtype, whole.digest_linear("m", rows, cols).unwrap()), (dtype.in_memory(), read.digest()));
    }
}

#[test]
fn damaged_files_never_panic() {
    let whole = raw(TWO, 28);
    let mut rng = Rng(11);
    let mut opened = 0;
    for _ in 0..6000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(8) {
                0 => bytes.truncate(at + 1),
                1 => bytes.insert(at, rng.next() as u8),
                2 => drop(bytes.remove(at)),
                // Digits stay digits: numbers that are wrong are the ones worth trying.
                3..6 if bytes[at].is_ascii_digit() => bytes[at] = b'0' + rng.below(10) as u8,
                _ => bytes[at] = rng.next() as u8,
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        let Ok(checkpoint) = Checkpoint::from_memory("fuzz", "{}", &[("f", bytes)]) else { continue };
        opened += 1;
        for name in checkpoint.names() {
            let info = checkpoint.info(name).unwrap();
            assert_eq!(checkpoint.read(name).unwrap().len(), info.bytes());
            checkpoint.read_f32(name, &info.shape).map(drop).unwrap_or(());
            checkpoint.read_rows(name, 1, 1).map(drop).unwrap_or(());
        }
        checkpoint.read_linear("a", 2, 3).map(drop).unwrap_or(());
    }
    assert!(opened > 100, "only {opened} files could be opened: the damage is too great to test anything");
}

#[test]
fn samples_follow_the_weights_and_not_the_files() {
    // Three samples of the first tensor, one of the second.
    let header = r#"{"a":{"dtype":"F32","shape":[8,1000],"data_offsets":[0,32000]},"b":{"dtype":"I8","shape":[4],"data_offsets":[32000,32004]}}"#;
    let file = raw(header, 32_004);
    let sample = |file: &[u8]| open(file).unwrap().samples();
    let want = sample(&file);
    assert_eq!(want.len(), 1);
    assert_eq!((want[0].name.as_str(), want[0].bytes), (SINGLE, file.len() as u64));
    assert_eq!(sample(&file), want);
    let data = file.len() - 32_004;
    for at in [0, 4095, 13_952, 18_047, 27_904, 31_999, 32_000, 32_003] {
        let mut other = file.clone();
        other[data + at] ^= 1;
        assert_ne!(sample(&other)[0].digest, want[0].digest, "byte {at}");
    }
    // What lies between them is not read.
    let mut other = file.clone();
    other[data + 8000] ^= 1;
    assert_eq!(sample(&other), want);
    assert_ne!(sample(&raw(&header.replace("\"b\"", "\"c\""), 32_004))[0].digest, want[0].digest);
}
