//! Single files that a command writes where a person says.

use super::*;

/// Single files: what the same command wrote is replaced, and nothing else without being asked.
#[test]
fn single_files_are_not_replaced_unasked() {
    let sandbox = with_output();
    write_layer(&sandbox, "layer.safetensors");
    sandbox.ok("quantize model calib.safetensors --method spqr --wbits 3 --groupsize 16 --outlier-threshold 0.2 --quiet --out spqr");
    for command in [
        "layer layer.safetensors --method rtn --wbits 4 --out FILE",
        "report out --html FILE",
        "report out out --html FILE",
        "inspect spqr --outliers FILE",
    ] {
        let run = |file: &str| sandbox.run(&command.replace("FILE", file));
        for name in ["made", "made"] {
            assert_eq!(run(name).code, Some(0), "{command} {name}: {}", run(name).stderr);
        }
        sandbox.write("mine", "mine");
        sandbox.write("fresh.tmp", "mine");
        sandbox_refused(
            &run("mine"),
            "mine: exists, and this command did not write it; name another file, or replace it (--overwrite)",
        );
        for (file, words) in [
            ("out/config.json", "out/config.json: a file of the output in out"),
            ("out/paring.json", "out/paring.json: "),
            ("model/config.json", "model/config.json: exists"),
        ] {
            let before = fs::read(sandbox.path(file)).unwrap();
            sandbox_refused(&run(file), words);
            assert!(fs::read(sandbox.path(file)).unwrap() == before, "{command} {file}");
        }
        assert_eq!(run("fresh").code, Some(0));
        assert_eq!(fs::read(sandbox.path("fresh.tmp")).unwrap(), b"mine");
        assert_eq!(run("mine --overwrite").code, Some(0), "{command}");
        assert_ne!(fs::read(sandbox.path("mine")).unwrap(), b"mine");
        let ran = run("out/config.json --overwrite");
        sandbox_refused(&ran, "a file of the output in out");
        ["made", "mine", "fresh"].iter().for_each(|name| fs::remove_file(sandbox.path(name)).unwrap());
    }
    // An input under another name.
    fs::hard_link(sandbox.path("layer.safetensors"), sandbox.path("second")).unwrap();
    let ran = sandbox.run("layer layer.safetensors --method rtn --wbits 4 --out second --overwrite");
    sandbox_refused(&ran, "second: is read as layer.safetensors");
    let ran = sandbox.run("report out --html out/report.json --overwrite");
    sandbox_refused(&ran, "out/report.json: is read as out/report.json");
    // The page in a run's folder is rewritten, whatever it holds; that beside a mere report is not.
    sandbox.write("out/report.html", "old");
    sandbox.ok("report out");
    assert!(fs::read_to_string(sandbox.path("out/report.html")).unwrap().starts_with("<!DOCTYPE html>"));
    fs::copy(sandbox.path("out/report.json"), sandbox.path("report.json")).unwrap();
    sandbox.write("report.html", "mine");
    sandbox_refused(&sandbox.run("report report.json"), "report.html: exists");
    // Pages of the manual.
    sandbox.ok("man --out man");
    sandbox.ok("man --out man");
    sandbox.write("man/paring-quantize.1", "mine");
    sandbox_refused(&sandbox.run("man --out man"), "man/paring-quantize.1: exists");
    sandbox.ok("man --out man --overwrite");
}

/// A layer file of random weights.
fn write_layer(sandbox: &Sandbox, name: &str) {
    let weight: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
    paring_format::writer::write_file(&sandbox.path(name), vec![f32_tensor("weight", &[4, 16], &weight)]).unwrap();
}
