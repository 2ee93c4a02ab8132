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
        Verdict::Limited(only) => format!("only {only}"),
        Verdict::Refused(why) => format!("no: {why}"),
    }
}

#[test]
fn kernels_for_packed_integers() {
    let shapes = [(4096, 4096), (11008, 4096)];
    let f16 = Linears { dtype: Some(Dtype::F16), model_type: Some("llama"), shapes: &shapes };
    let bf16 = Linears { dtype: Some(Dtype::Bf16), ..f16 };
    let humming = "only on NVIDIA GPUs from sm75 (Humming with CUDA 13)";
    for (scheme, linears, expected) in [
        (
            int(4, true, 128),
            &bf16,
            "yes: NVIDIA GPUs from sm75 (Marlin, Machete on sm90, Triton, Humming with CUDA 13), AMD GPUs, Intel GPUs, CPUs",
        ),
        (
            int(4, true, 32),
            &f16,
            "yes: NVIDIA GPUs from sm75 (Marlin, Triton, Exllama for f16, Humming with CUDA 13), AMD GPUs, Intel GPUs, CPUs",
        ),
        (int(4, true, 16), &f16, "yes: NVIDIA GPUs from sm75 (Exllama for f16, Humming with CUDA 13), AMD GPUs, CPUs"),
        (int(4, true, 16), &bf16, "yes: NVIDIA GPUs from sm75 (Humming with CUDA 13), CPUs"),
        (int(4, true, 8), &bf16, "only on CPUs"),
        (int(4, true, 5), &bf16, "no: it has no kernel for 4-bit integers in groups of 5"),
        (
            int(4, false, 0),
            &bf16,
            "yes: NVIDIA GPUs from sm75 (Marlin, Machete on sm90, Triton, Humming with CUDA 13), AMD GPUs, Intel GPUs, CPUs",
        ),
        (int(8, true, 128), &bf16, "yes: NVIDIA GPUs from sm75 (Marlin, Machete on sm90, Humming with CUDA 13)"),
        (int(8, false, 128), &bf16, "only on NVIDIA GPUs from sm75 (Machete on sm90, Humming with CUDA 13)"),
        (int(3, true, 32), &bf16, humming),
        (int(3, false, 16), &bf16, humming),
        (int(2, false, 64), &f16, humming),
        (int(3, true, 8), &bf16, "no: it has no kernel for 3-bit integers in groups of 8"),
    ] {
        assert_eq!(kernels(&scheme, linears), expected, "{}", scheme.weights.as_ref().unwrap());
    }
    // Rows that are no multiple of 128, columns that are none of 64; and neither of 32, where CPUs have no kernel.
    let odd = Linears { shapes: &[(4096 + 8, 96)], ..bf16 };
    assert!(!kernels(&int(4, true, 0), &odd).contains("Machete"));
    assert_eq!(kernels(&int(4, true, 16), &Linears { shapes: &[(4096 + 8, 48)], ..bf16 }), humming);
    let tensor = QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::Int(4)) };
    let tensor = Scheme { weights: Some(tensor), ..int(4, true, 0) };
    assert!(kernels(&tensor, &bf16).starts_with("no: "));
    let unpacked = Scheme { format: "int-quantized".into(), ..int(8, true, 0) };
    assert!(kernels(&unpacked, &bf16).starts_with("no: "));
}

#[test]
fn humming_needs_larger_groups_for_quantized_inputs() {
    let with = |bits, symmetric, group, inputs| {
        let input = QuantArgs { strategy: Strategy::Token, ..QuantArgs::new(Element::Int(inputs)) };
        let scheme = Scheme { format: "pack-quantized".into(), input: Some(input), ..int(bits, symmetric, group) };
        kernels(&scheme, &Linears::ANY)
    };
    let runs = "only on NVIDIA GPUs from sm75 (Humming with CUDA 13)";
    for (bits, symmetric, group, inputs, fits) in [
        (3, true, 32, 8, true),
        (3, true, 16, 8, false),
        (3, true, 0, 8, true),
        (3, false, 64, 4, true),
        (3, true, 32, 4, false),
        (4, false, 64, 4, false),
        (4, false, 64, 8, true),
    ] {
        let found = with(bits, symmetric, group, inputs);
        assert_eq!(found == runs, fits, "{bits} {symmetric} {group} {inputs}: {found}");
        assert!(fits || found.starts_with("no: Humming needs"), "{found}");
    }
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

fn said(scheme: &Scheme) -> Vec<String> {
    notes(scheme, &Linears::ANY).iter().map(ToString::to_string).collect()
}

#[test]
fn a_note_says_where_a_format_runs_and_what_to_use_instead() {
    let preset = |name: &str| Preset::find(name).unwrap().scheme(vec![]);
    let spqr = "only paring can run SpQR files; `paring decompress` turns the result into a normal model";
    for (scheme, expected) in [
        (
            int(3, true, 32),
            vec![
                "vLLM 0.33 runs this format (3-bit, groups of 32, symmetric) only on NVIDIA GPUs from sm75 (Humming with \
                 CUDA 13). For wide support: scheme W4A16",
            ],
        ),
        (
            int(8, false, 128),
            vec![
                "vLLM 0.33 runs this format (8-bit, groups of 128, asymmetric) only on NVIDIA GPUs from sm75 (Machete on \
                 sm90, Humming with CUDA 13). For wide support: scheme W8A16",
                "transformers 5.24 runs this format (8-bit, groups of 128, asymmetric) only with dequantize=True. To avoid \
                 this: sym",
            ],
        ),
        (
            Scheme { format: "marlin-24".into(), ..int(4, true, 128) },
            vec![
                "transformers 5.24 cannot run this format (4-bit, groups of 128, symmetric): compressed-tensors dropped \
                 this layout in release 0.15. For wide support: scheme W4A16",
                "vLLM 0.33 cannot run this format (4-bit, groups of 128, symmetric): vLLM dropped this layout. For wide \
                 support: scheme W4A16",
            ],
        ),
        (Scheme { format: "paring-spqr".into(), ..int(3, false, 16) }, vec![spqr]),
        (Scheme { format: "spqr".into(), ..int(3, false, 16) }, vec![spqr]),
        (preset("W4A16"), vec![]),
        (preset("FP8_DYNAMIC"), vec![]),
        (Scheme::dense(), vec![]),
    ] {
        assert_eq!(said(&scheme), expected, "{}", scheme.format);
    }
    let ordered = QuantArgs { actorder: Some("group".into()), ..preset("W4A16").weights.unwrap() };
    let ordered = Scheme { weights: Some(ordered), ..preset("W4A16") };
    let both = "transformers 5.24 and vLLM 0.33 cannot run this format (4-bit, groups of 128, symmetric, groups in activation \
        order): ";
    assert!(said(&ordered)[0].starts_with(both) && said(&ordered).len() == 1, "{:?}", said(&ordered));
}

#[test]
fn packed_zero_points_are_not_read_by_default() {
    for bits in [3, 4, 8] {
        let (with, without) = (int(bits, false, 32), int(bits, true, 32));
        let limited = Verdict::Limited("with dequantize=True".into());
        assert_eq!(verdict(Loader::Transformers, &with, &Linears::ANY), limited);
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
        format!("| scheme | weights | inputs | layout | {TRANSFORMERS} | {VLLM} |"),
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
