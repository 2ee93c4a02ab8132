//! Checkpoints as `torch.save` wrote them: the same model as in safetensors, and every way in which one can be broken
//! or hostile, each refused in one line.

use std::fs;

use paring_format::Dtype;
use paring_format::writer::NamedTensor;
use serde_json::{Value, json};

use crate::support::pickles::{Entry, View, archive, dict, global, pickle, state, text, zip};
use crate::support::*;
use crate::{BadInput, MODEL, Table, check};

const NORM: &str = "model.norm.weight";
const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const PICKLE: &str = "model/pytorch_model.bin";

/// The tensors as a pickle speaks of them, each in a storage of its own, which has the tensor's number for a key.
fn views(tensors: &[NamedTensor]) -> Vec<View> {
    let class = |dtype| match dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::Bf16 => "BFloat16Storage",
        Dtype::I32 => "IntStorage",
        other => panic!("no storage for {other}"),
    };
    let view = |(i, t): (usize, &NamedTensor)| {
        let shape: Vec<i64> = t.shape.iter().map(|&dim| dim as i64).collect();
        View::new(&t.name, class(t.dtype), &i.to_string(), &shape)
    };
    tensors.iter().enumerate().map(view).collect()
}

/// The entries of the file that `torch.save` makes of these tensors, with another pickle if `body` makes one.
fn entries(tensors: &[NamedTensor], body: impl Fn(Vec<View>) -> Vec<u8>) -> Vec<Entry> {
    let keys: Vec<String> = (0..tensors.len()).map(|i| i.to_string()).collect();
    let storages: Vec<(&str, &[u8])> = keys.iter().zip(tensors).map(|(key, t)| (key.as_str(), &t.bytes[..])).collect();
    archive(&body(views(tensors)), &storages)
}

fn saved(tensors: &[NamedTensor]) -> Vec<u8> {
    zip(&entries(tensors, |views| state(&views)))
}

/// Replaces the golden Llama in safetensors by a pickled one: its tensors changed, its pickle made by `body`,
/// its entries changed.
fn broken(
    sandbox: &Sandbox,
    tensors: impl Fn(&mut Model),
    body: impl Fn(Vec<View>) -> Vec<u8>,
    change: impl Fn(&mut Vec<Entry>),
) {
    let mut model = Model::golden("llama");
    tensors(&mut model);
    let mut entries = entries(&model.tensors, body);
    change(&mut entries);
    put(sandbox, &zip(&entries));
}

fn put(sandbox: &Sandbox, bytes: &[u8]) {
    sandbox.write(PICKLE, bytes);
    fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
}

fn with_tensors(sandbox: &Sandbox, change: impl Fn(&mut Model)) {
    broken(sandbox, change, |views| state(&views), |_| {});
}

fn with_view(sandbox: &Sandbox, change: impl Fn(&mut View)) {
    let body = |mut views: Vec<View>| {
        change(views.iter_mut().find(|view| view.name == Q).unwrap());
        state(&views)
    };
    broken(sandbox, |_| {}, body, |_| {});
}

/// Changes the entry of the storage of [`Q`].
fn with_entry(sandbox: &Sandbox, change: impl Fn(&mut Entry)) {
    let at = Model::golden("llama").tensors.iter().position(|t| t.name == Q).unwrap();
    let name = format!("archive/data/{at}");
    let find = |entries: &mut Vec<Entry>| change(entries.iter_mut().find(|entry| entry.name == name).unwrap());
    broken(sandbox, |_| {}, |views| state(&views), find);
}

/// A dict of the tensors and one more entry.
fn beside(views: &[View], name: &str, value: Vec<u8>) -> Vec<u8> {
    let mut items: Vec<(&str, Vec<u8>)> = views.iter().map(|view| (view.name.as_str(), view.pickled())).collect();
    items.push((name, value));
    dict(&items)
}

/// `name` of `module`, called with a text.
fn called(module: &str, name: &str, argument: &str) -> Vec<u8> {
    [&global(module, name)[..], b"(", &text(argument), b"tR"].concat()
}

