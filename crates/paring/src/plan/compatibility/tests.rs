//! The table of what runs what, row by row as the reference has it.

use paring_format::{LAYOUTS, Strategy};

use super::*;

fn int(bits: u32, symmetric: bool, group: usize) -> Scheme {
    let strategy = if group == 0 { Strategy::Channel } else { Strategy::Group(group) };
    let weights = QuantArgs { symmetric, strategy, ..QuantArgs::new(Element::Int(bits)) };
    let format = usual_layout(&weights, None).name().into();
    Scheme { format, weights: Some(weights), ..Scheme::dense() }
}

fn kernels(scheme: &Scheme, linears: &Linears) -> String {
    match verdict(Loader::Vllm, scheme, linears) {
        Verdict::Runs(on) => format!("yes: {on}"),
        Verdict::Limited(on) => format!("only: {on}"),
        Verdict::Refused(why) => format!("no: {why}"),
    }
}

#[test]
fn kernels_for_packed_integers() {
    let shapes = [(4096, 4096), (11008, 4096)];
    let f16 = Linears { dtype: Some(Dtype::F16), model_type: Some("llama"), shapes: &shapes };
    let bf16 = Linears { dtype: Some(Dtype::Bf16), ..f16 };
    for (scheme, linears, expected) in [
        (
            int(4, true, 128),
            &bf16,
            "yes: Marlin (sm75+), Machete (sm90), Triton, ROCm, CPU, XPU, Conch (a package), Humming",
        ),
        (int(4, true, 32), &f16, "yes: Marlin (sm75+), Triton, Exllama (f16), ROCm, CPU, XPU, Humming"),
        (int(4, true, 16), &f16, "only: Exllama (f16), CPU, Humming"),
        (int(4, true, 16), &bf16, "only: CPU, Humming"),
        (int(4, false, 0), &bf16, "yes: Marlin (sm75+), Machete (sm90), Triton, CPU, XPU, Conch (a package), Humming"),
        (int(4, false, 16), &f16, "only: CPU, Humming"),
        (int(8, true, 128), &bf16, "yes: Marlin (sm75+), Machete (sm90), Conch (a package), Humming"),
        (int(8, false, 128), &bf16, "only: Machete (sm90), Conch (a package), Humming"),
        (int(3, true, 32), &bf16, "only: Humming"),
        (int(2, false, 64), &f16, "only: Humming"),
    ] {
        let found = kernels(&scheme, linears);
        assert!(found.starts_with(expected), "{}: {found}", scheme.weights.as_ref().unwrap());
    }
    // Rows that are no multiple of 128, columns that are none of 64.
    let odd = Linears { shapes: &[(4096 + 8, 96)], ..bf16 };
    assert!(!kernels(&int(4, true, 0), &odd).contains("Machete"));
    let tensor = QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::Int(4)) };
    let tensor = Scheme { weights: Some(tensor), ..int(4, true, 0) };
    assert!(kernels(&tensor, &bf16).starts_with("no: "));
    let unpacked = Scheme { format: "int-quantized".into(), ..int(8, true, 0) };
    assert!(kernels(&unpacked, &bf16).starts_with("no: "));
}

#[test]
fn every_layout_has_its_row() {
    let layouts: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name()).collect();
    let rows: Vec<&str> = SUPPORT.iter().map(|support| support.layout).collect();
    assert_eq!(rows, layouts);
    // No program knows a layout that compressed-tensors dropped, and both know plain weights.
    for layout in LAYOUTS {
        let scheme = Scheme { format: layout.name().into(), ..Preset::find("W4A16").unwrap().scheme(vec![]) };
        for loader in [Loader::Transformers, Loader::Vllm] {
            let verdict = verdict(loader, &scheme, &Linears::ANY);
            let dropped = matches!(&verdict, Verdict::Refused(why) if why.contains("dropped"));
            assert_eq!(dropped, layout.instead().is_some(), "{}: {verdict:?}", layout.name());
        }
    }
    let unknown = Scheme { format: "marlin-48".into(), ..Scheme::dense() };
    let verdict = verdict(Loader::Vllm, &unknown, &Linears::ANY);
    assert_eq!(verdict, Verdict::Refused("it does not know the layout marlin-48".into()));
}

