//! Files of tokens that cannot be used.

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};

use crate::support::*;
use crate::{BadInput, Table, check};

fn ids(dtype: Dtype, shape: &[usize], bytes: Vec<u8>, name: &str, sandbox: &Sandbox) {
    let tensor = NamedTensor { name: name.into(), dtype, shape: shape.to_vec(), bytes };
    write_file(&sandbox.path("ids.safetensors"), vec![tensor]).unwrap();
}

const TOKEN_FILES: &[BadInput] = &[
    ("no file", |_| {}, &["ids.safetensors: no such file or data set"]),
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
];

pub const TABLES: &[Table] = &[Table {
    name: "token files",
    commands: &[
        "eval model ids.safetensors --quiet --seqlen 32",
        "quantize model ids.safetensors --wbits 4 --out out --quiet --seqlen 32",
    ],
    shell: "",
    early: true,
    kinds: TOKEN_FILES,
}];

#[test]
fn token_files() {
    check("token files");
}
