use super::*;

#[test]
fn slips_lead_to_the_names_that_were_meant() {
    let known = ["W4A16", "W8A16", "FP8_DYNAMIC", "NVFP4", "groupsize", "model.layers.0.self_attn.q_proj"];
    for (typed, expected) in [
        ("W4A61", "W4A16"),
        ("w4-a16", "W4A16"),
        ("FP8-DYNAMC", "FP8_DYNAMIC"),
        ("NVPF4", "NVFP4"),
        ("groupsze", "groupsize"),
        ("model.layers.0.self_attn.qproj", "model.layers.0.self_attn.q_proj"),
    ] {
        assert_eq!(did_you_mean(typed, known).as_deref(), Some(&*format!("did you mean {expected}?")), "{typed}");
    }
}

#[test]
fn equally_near_names_are_all_meant() {
    assert_eq!(did_you_mean("INT9", ["INT4", "INT8", "FP8"]).unwrap(), "did you mean INT4 or INT8?");
    let many = ["a1", "a2", "a3", "a4"];
    assert_eq!(did_you_mean("a0", many).unwrap(), "did you mean a1, a2 or a3?");
    // The nearest alone, where one is nearer than the others.
    assert_eq!(did_you_mean("weight1", ["weight", "weights11", "weight1s2"]).unwrap(), "did you mean weight?");
}

#[test]
fn other_names_get_the_list() {
    assert_eq!(suggestion("awq", ["gptq", "rtn"]), "known: gptq, rtn");
    assert_eq!(suggestion("gptqq", ["gptq", "rtn"]), "did you mean gptq?");
    for (typed, known) in [("", "c4"), ("xy", "c4"), ("something else", "W4A16"), ("é", "ab")] {
        assert_eq!(did_you_mean(typed, [known]), None, "{typed}");
    }
    assert_eq!(did_you_mean(&"W".repeat(100_000), ["W4A16"]), None);
}
