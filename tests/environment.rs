//! A system that refuses: places to write to, threads, memory, room on a disk. A run finishes where it can do without, with the
//! bytes that it has elsewhere; otherwise it ends with one line and its exit code, and never by a panic or a signal.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::*;

/// The run that most tests do, on the golden Llama.
const RUN: &str = "quantize model calib.safetensors --wbits 4";

/// The bytes of a model that an undisturbed run writes, and a folder to disturb others in.
fn undisturbed() -> (Sandbox, std::collections::BTreeMap<String, Vec<u8>>) {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("{RUN} --quiet --out whole"));
    let want = model_bytes(&sandbox.path("whole"));
    (sandbox, want)
}

/// Errors, in words, unless the shell's command ended like this.
fn ended(sandbox: &Sandbox, command: &str, code: i32) -> Ran {
    let ran = sandbox.shell(command);
    assert_eq!(ran.code, Some(code), "{command}: {}{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{command}: {}", ran.stderr);
    ran
}

#[test]
fn a_log_that_nobody_takes_ends_nothing() {
    let (sandbox, want) = undisturbed();
    for (i, to) in ["2>/dev/full", "2>&-", "2>&- >&-", "</dev/null 2>/dev/full"].iter().enumerate() {
        for more in ["", "--verbose", "--quiet", "--log-json -"] {
            let out = format!("out{i}{}", more.len());
            ended(&sandbox, &format!("exec $PARING {RUN} {more} --out {out} {to}"), 0);
            assert!(model_bytes(&sandbox.path(&out)) == want, "{to} {more}");
        }
    }
    // A reader that goes away, of the progress and of the result.
    let script =
        format!("{{ $PARING {RUN} --verbose --out gone; echo $? > code; }} 2>&1 | head -c 10; exec cat code >&2");
    let ran = ended(&sandbox, &script, 0);
    assert_eq!((ran.stdout.len(), ran.stderr.as_str()), (10, "0\n"));
    assert!(model_bytes(&sandbox.path("gone")) == want);
    // Errors keep their codes.
    for (arguments, code) in
        [("inspect none", 1), ("quantize model", 2), ("quantize model --wbits 99", 2), ("nothing", 2)]
    {
        for to in ["2>/dev/full", "2>&-"] {
            ended(&sandbox, &format!("exec $PARING {arguments} {to}"), code);
        }
    }
}

#[test]
fn a_result_that_nobody_takes_is_an_error() {
    let sandbox = Sandbox::new();
    for arguments in
        ["inspect model", "inspect model --json --quiet", "schemes", "--help", "quantize --help", "--version", "man"]
    {
        let ran = ended(&sandbox, &format!("exec $PARING {arguments} >/dev/full"), 1);
        assert_eq!(ran.stderr, "error: stdout: No space left on device (os error 28)\n", "{arguments}");
        // One that has seen enough is none.
        let script = format!("{{ $PARING {arguments}; echo $? >&2; }} | head -c 1");
        assert_eq!(ended(&sandbox, &script, 0).stderr, "0\n", "{arguments}");
        ended(&sandbox, &format!("exec $PARING {arguments} >&-"), 0);
    }
}

