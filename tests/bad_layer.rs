//! Files that `paring layer` cannot use.

mod support;

use paring_format::Dtype;
use paring_format::writer::{Tensor, write_file};

use support::*;

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
