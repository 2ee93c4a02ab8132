mod bad;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::names::{CONFIG, PICKLE, PICKLE_INDEX, SINGLE};
use crate::{Checkpoint, TensorInfo};

/// A file that torch wrote (scripts/fixtures/pickles).
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/pickles").join(name)
}

/// A folder with an empty configuration and one pickled file.
pub fn open(bytes: &[u8]) -> Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONFIG), "{}").unwrap();
    fs::write(dir.path().join(PICKLE), bytes).unwrap();
    Checkpoint::open(dir.path())
}

/// Type, shape and bytes of a tensor.
fn whole(checkpoint: &Checkpoint, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
    let TensorInfo { dtype, shape, .. } = checkpoint.info(name).unwrap_or_else(|| panic!("no {name}")).clone();
    (dtype, shape, checkpoint.read(name).unwrap())
}

/// The names that torch's files hold, with all of their tensors as expected.
fn agree(checkpoint: &Checkpoint) -> Vec<&str> {
    let expected = Checkpoint::open_file(&fixture("expected.safetensors")).unwrap();
    for name in checkpoint.names() {
        assert_eq!(whole(checkpoint, name), whole(&expected, name), "{name}");
        let info = checkpoint.info(name).unwrap();
        for row in 0..info.shape.first().copied().unwrap_or(0) {
            assert_eq!(checkpoint.read_rows(name, row, 1).unwrap(), expected.read_rows(name, row, 1).unwrap());
        }
        if info.dtype.is_float() {
            let floats = checkpoint.read_f32(name, &info.shape).unwrap();
            assert_eq!(floats, expected.read_f32(name, &info.shape).unwrap());
        }
    }
    checkpoint.names().collect()
}

const PLAIN: [&str; 8] = ["empty", "h.0.bias", "h.0.mask", "h.0.scale", "h.0.weight", "ids", "small", "wte.weight"];

#[test]
fn files_of_torch() {
    let read = |name: &str| open(&fs::read(fixture(name)).unwrap()).unwrap();
    for name in ["plain.bin", "legacy.bin", "protocol4.bin", "nested.bin"] {
        let checkpoint = read(name);
        assert_eq!(agree(&checkpoint), PLAIN, "{name}");
        assert_eq!(checkpoint.info("h.0.weight").unwrap().file, PICKLE);
        assert_eq!(checkpoint.file_bytes(), fs::metadata(fixture(name)).unwrap().len());
    }
    assert_eq!(agree(&read("module.bin")), ["bias", "weight"]);
    assert_eq!(agree(&read("views.bin")), ["column", "first", "middle", "step", "turned", "twice"]);
    assert_eq!(agree(&read("untyped.bin")), ["float8", "uint32"]);
    assert_eq!(agree(&Checkpoint::open(&fixture("sharded")).unwrap()), PLAIN);
}

/// As for safetensors, and also where a matrix is gathered from all over its storage.
#[cfg(target_os = "linux")]
#[test]
fn pages_are_given_back() {
    let bytes = vec![7; 2 << 20];
    let keys: Vec<String> = (0..16).map(|i| i.to_string()).collect();
    let storages: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &bytes[..])).collect();
    let mut views: Vec<writer::View> =
        keys.iter().map(|key| writer::View::new(key, "FloatStorage", key, &[1024, 512])).collect();
    views.iter_mut().step_by(2).for_each(|view| view.strides = vec![1, 1024]);
    let checkpoint = open(&writer::zip(&writer::archive(&writer::state(&views), &storages))).unwrap();
    let kept = crate::testing::kept_pages(&checkpoint);
    assert!(kept < 8 << 10, "{kept} kB of 32 MB stayed");
}

#[test]
fn safetensors_are_preferred() {
    let dir = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| fs::copy(fixture(from), dir.path().join(to)).unwrap();
    fs::write(dir.path().join(CONFIG), "{}").unwrap();
    put("sharded/pytorch_model-00001-of-00002.bin", "pytorch_model-00001-of-00002.bin");
    put("sharded/pytorch_model-00002-of-00002.bin", "pytorch_model-00002-of-00002.bin");
    put("sharded/pytorch_model.bin.index.json", PICKLE_INDEX);
    let file = |name: &str| Checkpoint::open(dir.path()).unwrap().info(name).unwrap().file.clone();
    assert_eq!(file("ids"), "pytorch_model-00002-of-00002.bin");
    let index = || Checkpoint::open(dir.path()).unwrap().index_path();
    assert_eq!(index(), Some(dir.path().join(PICKLE_INDEX)));
    put("plain.bin", PICKLE);
    assert_eq!((file("ids"), index()), (PICKLE.to_string(), None));
    put("expected.safetensors", SINGLE);
    assert_eq!(file("ids"), SINGLE);
}