/// Moves the weights into two pickled shards with an index, which `change` may break.
fn shards(sandbox: &Sandbox, model: &Model, change: impl Fn(&mut Value)) {
    let (first, second): (Vec<NamedTensor>, Vec<NamedTensor>) =
        model.tensors.iter().cloned().partition(|t| t.name.contains("layers.0"));
    let mut map = serde_json::Map::new();
    for (file, tensors) in [("pytorch_model-00001-of-00002.bin", first), ("pytorch_model-00002-of-00002.bin", second)] {
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.into())));
        sandbox.write(&format!("model/{file}"), saved(&tensors));
    }
    let mut index = json!({"weight_map": map});
    change(&mut index);
    sandbox.write("model/pytorch_model.bin.index.json", index.to_string());
    fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
}

/// A model whose tensors have three types in turn.
fn mixed() -> Model {
    let mut model = Model::golden("llama");
    for (i, t) in model.tensors.iter_mut().enumerate() {
        let dtype = [Dtype::F32, Dtype::Bf16, Dtype::F16][i % 3];
        (t.bytes, t.dtype) = (dtype.encode(&t.dtype.decode_f32(&t.bytes)), dtype);
    }
    model
}

/// Transposes a matrix in the file, and says so in its strides.
fn turn(model: &mut Model, views: &mut [View], name: &str) {
    let view = views.iter_mut().find(|view| view.name == name).unwrap();
    let t = model.tensor(name);
    let (rows, cols, size) = (t.shape[0], t.shape[1], t.dtype.size());
    let element = |i: usize| t.bytes[((i % rows) * cols + i / rows) * size..][..size].to_vec();
    t.bytes = (0..rows * cols).flat_map(element).collect();
    view.strides = vec![1, rows as i64];
}

/// Whatever way the same weights are stored, the output is the same, byte by byte.
#[test]
fn pickled_models_make_the_same_outputs() {
    for (i, model) in
        [Model::golden("llama"), Model::golden("llama").stored_as(Dtype::Bf16), mixed()].iter().enumerate()
    {
        let sandbox = Sandbox::new();
        model.write(&sandbox.path("model"));
        let commands = [
            "quantize model calib.safetensors --quiet --wbits 4 --groupsize 16",
            "sparsify model calib.safetensors --quiet --sparsity 0.5",
        ];
        let run = |out: &str| {
            for (j, command) in commands.iter().enumerate() {
                sandbox.ok(&format!("{command} --out {out}{j}"));
            }
            (model_bytes(&sandbox.path(&format!("{out}0"))), model_bytes(&sandbox.path(&format!("{out}1"))))
        };
        let (wanted, perplexity) = (run("st"), sandbox.perplexity("model"));
        let made = sandbox.open("st1");
        for t in &model.tensors {
            assert_eq!(made.info(&t.name).unwrap().dtype, t.dtype, "{}", t.name);
        }

        put(&sandbox, &saved(&model.tensors));
        assert!(run("bin") == wanted, "model {i}, one file");
        assert_eq!(sandbox.perplexity("model"), perplexity);
        let inspected = sandbox.json("inspect model");
        sandbox.ok("verify model");
        assert_eq!(inspected["bytes"], fs::metadata(sandbox.path(PICKLE)).unwrap().len(), "{inspected}");

        let (mut turned, mut parts) = (model.clone(), views(&model.tensors));
        turn(&mut turned, &mut parts, Q);
        turn(&mut turned, &mut parts, "model.embed_tokens.weight");
        sandbox.write(PICKLE, zip(&entries(&turned.tensors, |_| state(&parts))));
        assert!(run("turned") == wanted, "model {i}, transposed matrices");

        fs::remove_file(sandbox.path(PICKLE)).unwrap();
        sandbox.write("model/model.safetensors", "");
        shards(&sandbox, model, |_| {});
        assert!(run("shards") == wanted, "model {i}, shards");
        sandbox.ok("verify model");
    }
}

/// Replaces the model in safetensors by one whose pickle calls something.
fn run(sandbox: &Sandbox, module: &str, name: &str) {
    let body = |views: Vec<View>| pickle(&beside(&views, "x", called(module, name, "touch was-run")));
    broken(sandbox, |_| {}, body, |_| {});
}

