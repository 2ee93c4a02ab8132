//! Data that cannot be used: text, token files, and the files of `paring layer`.

mod support;

use paring_format::Dtype;
use paring_format::writer::{Tensor, write_file};

use support::*;

type Prepare = fn(&Sandbox);

/// Makes a data set, and expects that it is of no use to calibrate on and to measure with.
fn check(file: &str, options: &str, cases: &[(&str, Prepare, &[&str])]) {
    let mut wrong = Vec::new();
    for (what, prepare, words) in cases {
        let sandbox = Sandbox::new();
        prepare(&sandbox);
        for command in ["eval model", "quantize model --wbits 4 --out out"] {
            if let Err(text) = sandbox.refused(&format!("{command} {file} --quiet {options}"), 1, words) {
                wrong.push(format!("{what}: {text}"));
            }
        }
        assert!(!sandbox.path("out").exists(), "{what}: an output folder was made");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn ids(dtype: Dtype, shape: &[usize], bytes: Vec<u8>, name: &str, sandbox: &Sandbox) {
    let tensor = Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes };
    write_file(&sandbox.path("ids.safetensors"), vec![tensor]).unwrap();
}

#[test]
fn token_files() {
    check(
        "ids.safetensors",
        "--seqlen 32",
        &[
            ("no file", |_| {}, &["ids.safetensors", "No such file"]),
            ("no safetensors", |s| s.write("ids.safetensors", "1 2 3 4 5 6"), &["ids.safetensors"]),
            (
                "another name",
                |s| ids(Dtype::I64, &[1, 64], vec![0; 512], "tokens", s),
                &["ids.safetensors", "no tensor input_ids"],
            ),
            (
                "another shape",
                |s| ids(Dtype::I64, &[64], vec![0; 512], "input_ids", s),
                &["ids.safetensors", "shape [64], expected [n, t]"],
            ),
            (
                "another type",
                |s| ids(Dtype::F32, &[1, 128], vec![0; 512], "input_ids", s),
                &["ids.safetensors", "type F32, expected integers"],
            ),
            (
                "a negative id",
                |s| token_file(&s.path("ids.safetensors"), &[2, 32], &[[7; 40].as_slice(), &[-1; 24]].concat()),
                &["ids.safetensors", "-1 at element 40"],
            ),
            (
                "an id beyond the vocabulary",
                |s| token_file(&s.path("ids.safetensors"), &[2, 32], &[[63; 40].as_slice(), &[64; 24]].concat()),
                &["ids.safetensors", "token 64", "vocabulary of 64"],
            ),
            ("no rows", |s| token_file(&s.path("ids.safetensors"), &[0, 32], &[]), &["ids.safetensors"]),
            ("empty rows", |s| token_file(&s.path("ids.safetensors"), &[4, 0], &[]), &["ids.safetensors"]),
            ("rows of one token", |s| token_file(&s.path("ids.safetensors"), &[3, 1], &[1; 3]), &["ids.safetensors"]),
        ],
    );
}

#[test]
fn text() {
    check(
        "text.txt",
        "--seqlen 32",
        &[
            ("no file", |s| tokenizer(s), &["text.txt", "No such file"]),
            ("no tokenizer", |s| s.write("text.txt", "one two"), &["text.txt", "tokenizer.json", "token ids"]),
            (
                "empty",
                |s| {
                    tokenizer(s);
                    s.write("text.txt", "");
                },
                &["text.txt", "no tokens"],
            ),
            (
                "not UTF-8",
                |s| {
                    tokenizer(s);
                    s.write("text.txt", b"one \xff two");
                },
                &["text.txt", "not UTF-8"],
            ),
            (
                "too short",
                |s| {
                    tokenizer(s);
                    s.write("text.txt", "one two one");
                },
                &["text.txt", "3 tokens", "32", "--seqlen"],
            ),
            (
                "a folder",
                |s| {
                    tokenizer(s);
                    std::fs::create_dir(s.path("text.txt")).unwrap();
                },
                &["text.txt"],
            ),
        ],
    );
    check("data.csv", "", &[("an unknown kind", |s| s.write("data.csv", "one,two"), &["data.csv", ".jsonl"])]);
}

#[test]
fn json_lines() {
    check(
        "text.jsonl",
        "--seqlen 32",
        &[
            (
                "a line of noise",
                |s| {
                    tokenizer(s);
                    s.write("text.jsonl", "{\"text\": \"one\"}\n\n{\"text\": two\n");
                },
                &["text.jsonl", "line 3: not JSON"],
            ),
            (
                "no such field",
                |s| {
                    tokenizer(s);
                    s.write("text.jsonl", "{\"text\": \"one\"}\n{\"body\": \"two\"}\n");
                },
                &["text.jsonl", "line 2", "\"text\"", "--text-field"],
            ),
            (
                "a field that is no text",
                |s| {
                    tokenizer(s);
                    s.write("text.jsonl", "{\"text\": 1}\n");
                },
                &["text.jsonl", "line 1", "\"text\""],
            ),
        ],
    );
}

#[test]
fn too_little_data() {
    let sandbox = Sandbox::new();
    tokenizer(&sandbox);
    sandbox.write("text.txt", "one two ".repeat(50));
    sandbox.write("short.txt", "one two ".repeat(10));
    let mut wrong = Vec::new();
    for (arguments, words) in [
        (
            "quantize model calib.safetensors --wbits 4 --nsamples 9 --out out",
            &["calib.safetensors", "8 rows", "--nsamples asks for 9"][..],
        ),
        (
            "quantize model short.txt --wbits 4 --seqlen 32 --nsamples 4 --out out",
            &["short.txt", "20 tokens make 0 windows of 32; 4 are asked for"],
        ),
        ("quantize model calib.safetensors --wbits 4 --eval text.txt --seqlen 32 --nsamples 9 --out out", &["9"]),
        ("quantize model calib.safetensors --wbits 4 --eval gone.txt --out out", &["gone.txt", "No such file"]),
    ] {
        wrong.extend(sandbox.refused(&format!("{arguments} --quiet"), 1, words).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(!sandbox.path("out").exists());
}

#[test]
fn layer_files() {
    let sandbox = Sandbox::empty();
    let w = |rows: usize, cols: usize| f32_tensor("weight", &[rows, cols], &vec![0.5; rows * cols]);
    let x = |shape: &[usize]| f32_tensor("activations", shape, &vec![1.0; shape.iter().product()]);
    let eye: Vec<f32> = (0..64).map(|i| if i % 9 == 0 { 1.0 } else { 0.0 }).collect();
    let h = || f32_tensor("hessian", &[8, 8], &eye);
    let mut bad_weight = w(4, 8);
    bad_weight.bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut bad_input = x(&[6, 8]);
    bad_input.bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let negative = f32_tensor("hessian", &[8, 8], &eye.iter().map(|v| -v).collect::<Vec<_>>());
    let counted = Tensor { dtype: Dtype::I32, ..w(4, 8) };
    let gptq = "--method gptq --wbits 4";
    let cases: [(&str, Vec<Tensor>, &str, &[&str]); 15] = [
        ("no weight", vec![h()], gptq, &["in.safetensors", "no tensor weight"]),
        ("a vector", vec![f32_tensor("weight", &[8], &[1.0; 8]), h()], gptq, &["weight has shape [8]", "[R, C]"]),
        ("an empty weight", vec![f32_tensor("weight", &[0, 8], &[]), h()], gptq, &["[0, 8]"]),
        ("integers", vec![counted, h()], gptq, &["in.safetensors: weight: type I32"]),
        ("a NaN", vec![bad_weight, h()], gptq, &["in.safetensors: weight: NaN at row 1, column 2"]),
        ("no inputs", vec![w(4, 8)], gptq, &["in.safetensors", "gptq needs activations or a hessian"]),
        ("inputs of others", vec![w(4, 8), x(&[6, 7])], gptq, &["in.safetensors", "[6, 7]", "[n, t, 8]"]),
        ("flat inputs", vec![w(4, 8), x(&[48])], gptq, &["[48]", "[n, t, 8]"]),
        ("no tokens", vec![w(4, 8), x(&[0, 8])], gptq, &["in.safetensors", "no tokens"]),
        ("infinite inputs", vec![w(4, 8), bad_input], gptq, &["in.safetensors: activations: inf at row 0, column 0"]),
        ("a narrow hessian", vec![w(4, 9), h()], gptq, &["in.safetensors: hessian: shape [8, 8], expected [9, 9]"]),
        ("a negative hessian", vec![w(4, 8), negative], gptq, &["not positive definite", "--percdamp"]),
        ("groups", vec![w(4, 8), h()], "--method gptq --wbits 4 --groupsize 3", &["8 columns", "--groupsize 3"]),
        ("patterns", vec![w(4, 9)], "--method magnitude --pattern 2:4", &["9 columns", "--pattern 2:4"]),
        ("sequences", vec![w(4, 8), x(&[6, 8])], "--method gptq --wbits 4 --sequences 4", &["6", "--sequences 4"]),
    ];
    let mut wrong = Vec::new();
    for (what, tensors, options, words) in cases {
        write_file(&sandbox.path("in.safetensors"), tensors).unwrap();
        wrong.extend(sandbox.refused(&format!("layer in.safetensors --out made {options}"), 1, words).err());
        assert!(!sandbox.path("made").exists(), "{what}: a file was written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for (arguments, words) in [
        ("layer gone.safetensors --out made", &["gone.safetensors", "No such file"][..]),
        ("layer in.safetensors --out nowhere/made", &["nowhere/made", "No such file"]),
    ] {
        sandbox.refused(&format!("{arguments} {gptq}"), 1, words).unwrap();
    }
}