#[test]
fn an_index_of_pickles_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", CONFIG] {
        fs::copy(fixture("sharded").join(name), dir.path().join(name)).unwrap();
    }
    let check = |index: &str, words: &[&str]| {
        fs::write(dir.path().join(PICKLE_INDEX), index).unwrap();
        let text = Checkpoint::open(dir.path()).expect_err(index).to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{text:?} lacks {word:?}"));
    };
    check("{}", &[PICKLE_INDEX, "no weight_map"]);
    check(
        r#"{"weight_map": {"ids": "../plain.bin"}}"#,
        &[PICKLE_INDEX, "../plain.bin", "ids", "not the name of a file"],
    );
    check(r#"{"weight_map": {"ids": "3.bin"}}"#, &[PICKLE_INDEX, "3.bin", "not in the folder"]);
    let wrong = r#"{"weight_map": {"ids": "pytorch_model-00001-of-00002.bin"}}"#;
    check(wrong, &["pytorch_model-00001-of-00002.bin", PICKLE_INDEX, "says that ids is in here"]);
}

#[test]
fn token_ids() {
    let rows: Vec<Vec<i64>> = (0..3).map(|i| (i * 8..i * 8 + 8).collect()).collect();
    for name in ["tokens.pth", "token-list.pth", "token-pairs.pth"] {
        assert_eq!(tokens(&fixture(name)).unwrap(), rows, "{name}");
    }
    let check = |name: &str, words: &[&str]| {
        let text = tokens(&fixture(name)).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{text:?} lacks {word:?}"));
    };
    check("plain.bin", &["plain.bin", "a dict at the top", "expected a tensor of token ids"]);
    check("command.bin", &["system", "nothing was run"]);
    check("nowhere.pth", &["nowhere.pth"]);

    let of = |views: &[writer::View], storages: &[(&str, &[u8])]| {
        let body: Vec<u8> =
            [b"](", &views.iter().flat_map(|view| view.pickled()).collect::<Vec<u8>>()[..], b"e"].concat();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.pth");
        fs::write(&path, writer::zip(&writer::archive(&writer::pickle(&body), storages))).unwrap();
        tokens(&path).map_err(|error| error.to_string())
    };
    let ids = |name: &str, class, shape: &[i64]| writer::View::new(name, class, "0", shape);
    let bytes: Vec<u8> = (0..24).collect();
    let four: Vec<i64> = bytes.as_chunks().0.iter().map(|&id| i32::from_le_bytes(id).into()).collect();
    assert_eq!(of(&[ids("", "IntStorage", &[2, 3])], &[("0", &bytes)]).unwrap(), [&four[..3], &four[3..]]);
    assert_eq!(of(&[ids("", "IntStorage", &[6])], &[("0", &bytes)]).unwrap(), [&four[..]]);
    for (class, shape, word) in [
        ("FloatStorage", &[2, 3][..], "entry 0 is of type F32; expected token ids"),
        ("IntStorage", &[1, 2, 3], "[1, 2, 3]; expected [n, t]"),
        ("ShortStorage", &[12], "I16"),
        ("IntStorage", &[], "should have"),
    ] {
        let text = of(&[ids("", class, shape)], &[("0", &bytes)]).unwrap_err();
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
    let text = of(&[ids("", "LongStorage", &[4, 0])], &[("0", b"")]).unwrap_err();
    assert!(text.contains("at least one token"), "{text}");
    // The same storage again and again must not become more than the file.
    let many = vec![ids("", "IntStorage", &[6]); 400];
    assert!(of(&many, &[("0", &[7; 24])]).is_ok());
    let many = vec![ids("", "ByteStorage", &[1 << 16]); 2].into_iter().map(|mut view| {
        (view.class, view.count, view.shape, view.strides) = ("IntStorage", 1 << 14, vec![1 << 14], vec![1]);
        view
    });
    let text = of(&many.collect::<Vec<_>>(), &[("0", &[7; 1 << 16])]).unwrap_err();
    assert!(text.contains("entry 1 and those before it are larger than"), "{text}");
}
