//! Lines of errors, and the names that are filled into them.

use super::*;
use crate::finite::{all_finite, check_finite};

fn filled(error: Error) -> String {
    error.in_module("model.fc1", "a.safetensors").to_string()
}

/// A layout does not know files and modules: they are added where it is read, once.
#[test]
fn names_are_filled_in_where_they_are_missing() {
    let tensor = || "weight_scale".to_string();
    let (module, file) = (String::new, String::new);
    for (error, line) in [
        (Error::parts("odd"), "model.fc1: odd"),
        (Error::GroupSize { module: module(), cols: 5, group_size: 4 }, "model.fc1: 5 columns are not a multiple"),
        (Error::UnsupportedFormat { module: module(), format: "x".into() }, "model.fc1: x is not supported"),
        (
            Error::MissingTensor { tensor: tensor(), file: file(), near: "look".into() },
            "a.safetensors: no tensor model.fc1.weight_scale; look",
        ),
        (
            Error::WrongShape { tensor: tensor(), file: file(), expected: vec![2], got: vec![3] },
            "a.safetensors: model.fc1.weight_scale: shape [3], expected [2]",
        ),
        (
            Error::WrongDtype { tensor: tensor(), file: file(), expected: "F16".into(), got: Dtype::I8 },
            "a.safetensors: model.fc1.weight_scale: type I8, expected F16",
        ),
        (
            Error::NotFinite { tensor: tensor(), file: file(), index: 7, cols: 3, value: f32::INFINITY },
            "a.safetensors: model.fc1.weight_scale: inf at row 2, column 1 (element 7)",
        ),
    ] {
        assert!(filled(error).starts_with(line), "{line}");
    }
    // Names that are known stay.
    let known = Error::BadParts { module: "lm_head".into(), reason: "odd".into() };
    assert_eq!(filled(known), "lm_head: odd");
    let known = Error::WrongShape { tensor: tensor(), file: "b".into(), expected: vec![2], got: vec![3] };
    assert_eq!(filled(known), "b: weight_scale: shape [3], expected [2]");
    // And where nobody knows them they are left out.
    assert_eq!(Error::parts("odd").to_string(), "the matrix: odd");
    let nowhere = Error::WrongShape { tensor: tensor(), file: file(), expected: vec![2], got: vec![3] };
    assert_eq!(nowhere.to_string(), "weight_scale: shape [3], expected [2]");
}

#[test]
fn a_full_disk_is_told_from_other_errors() {
    let path = Path::new("out/x");
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        assert!(matches!(Error::write(path, 9, kind.into()), Error::NoSpace { bytes: 9, .. }), "{kind}");
    }
    assert!(matches!(Error::write(path, 9, io::ErrorKind::PermissionDenied.into()), Error::Io { .. }));
}

/// The line and the message with its options are one text.
#[test]
fn messages_are_the_lines_of_errors() {
    let path = || PathBuf::from("out");
    for (error, options) in [
        (Error::NotFinished { path: path() }, vec!["resume"]),
        (Error::Unfinished { path: path() }, vec!["resume", "overwrite"]),
        (Error::OutputNotEmpty { path: path(), own: true }, vec!["out", "overwrite"]),
        (Error::OutputNotEmpty { path: path(), own: false }, vec!["out"]),
        (Error::Disagreement { file: "a".into(), reason: "b".into() }, vec!["lenient"]),
        (Error::refused(Path::new("out"), message!["see ", Setting::new("resume")]), vec!["resume"]),
        (Error::shard("a", "b"), vec![]),
    ] {
        assert_eq!(error.message().to_string(), error.to_string());
        assert_eq!(error.message().options().collect::<Vec<_>>(), options, "{error}");
    }
    let holder = |holder: &str| Error::Locked { path: path(), holder: holder.into() }.to_string();
    assert!(holder("12").contains("writes here (process 12);") && holder("").contains("writes here;"));
}

#[test]
fn the_first_number_that_is_not_finite_is_named() {
    assert!(all_finite(&[]) && all_finite(&[1.0, f32::MAX, -0.0]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(!all_finite(&[1.0, bad, 2.0]));
        let text = check_finite(&[1.0, 2.0, bad, f32::NAN], 3, 6, "t", "f").unwrap_err().to_string();
        assert!(text.starts_with(&format!("f: t: {bad} at row 2, column 2 (element 8); ")), "{text}");
    }
    assert!(check_finite(&[1.0, 2.0], 3, 6, "t", "f").is_ok());
}
