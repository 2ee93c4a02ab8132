//! Files that lie, files that want something, damaged files: one line each, and never a panic.

use std::fs;

use super::{fixture, open};
use crate::checkpoint::pickle::writer::{Entry, View, archive, dict, global, int, pickle, state, text, zip};
use crate::testing::Rng;

/// The file must be refused in one line that names it and holds `words`.
fn refused(bytes: &[u8], words: &[&str]) {
    let error = open(bytes).err().unwrap_or_else(|| panic!("read, without {words:?}")).to_string();
    assert!(!error.contains('\n') && error.contains("pytorch_model.bin"), "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "{error:?} lacks {word:?}"));
}

fn of(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    zip(&archive(pickle, storages))
}

const DATA: [u8; 24] = [1; 24];

fn view() -> View {
    View::new("w", "FloatStorage", "0", &[2, 3])
}

/// A file with one tensor, which `change` breaks.
fn with(change: impl Fn(&mut View)) -> Vec<u8> {
    let mut changed = view();
    change(&mut changed);
    of(&state(&[changed]), &[("0", &DATA)])
}

#[test]
fn the_writer_of_these_tests_is_right() {
    for wide in [false, true] {
        let mut entries = archive(&state(&[view()]), &[("0", &DATA)]);
        entries.iter_mut().for_each(|entry| entry.wide = wide);
        let checkpoint = open(&zip(&entries)).unwrap();
        assert_eq!(checkpoint.read("w").unwrap(), DATA);
        assert_eq!(checkpoint.info("w").unwrap().shape, [2, 3]);
    }
}

#[test]
fn what_no_file_of_torch_is() {
    refused(b"", &["0 bytes", "no file of torch.save"]);
    refused(b"{\"a\": \"safetensors\"}", &["torch.save did not write", "convert"]);
    refused(b"PK\x03\x04 and nothing else", &["without its end", "cut off"]);
    refused(&pickle(&dict(&[("a", int(1))])), &["a pickle that torch.save did not write"]);
    for name in ["plain.bin", "legacy.bin"] {
        let bytes = fs::read(fixture(name)).unwrap();
        for cut in [1, 8, 21, 100, bytes.len() / 2, bytes.len() - 20] {
            refused(&bytes[..bytes.len() - cut], &["cut off"]);
        }
    }
    refused(&zip(&[]), &["torch.save did not write"]);
    refused(&zip(&[Entry::new("a/version", b"3")]), &["without data.pkl"]);
    let twice = [Entry::new("a/data.pkl", &state(&[])), Entry::new("b/data.pkl", &state(&[]))];
    refused(&zip(&twice), &["more than one data.pkl"]);
    let mut script = archive(&state(&[]), &[]);
    script.push(Entry::new("archive/constants.pkl", b""));
    refused(&zip(&script), &["TorchScript", "state_dict"]);
    let mut big = archive(&state(&[]), &[]);
    big[1] = Entry::new("archive/byteorder", b"big");
    refused(&zip(&big), &["low byte first"]);
}

#[test]
fn pickles_that_want_to_run_something() {
    let mark = std::path::Path::new("a-pickle-was-run");
    for name in ["command.bin", "command-legacy.bin"] {
        refused(&fs::read(fixture(name)).unwrap(), &["the pickle asks for posix.system", "nothing was run"]);
    }
    let run = [&global("os", "system")[..], b"(", &text("touch a-pickle-was-run"), b"tR"].concat();
    refused(&of(&pickle(&dict(&[("x", run)])), &[]), &["asks for os.system", "(at byte"]);
    let by_stack = [&text("builtins")[..], &text("eval"), b"\x93"].concat();
    refused(&of(&pickle(&by_stack), &[]), &["asks for builtins.eval"]);
    for (module, name) in
        [("torch", "load"), ("torch", "ComplexFloatStorage"), ("torch._utils", "x"), ("", ""), ("a\rb", "c")]
    {
        refused(&of(&pickle(&global(module, name)), &[]), &["the pickle asks for"]);
    }
    // What is known is no function, and objects of other classes are not made.
    refused(&of(&pickle(&[&text("x")[..], b")R"].concat()), &[]), &["a string is called"]);
    refused(&of(&pickle(&[&global("torch", "FloatStorage")[..], b")R"].concat()), &[]), &["a call of Storage"]);
    for op in [b'i', b'o', 0x81, 0x92, 0x82, b'P', b'B', b'S', b'I', b'2', b'0', 0xff] {
        refused(&of(&pickle(&[op]), &[]), &[&format!("the instruction {op:#04x}"), "not read"]);
    }
    assert!(!mark.exists());
}

#[test]
fn pickles_that_do_not_fit_together() {
    for (body, words) in [
        (&b""[..], &["a value is missing"][..]),
        (b"a", &["a value is missing"]),
        (b"]e", &["a mark is missing"]),
        (b"}(Nu", &["a key without a value"]),
        (b"(tNa", &["a tuple is appended to"]),
        (b"]NNs", &["a list is given items"]),
        (b"h\x07", &["memo 7 is empty"]),
        (b"X\xff\xff\xff\xff", &["cut off"]),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", &["cut off"]),
        (b"\x8c\x02\xff\xfe", &["not UTF-8"]),
        (b"NQ", &["not a storage"]),
        (b"N}b", &["None is given the state of a dict"]),
        (b"\x80\x07", &["protocol 7"]),
        (b"N", &["None at the top", "expected a dict"]),
        (b"}NNs", &["None for the name of a tensor"]),
    ] {
        refused(&of(&pickle(body), &[]), words);
    }
    refused(&of(b"\x80\x02}", &[]), &["a pickle that is cut off"]);
    refused(&of(&pickle(&dict(&[("w", b"N".to_vec())])), &[]), &["w should be a tensor, and is None"]);
    refused(&of(&pickle(&dict(&[("a\nb", view().pickled())])), &[("0", &DATA)]), &["a\\nb holds control characters"]);
    refused(&of(&state(&[view(), view()]), &[("0", &DATA)]), &["w is there twice"]);
    let both = dict(&[("state_dict", dict(&[("w", view().pickled())])), ("v", view().pickled())]);
    refused(&of(&pickle(&both), &[("0", &DATA)]), &["tensors both in state_dict and beside it"]);
}

#[test]
fn pickles_that_would_fill_the_memory() {
    let many = |op: &[u8], count: usize| of(&pickle(&op.repeat(count)), &[]);
    refused(&many(b"N", 1 << 20), &["65536 values wait"]);
    refused(&many(b"(", 1 << 20), &["65536 marks are open"]);
    refused(&many(b"N\x94", 1 << 16), &["more values than its file could hold"]);
    // Each of these takes one byte in the file, and many in memory.
    let lists = [&b"]("[..], &b"]".repeat(1000), b"e"].concat();
    refused(&of(&pickle(&lists.repeat(200)), &[]), &["more values than its file could hold"]);
    // Nested as deep as the file is long, and in circles: nothing walks down.
    let deep = [&b"N"[..], &b"\x85".repeat(10_000)].concat();
    refused(&of(&pickle(&deep), &[]), &["a tuple at the top"]);
    refused(&of(&pickle(b"]q\x00h\x00a"), &[]), &["a list at the top"]);
    refused(&of(&pickle(&[&b"}q\x00"[..], &text("model"), b"h\x00s"].concat()), &[]), &["model should be a tensor"]);
}

#[test]
fn tensors_that_lie() {
    refused(&with(|v| v.key = "1".into()), &["w lies in the storage 1, which the file does not hold"]);
    refused(&with(|v| v.key = "../data.pkl".into()), &["which the file does not hold"]);
    refused(&with(|v| v.count = 7), &["w lies in the storage 0", "7 x 4 bytes", "has 24"]);
    refused(&with(|v| v.count = i64::MAX), &["x 4 bytes and has 24"]);
    refused(&with(|v| v.class = "DoubleStorage"), &["6 x 8 bytes"]);
    refused(&with(|v| v.count = -1), &["a size of -1"]);
    for change in [
        (|v| v.offset = 1) as fn(&mut View),
        |v| v.offset = i64::MAX,
        |v| v.strides = vec![4, 1],
        |v| v.strides = vec![i64::MAX, i64::MAX],
        |v| v.shape = vec![3, 3],
        |v| v.shape = vec![i64::MAX, i64::MAX],
        // Two numbers that are a matrix of any size.
        |v| (v.shape, v.strides) = (vec![1 << 20, 1 << 20], vec![0, 0]),
    ] {
        refused(&with(change), &["w of shape", "does not lie inside the 24 bytes of its storage 0"]);
    }
    refused(&with(|v| v.offset = -1), &["a size of -1"]);
    refused(&with(|v| v.strides = vec![3]), &["2 dimensions and 1 strides"]);
    refused(&with(|v| v.shape = vec![1; 65]), &["for its shape"]);
    let untyped = with(|v| (v.class, v.count) = ("UntypedStorage", 24));
    refused(&untyped, &["w has no type"]);
    let noted = view().pickled();
    let at = noted.len() - 2;
    let noted = [&noted[..at], &dict(&[("conj", b"\x88".to_vec())]), &noted[at..]].concat();
    refused(&of(&pickle(&dict(&[("w", noted)])), &[("0", &DATA)]), &["conj or neg"]);
    let odd = [&global("torch._utils", "_rebuild_tensor_v2")[..], b"(", &int(1), b"tR"].concat();
    refused(&of(&pickle(&dict(&[("w", odd)])), &[]), &["other arguments than torch gives"]);

    // Broadcast within what is there is fine, and reads as what it means.
    let rows = open(&with(|v| (v.shape, v.strides) = (vec![3, 2], vec![0, 5]))).unwrap();
    assert_eq!(rows.read_rows("w", 2, 1).unwrap(), [1; 8]);
}

#[test]
fn zip_files_that_lie() {
    let storage = 2;
    let broken = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = archive(&state(&[view()]), &[("0", &DATA)]);
        change(&mut entries);
        zip(&entries)
    };
    refused(
        &fs::read(fixture("compressed.bin")).unwrap(),
        &["data.pkl is compressed (method 8", "nothing else is read"],
    );
    refused(&fs::read(fixture("lying.bin")).unwrap(), &["data/7", "disagree"]);
    // A bomb: a few bytes that say they are many.
    refused(
        &broken(&|e| (e[storage].method, e[storage].unpacked) = (8, 1 << 31)),
        &["archive/data/0 is compressed", "2147483648"],
    );
    refused(
        &broken(&|e| e[storage].unpacked = 1 << 31),
        &["archive/data/0 is stored in 24 bytes, but should be 2147483648"],
    );
    for wide in [false, true] {
        let long = |e: &mut Vec<Entry>| {
            e[storage].wide = wide;
            (e[storage].stored, e[storage].unpacked) = (1 << 31, 1 << 31);
        };
        refused(&broken(&long), &["archive/data/0 should have 2147483648 bytes"]);
    }
    refused(
        &broken(&|e| {
            e[2].wide = true;
            (e[2].stored, e[2].unpacked) = (u64::MAX, u64::MAX)
        }),
        &["archive/data/0"],
    );
    refused(&broken(&|e| e[storage].flags = 1), &["archive/data/0 is encrypted"]);
    refused(&broken(&|e| e[storage].at = Some(1 << 20)), &["archive/data/0 is not where the zip directory says"]);
    refused(&broken(&|e| e[storage].at = Some(0)), &["archive/data/0 and the zip directory disagree"]);
    refused(
        &broken(&|e| {
            let again = e[2].clone();
            e.push(again)
        }),
        &["two entries are named archive/data/0"],
    );
    refused(&broken(&|e| e[storage].name = "archive/da\nta".into()), &["control characters"]);
    // One entry inside another, as in bombs that share their data.
    let inner = zip(&[Entry::new("archive/data/1", &DATA)]);
    let overlap = broken(&|e| {
        let at = 30 + e.iter().take(2).map(|e| 30 + e.name.len() + e.data.len()).sum::<usize>() + e[2].name.len();
        let held = Entry::new("archive/data/0", &inner);
        e[2] = held;
        let mut shared = Entry::new("archive/data/1", &DATA);
        shared.at = Some(at as u64);
        e.push(shared);
    });
    refused(&overlap, &["archive/data/0 and archive/data/1 overlap"]);
    // Counts and places in the record at the end.
    let whole = broken(&|_| {});
    let end = whole.len() - 22;
    for (at, bytes, words) in [
        (end + 8, &[9, 0, 9, 0][..], &["cannot list 9 entries"][..]),
        (end + 8, &[9, 0, 3, 0], &["in several"]),
        (end + 4, &[1, 0, 0, 0], &["in several"]),
        (end + 16, &[0xff, 0xff, 0xff, 0x7f], &["outside the"]),
        (end + 12, &[0xff, 0xff, 0xff, 0x7f], &["outside the"]),
        (end + 20, &[9, 0], &["without its end"]),
        (end + 16, &[0, 0, 0, 0], &["cut off or not one"]),
    ] {
        let mut bent = whole.clone();
        bent[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&bent, words);
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut rng = Rng(17);
    let mut opened = 0;
    for name in ["views.bin", "legacy.bin", "untyped.bin", "module.bin"] {
        let whole = fs::read(fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        for round in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.below(3) {
                // Numbers and instructions are among the first bytes and the last; in the middle are mostly zeros.
                let at = if rng.below(2) == 0 { rng.below(bytes.len()) } else { rng.below(bytes.len().min(700)) };
                bytes[at] = if rng.below(3) == 0 { bytes[at] ^ (1 << rng.below(8)) } else { rng.next() as u8 };
            }
            if let Ok(entries) = super::super::entries(name, &bytes) {
                opened += 1;
                let within = |end: usize| assert!(end <= bytes.len());
                entries.iter().for_each(|(_, entry)| within(entry.place.start + entry.place.len.min(1)));
            }
            if round % 10 == 0 {
                fs::write(&path, &bytes).unwrap();
                super::super::tokens(&path).map(drop).unwrap_or(());
                if let Ok(checkpoint) = open(&bytes) {
                    for name in checkpoint.names() {
                        assert_eq!(checkpoint.read(name).unwrap().len(), checkpoint.info(name).unwrap().bytes());
                    }
                }
            }
        }
    }
    assert!(opened > 500, "only {opened} files could be opened: the damage is too great to test anything");
}
