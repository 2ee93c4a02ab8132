//! Treatment of each group of a checkpoint, before a matrix is written.

use super::*;

fn open(model: &str) -> Arc<Checkpoint> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ct_models").join(model);
    Arc::new(Checkpoint::open(&dir).unwrap())
}

/// A group of the output: its name, its layout, and whether it is stored anew.
type Made = (&'static str, &'static str, bool);

#[test]
fn groups_are_converted_or_stay() {
    // Folder, layout, groups; groups of the output, and how many matrices are stored anew.
    for (model, format, chosen, expected, converted) in [
        ("pack_w4a16_g32_sym_bf16", "int-quantized", &[][..], &[("group_0", "int-quantized", true)][..], 14),
        ("pack_w8_with_lm_head_bf16", "naive-quantized", &[], &[("group_0", "naive-quantized", true)], 15),
        ("int_w8a8_dynamic_bf16", "dense", &["group_0"], &[("group_0", "dense", true)], 14),
        (
            "mixed_w4_fp8_bf16",
            "naive-quantized",
            &["group_0"],
            &[("group_0", "naive-quantized", true), ("group_1", "pack-quantized", false)],
            8,
        ),
        (
            "mixed_w4_fp8_bf16",
            "dense",
            &["group_1"],
            &[("group_0", "float-quantized", false), ("group_1", "dense", true)],
            6,
        ),
        (
            "mixed_w4_fp8_bf16",
            "naive-quantized",
            &[],
            &[("group_0", "naive-quantized", true), ("group_1", "naive-quantized", true)],
            14,
        ),
        // The linears of a dense model are one group.
        ("base_dense_bf16", "sparse-bitmask", &[], &[("group_0", "sparse-bitmask", true)], 14),
    ] {
        let checkpoint = open(model);
        let groups: Vec<String> = chosen.iter().map(|name: &&str| name.to_string()).collect();
        let plan = ConversionPlan::new(&checkpoint, Conversion { format, groups: &groups }).unwrap();
        let found: Vec<(&str, &str, bool)> =
            plan.groups.iter().map(|group| (group.name.as_str(), group.layout.name(), group.anew)).collect();
        let expected: &[Made] = expected;
        assert_eq!((found, plan.converted()), (expected.to_vec(), converted), "{model} to {format}");
        // The config names the layouts of the groups that have codes, and nothing where all are dense.
        let config = plan.config(&[]);
        let quant = &config["quantization_config"];
        for (name, layout, _) in expected.iter().filter(|(_, layout, _)| *layout != "dense") {
            let sparse = quant["sparsity_config"]["format"].as_str();
            let named = sparse.or_else(|| quant["config_groups"][*name]["format"].as_str());
            assert_eq!(named, Some(*layout), "{model} to {format}: {config}");
        }
        assert_eq!(quant.is_null(), expected.iter().all(|(_, layout, _)| *layout == "dense"), "{model} to {format}");
        // What activations are quantized to outlives the weights' layout only beside codes.
        let dense = expected.iter().any(|(_, layout, _)| *layout == "dense");
        assert_eq!(!plan.now_dense().is_empty(), dense, "{model} to {format}");
    }
}

#[test]
fn what_cannot_be_converted_is_told_why() {
    for (model, format, groups, words) in [
        ("pack_w4a16_g32_sym_bf16", "nothing", &[][..], "nothing: no such format; known: "),
        ("pack_w4a16_g32_sym_bf16", "dense", &["group_1"], "group_1: no such group; did you mean group_0?"),
        (
            "mixed_w4_fp8_bf16",
            "dense",
            &["group_0", "group_9"],
            "group_9: no such group; did you mean group_0 or group_1?",
        ),
        (
            "mixed_w4_fp8_bf16",
            "spqr",
            &["group_1"],
            "group_0 would stay float-quantized, and no config can name that together with spqr; convert all groups",
        ),
    ] {
        let checkpoint = open(model);
        let groups: Vec<String> = groups.iter().map(|name: &&str| name.to_string()).collect();
        let error =
            ConversionPlan::new(&checkpoint, Conversion { format, groups: &groups }).err().expect(words).to_string();
        assert!(error.contains(words), "{error}: not {words}");
    }
}

#[test]
fn a_matrix_that_would_read_back_otherwise_is_refused() {
    for (model, format, words) in [
        // Codes of 8 bits do not fit 4, zeros have no place, and floats are no integers.
        ("pack_w4a16_g32_asym_bf16", "nvfp4-pack-quantized", "cannot become nvfp4-pack-quantized"),
        ("float_fp8_dynamic_bf16", "pack-quantized", "cannot become pack-quantized"),
        ("pack_w3a16_g32_asym_f32", "spqr", "cannot become spqr"),
    ] {
        let checkpoint = open(model);
        let plan = ConversionPlan::new(&checkpoint, Conversion { format, groups: &[] }).unwrap();
        let (module, matrix) = plan.matrices.iter().next().unwrap();
        let error = plan.check(module, matrix).expect_err(words).to_string();
        assert!(error.starts_with(module.as_str()) && error.contains(words), "{error}: not {words}");
    }
    let checkpoint = open("pack_w4a16_g32_asym_bf16");
    let plan = ConversionPlan::new(&checkpoint, Conversion { format: "int-quantized", groups: &[] }).unwrap();
    plan.matrices.iter().for_each(|(module, matrix)| plan.check(module, matrix).unwrap());
}
