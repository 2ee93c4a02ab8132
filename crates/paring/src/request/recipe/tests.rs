use super::*;

#[test]
fn names_that_are_nearly_those_of_schemes_are_told() {
    for (typed, expected) in [
        ("W4A61", "did you mean W4A16? "),
        ("w4-a16", "did you mean W4A16? "),
        ("FP8-DYNAMC", "did you mean FP8_DYNAMIC? "),
        ("NVPF4", "did you mean NVFP4? "),
        ("int9", "did you mean INT8? "),
    ] {
        let error = preset(typed).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("`paring schemes`"), "{error}");
    }
    let error = preset("something else").unwrap_err().to_string();
    assert_eq!(error, "scheme something else: no such scheme; `paring schemes` lists all");
    assert!(preset(&"W".repeat(100_000)).is_err());
    assert_eq!(preset("w4a16").unwrap().name, "W4A16");
}