#[test]
fn a_limit_of_the_size_of_files_loses_nothing() {
    let (sandbox, want) = undisturbed();
    // In blocks of 512 bytes: some file meets each of these, the merged weights and then the page of the report the last.
    let (mut refused, mut pages, mut journals) = (0, 0, 0);
    for blocks in [1, 4, 16, 17, 18, 24, 40, 64, 68, 80] {
        let ran = sandbox.shell(&format!("ulimit -f {blocks}; exec $PARING {RUN} --quiet --out out"));
        if ran.code != Some(0) {
            assert!(ran.code == Some(1) && ran.stderr.lines().count() == 1, "{blocks}: {ran:?}");
            assert!(ran.stderr.starts_with("error: out/") && ran.stderr.contains("File too large"), "{}", ran.stderr);
            refused += 1;
            pages += usize::from(ran.stderr.contains("report.html"));
            journals += usize::from(ran.stderr.contains("journal.jsonl"));
        }
        // Of a line that does not fit, nothing is left.
        let journal = fs::read(sandbox.path("out/journal.jsonl")).unwrap_or_default();
        assert!(journal.last().is_none_or(|&end| end == b'\n'), "{blocks}");
        // What is missing is made, the page too.
        sandbox.ok(&format!("{RUN} --quiet --out out --resume"));
        assert!(model_bytes(&sandbox.path("out")) == want, "{blocks}");
        let page = fs::read_to_string(sandbox.path("out/report.html")).unwrap();
        assert!(page.contains("</html>") && !sandbox.path("out/report.html.tmp").exists());
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    let met = format!("{refused} runs met their limit, {pages} at the page and {journals} at the journal");
    assert!(refused > 2 && pages > 0 && journals > 0, "{met}");
}

/// Without the right to start processes as somebody else, or the program for it, the limit counts what the user runs already.
#[test]
fn threads_that_the_system_refuses_are_done_without() {
    let (sandbox, want) = undisturbed();
    sandbox.ok("quantize demo demo --wbits 4 --nsamples 16 --seqlen 64 --quiet --out demo4");
    let demo = model_bytes(&sandbox.path("demo4"));
    fs::copy(env!("CARGO_BIN_EXE_paring"), sandbox.path("paring")).unwrap();
    let open = |name: &str| fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(0o777)).unwrap();
    ["", "paring", "model", "demo4", "whole"].iter().for_each(|name| open(name));
    let nobody = "setpriv --reuid=54321 --clear-groups";
    let as_nobody = sandbox.shell(&format!("{nobody} ./paring --version")).code == Some(0);
    let user = if as_nobody { nobody } else { "" };
    let mut fewer = 0;
    for threads in 1..=6 {
        let limit = format!("{user} prlimit --nproc={threads} ./paring");
        let run = |arguments: &str| ended(&sandbox, &format!("exec {limit} {arguments}"), 0).stderr;
        fewer +=
            usize::from(run(&format!("{RUN} --threads 4 --quiet --out out{threads}")).contains("the system allows"));
        assert!(model_bytes(&sandbox.path(&format!("out{threads}"))) == want, "{threads} threads");
        run(&format!(
            "quantize demo demo --wbits 4 --nsamples 16 --seqlen 64 --threads 3 --resumable --quiet --out demo{threads}0"
        ));
        assert!(model_bytes(&sandbox.path(&format!("demo{threads}0"))) == demo, "{threads} threads");
        for arguments in ["verify whole", "inspect whole", "eval model eval.safetensors --seqlen 32 --threads 3"] {
            run(arguments);
        }
        run(&format!("decompress whole --out dense{threads}"));
    }
    assert!(fewer > 2, "no run was refused a thread");
}

#[test]
fn threads_beyond_the_processors_are_fewer_with_a_note() {
    let (sandbox, want) = undisturbed();
    let ran = sandbox.ok(&format!("{RUN} --threads 65535 --quiet --out out"));
    let most = 8 * std::thread::available_parallelism().unwrap().get();
    assert!(
        ran.stderr.contains(&format!("note: --threads 65535: {most} are used, 8 for each processor")),
        "{}",
        ran.stderr
    );
    assert!(model_bytes(&sandbox.path("out")) == want);
}