const RUN: &[BadInput] = &[
    ("os.system", |s| put(s, &fs::read(golden("pickles/command.bin")).unwrap()), &["asks for posix.system"]),
    ("os.system, legacy", |s| put(s, &fs::read(golden("pickles/command-legacy.bin")).unwrap()), &["posix.system"]),
    (
        "eval",
        |s| broken(s, |_| {}, |_| pickle(&called("builtins", "eval", "exit()")), |_| {}),
        &["pytorch_model.bin", "asks for builtins.eval", "nothing was run"],
    ),
    (
        "arguments of a training script",
        |s| {
            let namespace = [&global("argparse", "Namespace")[..], b")R"].concat();
            broken(s, |_| {}, |views| pickle(&beside(&views, "args", namespace.clone())), |_| {});
        },
        &["asks for argparse.Namespace, which tensors do not need"],
    ),
    (
        "an object of a class",
        |s| broken(s, |_| {}, |_| pickle(b"}N)\x81b"), |_| {}),
        &["pytorch_model.bin: the instruction 0x81"],
    ),
];

#[test]
fn files_that_want_to_run_something() {
    let sandbox = Sandbox::new();
    run(&sandbox, "os", "system");
    let words = ["pytorch_model.bin: the pickle asks for os.system", "nothing was run"];
    sandbox.refused("eval model eval.safetensors --seqlen 32 --quiet", 1, &words).unwrap();
    assert!(!sandbox.path("was-run").exists());
    check("files that want to run something");
}

const ZIP_FILES_THAT_LIE: &[BadInput] = &[
    (
        "a zip bomb",
        |s| with_entry(s, |e| (e.method, e.stored, e.unpacked) = (8, 4096, 1 << 31)),
        &["pytorch_model.bin: the entry archive/data/", "is compressed", "2147483648"],
    ),
    ("compressed by another tool", |s| put(s, &fs::read(golden("pickles/compressed.bin")).unwrap()), &["compressed"]),
    ("encrypted", |s| with_entry(s, |e| e.flags = 1), &["is encrypted"]),
    ("a size beyond the file", |s| with_entry(s, |e| (e.stored, e.unpacked) = (1 << 31, 1 << 31)), &["2147483648"]),
    ("two sizes", |s| put(s, &fs::read(golden("pickles/lying.bin")).unwrap()), &["disagree about its name, size"]),
    (
        "entries in one place",
        |s| with_entry(s, |e| e.at = Some(0)),
        &["pytorch_model.bin: the entry archive/data/", "disagree"],
    ),
    (
        "cut off",
        |s| {
            let bytes = saved(&Model::golden("llama").tensors);
            put(s, &bytes[..bytes.len() - 1000]);
        },
        &["pytorch_model.bin: a zip file without its end; is it cut off?"],
    ),
    (
        "legacy, cut off",
        |s| {
            let bytes = fs::read(golden("pickles/legacy.bin")).unwrap();
            put(s, &bytes[..bytes.len() - 10]);
        },
        &["pytorch_model.bin: the storage", "is the file cut off?"],
    ),
    ("a page of the web", |s| put(s, b"<!DOCTYPE html><html></html>"), &["torch.save did not write"]),
    ("nothing", |s| put(s, b""), &["pytorch_model.bin: 0 bytes"]),
    (
        "no storage",
        |s| broken(s, |_| {}, |views| state(&views), |entries| entries.truncate(2)),
        &["lies in the storage 0, which the file does not hold"],
    ),
    (
        "a program",
        |s| broken(s, |_| {}, |views| state(&views), |e| e.push(Entry::new("archive/constants.pkl", b"x"))),
        &["a TorchScript program"],
    ),
    (
        "numbers the other way round",
        |s| broken(s, |_| {}, |views| state(&views), |e| e[1] = Entry::new("archive/byteorder", b"big")),
        &["low byte first"],
    ),
];

const TENSORS_THAT_LIE: &[BadInput] = &[
    ("a larger storage", |s| with_view(s, |v| v.count += 1), &[Q, "should have 1025 x 4 bytes and has 4096"]),
    ("outside its storage", |s| with_view(s, |v| v.offset = 1), &[Q, "from element 1 on does not lie inside"]),
    (
        "one number a million times",
        |s| with_view(s, |v| (v.shape, v.strides) = (vec![1 << 30, 1 << 30], vec![0, 0])),
        &[Q, "does not lie inside the 4096 bytes"],
    ),
    ("an overflow", |s| with_view(s, |v| v.strides = vec![i64::MAX, 1]), &[Q, "does not lie inside"]),
    (
        "no tensor",
        |s| broken(s, |_| {}, |v| pickle(&beside(&v, "epoch", b"K\x03".to_vec())), |_| {}),
        &["epoch", "an integer"],
    ),
    (
        "values without end",
        |s| broken(s, |_| {}, |_| pickle(&b"]".repeat(1 << 20)), |_| {}),
        &["pytorch_model.bin: more than 65536 values"],
    ),
    (
        "two models",
        |s| broken(s, |_| {}, |v| pickle(&beside(&v, "state_dict", dict(&[(NORM, v[0].pickled())]))), |_| {}),
        &["tensors both in state_dict and beside it"],
    ),
    ("a NaN", |s| with_tensors(s, |m| m.set(Q, 33, f32::NAN)), &["pytorch_model.bin", Q, "NaN at row 1, column 1"]),
    ("integers", |s| with_tensors(s, |m| m.tensor(Q).dtype = Dtype::I32), &["pytorch_model.bin", Q, "I32"]),
];

