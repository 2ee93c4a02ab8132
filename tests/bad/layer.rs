//! Files that `paring layer` cannot use.

use paring_format::Dtype;
use paring_format::writer::{NamedTensor, write_file};

use crate::support::*;
use crate::{BadArguments, BadInput, Questions, Table, check};

fn put(sandbox: &Sandbox, tensors: &[NamedTensor]) {
    write_file(&sandbox.path("in.safetensors"), tensors.to_vec()).unwrap();
}

fn weight(rows: usize, cols: usize) -> NamedTensor {
    f32_tensor("weight", &[rows, cols], &vec![0.5; rows * cols])
}

fn inputs(shape: &[usize]) -> NamedTensor {
    f32_tensor("activations", shape, &vec![1.0; shape.iter().product()])
}

/// A hessian of eight columns, `value` on its diagonal.
fn hessian(value: f32) -> NamedTensor {
    f32_tensor("hessian", &[8, 8], &(0..64).map(|i| if i % 9 == 0 { value } else { 0.0 }).collect::<Vec<_>>())
}

/// The tensor with one value replaced.
fn with(mut tensor: NamedTensor, element: usize, value: f32) -> NamedTensor {
    tensor.bytes[element * 4..][..4].copy_from_slice(&value.to_le_bytes());
    tensor
}

const FILES: &[BadInput] = &[
    ("no file", |_| {}, &["in.safetensors", "No such file"]),
    ("no weight", |s| put(s, &[hessian(1.0)]), &["in.safetensors", "no tensor weight"]),
    (
        "a vector",
        |s| put(s, &[f32_tensor("weight", &[8], &[1.0; 8]), hessian(1.0)]),
        &["weight has shape [8]", "[R, C]"],
    ),
    ("an empty weight", |s| put(s, &[weight(0, 8), hessian(1.0)]), &["[0, 8]"]),
    (
        "integers",
        |s| put(s, &[NamedTensor { dtype: Dtype::I32, ..weight(4, 8) }, hessian(1.0)]),
        &["in.safetensors: weight: type I32"],
    ),
    (
        "a NaN",
        |s| put(s, &[with(weight(4, 8), 10, f32::NAN), hessian(1.0)]),
        &["in.safetensors: weight: NaN at row 1, column 2"],
    ),
    ("no inputs", |s| put(s, &[weight(4, 8)]), &["in.safetensors", "gptq needs a tensor activations or hessian"]),
    ("inputs of others", |s| put(s, &[weight(4, 8), inputs(&[6, 7])]), &["in.safetensors", "[6, 7]", "[n, t, 8]"]),
    ("flat inputs", |s| put(s, &[weight(4, 8), inputs(&[48])]), &["[48]", "[n, t, 8]"]),
    ("no tokens", |s| put(s, &[weight(4, 8), inputs(&[0, 8])]), &["in.safetensors", "the tensor activations is empty"]),
    (
        "infinite inputs",
        |s| put(s, &[weight(4, 8), with(inputs(&[6, 8]), 0, f32::INFINITY)]),
        &["in.safetensors: activations: inf at row 0, column 0"],
    ),
    (
        "a narrow hessian",
        |s| put(s, &[weight(4, 9), hessian(1.0)]),
        &["in.safetensors: hessian: shape [8, 8], expected [9, 9]"],
    ),
    ("a negative hessian", |s| put(s, &[weight(4, 8), hessian(-1.0)]), &["not positive definite", "--percdamp"]),
];

const OPTIONS: &[BadArguments] = &[
    ("in.safetensors --method gptq --wbits 4 --groupsize 3 --out made", &["8 columns", "--groupsize 3"]),
    ("in.safetensors --method magnitude --pattern 3:5 --out made", &["8 columns", "--pattern 3:5"]),
    ("inputs.safetensors --method gptq --wbits 4 --sequences 4 --out made", &["6", "--sequences 4"]),
    ("in.safetensors --method gptq --wbits 4 --out nowhere/made", &["nowhere/made", "No such file"]),
];

pub const TABLES: &[Table] = &[Table {
    name: "files of layers",
    commands: &["layer in.safetensors --out out --method gptq --wbits 4"],
    shell: "",
    early: true,
    kinds: FILES,
}];

pub const QUESTIONS: &[Questions] = &[Questions {
    name: "options of layers",
    prepare: |s| {
        put(s, &[weight(4, 8), hessian(1.0)]);
        write_file(&s.path("inputs.safetensors"), vec![weight(4, 8), inputs(&[6, 8])]).unwrap();
    },
    command: "layer {}",
    code: 1,
    kinds: OPTIONS,
}];

#[test]
fn files_of_layers() {
    check("files of layers");
}

#[test]
fn options_of_layers() {
    check("options of layers");
}