#[test]
fn little_memory_is_enough_or_a_line_says_that_it_is_not() {
    let (sandbox, want) = undisturbed();
    let limited = |kilobytes: usize, arguments: &str| {
        sandbox.shell(&format!("ulimit -v {kilobytes}; exec \"$PARING\" {arguments} --quiet --out out"))
    };
    for threads in [1, 2, 4] {
        let ran = limited(400_000, &format!("{RUN} --threads {threads}"));
        assert!(ran.code == Some(0) && model_bytes(&sandbox.path("out")) == want, "{threads} threads: {}", ran.stderr);
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    let ran = limited(500_000, "quantize demo demo --wbits 4 --nsamples 16 --seqlen 64 --threads 2");
    assert!(ran.code == Some(0), "{}", ran.stderr);
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    // From limits that the program does not start with to those that it finishes with.
    let (mut refused, mut finished) = (0, 0);
    for kilobytes in (16_000..72_000).step_by(2000) {
        let ran = limited(kilobytes, &format!("{RUN} --threads 1"));
        // For records of its own, the C library asks nobody.
        let by_libc = ran.code.is_none() && ran.stderr.starts_with("Fatal glibc error");
        let errors = ran.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        match ran.code {
            Some(0) => finished += 1,
            // The system does not even load it.
            Some(127 | 139) | None if !ran.stderr.contains("error: ") => continue,
            None if by_libc => {}
            Some(1) if errors == 1 && !ran.stderr.contains("panicked") => {
                refused += usize::from(ran.stderr.contains("error: out of memory: the system refused"));
            }
            code => panic!("{kilobytes} kB: {code:?}: {}", ran.stderr),
        }
        if ran.code != Some(0) {
            sandbox.ok(&format!("{RUN} --quiet --out out --resume"));
        }
        assert!(model_bytes(&sandbox.path("out")) == want, "{kilobytes} kB");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    assert!(refused > 0 && finished > 0, "{refused} runs had too little memory, {finished} enough");
}

/// Activations are kept to save time, and cost no run its result.
#[test]
fn activations_that_do_not_fit_are_left_out() {
    let sandbox = Sandbox::empty();
    let run = "quantize demo demo --wbits 4 --nsamples 64 --seqlen 128 --dense-stream none --quiet";
    sandbox.ok(&format!("{run} --out whole"));
    let want = model_bytes(&sandbox.path("whole"));
    let left = |ran: &Ran| ran.stderr.contains("note: --resumable: activations are no longer saved");
    // A limit of the size of files, which their 4 MiB meet and a shard does not.
    let ran = ended(&sandbox, &format!("ulimit -f 2000; exec $PARING {run} --resumable --out out"), 0);
    assert!(left(&ran) && ran.stderr.contains(".activations-00001: File too large"), "{}", ran.stderr);
    assert!(model_bytes(&sandbox.path("out")) == want);
    let notes = json_file(&sandbox.path("out/report.json"))["notes"].to_string();
    assert!(notes.contains("activations are no longer saved"), "{notes}");
    let names =
        fs::read_dir(sandbox.path("out")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.starts_with(".activations")).count() == 0);
    // Disks that hold the shards, and none, one or two of them. Not everyone may make one.
    fs::create_dir(sandbox.path("disk")).unwrap();
    for (kilobytes, without, makes_room) in
        [(1200, true, false), (2500, true, false), (4500, true, true), (12_000, false, false)]
    {
        let script = format!(
            "exec unshare -rm sh -c 'mount -t tmpfs -o size={kilobytes}k tmpfs disk || exit 77; \
            $PARING {run} --resumable --out disk/out && cp -r disk/out out{kilobytes}'"
        );
        let ran = sandbox.shell(&script);
        if ran.code == Some(0) {
            assert!(model_bytes(&sandbox.path(&format!("out{kilobytes}"))) == want, "{kilobytes}");
            assert_eq!(left(&ran), without, "{kilobytes}: {}", ran.stderr);
            assert_eq!(ran.stderr.contains("to make room for a shard"), makes_room, "{kilobytes}: {}", ran.stderr);
        } else {
            assert!(!ran.stderr.contains("error: ") && !ran.stderr.contains("panicked"), "{kilobytes}: {}", ran.stderr);
        }
    }
}

/// Everything that is printed passes through functions that an error does not end.
#[test]
fn nothing_prints_past_them() {
    let mut found = Vec::new();
    let mut open = vec![golden("../../crates"), golden("../../kernels/src")];
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let skipped = ["tests", "examples", "benches"].iter().any(|name| path.ends_with(name));
            if path.is_dir() && !skipped {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let prints = ["print!(", "println!(", "eprint!(", "eprintln!(", "thread::spawn(", "scope.spawn("];
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let bad = lines.filter(|line| prints.iter().any(|word| line.contains(word)));
                // The pool's scopes start no threads.
                let bad = bad.filter(|line| !line.contains("scope.spawn(|_|"));
                found.extend(bad.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