const INDEX: &[BadInput] = &[
    (
        "a shard outside the folder",
        |s| shards(s, &Model::golden("llama"), |i| i["weight_map"][Q] = "../../secret.bin".into()),
        &["pytorch_model.bin.index.json", "../../secret.bin", Q],
    ),
    (
        "an absolute path",
        |s| shards(s, &Model::golden("llama"), |i| i["weight_map"][Q] = "/etc/passwd".into()),
        &["pytorch_model.bin.index.json", "/etc/passwd", "not the name of a file"],
    ),
    (
        "no such shard",
        |s| shards(s, &Model::golden("llama"), |i| i["weight_map"][Q] = "3.bin".into()),
        &["pytorch_model.bin.index.json", "3.bin", "not in the folder"],
    ),
    (
        "another shard",
        |s| shards(s, &Model::golden("llama"), |i| i["weight_map"][Q] = "pytorch_model-00002-of-00002.bin".into()),
        &["pytorch_model.bin.index.json", "pytorch_model-00002-of-00002.bin", Q, "it is not"],
    ),
];

/// Whatever is wrong with the tensors stands in one line, with what was expected.
#[test]
fn everything_at_once() {
    let change = |m: &mut Model| {
        m.tensors.retain(|t| !(t.name.contains("layers.1") && t.name.contains("mlp")));
        m.tensor(NORM).shape = vec![4, 8];
        let more = NamedTensor { name: "model.layers.1.mlp.experts.0.weight".into(), ..m.tensor(NORM).clone() };
        m.tensors.push(more);
        let buffer = NamedTensor { name: "model.layers.1.rotary_emb.inv_freq".into(), ..m.tensor(NORM).clone() };
        m.tensors.push(buffer);
    };
    for pickled in [false, true] {
        let sandbox = Sandbox::new();
        let mut model = Model::golden("llama");
        change(&mut model);
        if pickled {
            with_tensors(&sandbox, change)
        } else {
            model.write(&sandbox.path("model"))
        }
        let file = if pickled { "pytorch_model.bin" } else { "model.safetensors" };
        let words = [
            "model/config.json: config and tensors do not match: 3 missing (model.layers.1.mlp.gate_proj; \
             model.layers.1.mlp.up_proj; model.layers.1.mlp.down_proj; check that all files are there"
                .to_string(),
            format!(
                "1 of another shape ({NORM} in {file} is [4, 8], expected [32]; use the config.json that belongs \
                to these \
                 weights)"
            ),
            format!("1 that the model does not have (model.layers.1.mlp.experts.0.weight in {file};"),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for command in
            ["eval model eval.safetensors --seqlen 32", "quantize model calib.safetensors --wbits 4 --out out"]
        {
            assert_eq!(sandbox.refused(&format!("{command} --quiet"), 1, &words), Ok(()));
        }
    }
}

pub const TABLES: &[Table] = &[
    Table { name: "files that want to run something", commands: MODEL, shell: "", early: true, kinds: RUN },
    Table { name: "zip files that lie", commands: MODEL, shell: "", early: true, kinds: ZIP_FILES_THAT_LIE },
    Table { name: "tensors that lie", commands: MODEL, shell: "", early: false, kinds: TENSORS_THAT_LIE },
    Table { name: "an index of pickles", commands: MODEL, shell: "", early: true, kinds: INDEX },
];

#[test]
fn zip_files_that_lie() {
    check("zip files that lie");
}

#[test]
fn tensors_that_lie() {
    check("tensors that lie");
}

#[test]
fn an_index_of_pickles() {
    check("an index of pickles");
}