#[test]
fn a_scheme_that_does_not_run_has_another_instead() {
    let float = |element| Scheme { weights: Some(QuantArgs::new(element)), ..Scheme::dense() };
    let inputs = Some(QuantArgs::new(Element::Int(8)));
    for (scheme, expected) in [
        (int(3, true, 32), "scheme W4A16, or wbits 4 sym with groupsize 32, 64 or 128"),
        (int(8, false, 128), "wbits 8 sym with groupsize -1, 32, 64 or 128"),
        (Scheme { input: inputs, ..int(8, true, 0) }, "scheme W8A8"),
        (float(Element::E4m3), "scheme FP8_DYNAMIC"),
        (float(Element::E2m1), "scheme W4A16, or wbits 4 sym with groupsize 32, 64 or 128"),
        (
            Scheme { format: "paring-spqr".into(), ..int(3, false, 16) },
            "`paring decompress`, which makes a plain model",
        ),
        (Scheme { format: "spqr".into(), ..int(3, false, 16) }, "`paring decompress`, which makes a plain model"),
        (Scheme::dense(), "scheme W4A16, or wbits 4 sym with groupsize 32, 64 or 128"),
    ] {
        let found = instead(Loader::Vllm, &scheme).to_string();
        assert!(found.starts_with(expected), "{}, {:?}: {found}", scheme.format, scheme.weights);
    }
}

#[test]
fn packed_zero_points_are_read_by_some_releases() {
    for bits in [3, 4, 8] {
        let (with, without) = (int(bits, false, 32), int(bits, true, 32));
        let Verdict::Limited(on) = verdict(Loader::Transformers, &with, &Linears::ANY) else { panic!("{with:?}") };
        assert!(["0.19", "0.20.1", "5.24", "dequantize=True"].iter().all(|word| on.contains(word)), "{on}");
        assert_eq!(instead(Loader::Transformers, &with).to_string(), "sym");
        assert!(matches!(verdict(Loader::Transformers, &without, &Linears::ANY), Verdict::Runs(_)));
        let unpacked = Scheme { format: "int-quantized".into(), ..int(8, false, 32) };
        assert!(matches!(verdict(Loader::Transformers, &unpacked, &Linears::ANY), Verdict::Runs(_)));
    }
}

#[test]
fn what_does_not_run() {
    let preset = |name: &str| Preset::find(name).unwrap().scheme(vec![]);
    let falcon = Linears { model_type: Some("falcon"), ..Linears::ANY };
    let f16 = Linears { dtype: Some(Dtype::F16), ..Linears::ANY };
    let refused =
        |loader, scheme: &Scheme, linears: &Linears| matches!(verdict(loader, scheme, linears), Verdict::Refused(_));
    assert!(refused(Loader::Transformers, &preset("W4A16"), &falcon));
    assert!(!refused(Loader::Transformers, &preset("W8A8"), &falcon));
    assert!(refused(Loader::Transformers, &preset("MXFP4"), &f16));
    assert!(!refused(Loader::Transformers, &preset("MXFP4"), &Linears::ANY));
    let asymmetric =
        |scheme: Scheme| Scheme { weights: scheme.weights.map(|w| QuantArgs { symmetric: false, ..w }), ..scheme };
    assert!(refused(Loader::Vllm, &asymmetric(preset("W8A8")), &Linears::ANY));
    let grouped = |scheme: Scheme| {
        let weights = scheme.weights.map(|w| QuantArgs { strategy: Strategy::Group(128), ..w });
        Scheme { weights, ..scheme }
    };
    for name in ["W8A8", "FP8", "FP8_DYNAMIC"] {
        assert!(!refused(Loader::Vllm, &preset(name), &f16), "{name}");
        assert!(refused(Loader::Vllm, &grouped(preset(name)), &f16), "{name}");
    }
    for format in ["paring-spqr", "sparse-bitmask", "sparse-24-bitmask", "marlin-24"] {
        let scheme = Scheme { format: format.into(), ..preset("W4A16") };
        assert!(refused(Loader::Transformers, &scheme, &f16) && refused(Loader::Vllm, &scheme, &f16), "{format}");
    }
    // A scheme that is safe is one that both run, whatever they are asked with.
    for loader in [Loader::Transformers, Loader::Vllm] {
        for name in ["W4A16", "W8A8", "FP8_DYNAMIC"] {
            assert!(matches!(verdict(loader, &preset(name), &Linears::ANY), Verdict::Runs(_)), "{name}");
        }
    }
}

/// The table that people read is the one that the program goes by.
#[test]
fn the_table_in_the_documentation() {
    let mut lines = vec![
        "| scheme | weights | inputs | layout | transformers 5.17 | vLLM 0.33 |".to_string(),
        "| --- | --- | --- | --- | --- | --- |".to_string(),
    ];
    lines.extend(table().iter().map(|row| {
        let Row { scheme, weights, inputs, format, transformers, vllm } = row;
        format!("| `{scheme}` | {weights} | {inputs} | `{format}` | {transformers} | {vllm} |")
    }));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let found: Vec<&str> =
        text.lines().skip_while(|l| !l.starts_with("| scheme |")).take_while(|l| l.starts_with('|')).collect();
    assert!(found == lines, "{path} should have\n{}", lines.join("\n"));
}
