//! Everything that can be wrong with inputs and arguments, one kind after the other. Each has a name of its own, is
//! refused with exit code 1 (2 for misuse) and one line that says where, what was expected and what is there, and leaves
//! nothing that a program could take for a model.

#[path = "../support/mod.rs"]
mod support;

mod checkpoint;
mod config;
mod data;
mod hub;
mod input;
mod layer;
#[cfg(unix)]
mod limits;
mod lines;
mod misuse;
mod output;
mod packed;
#[cfg(unix)]
mod paths;
#[cfg(unix)]
mod tokenizers;
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::{Ran, Sandbox, golden, wording};

/// A name, the function that prepares the input, and the words of the error.
type BadInput = (&'static str, fn(&Sandbox), &'static [&'static str]);
/// Arguments, and the words of the error about them.
type BadArguments = (&'static str, &'static [&'static str]);

/// Inputs that the same commands meet, each in a folder of its own with the golden Llama and its tokens.
struct Table {
    name: &'static str,
    commands: &'static [&'static str],
    /// Shell commands that limit them, run first.
    shell: &'static str,
    /// True if it is found before the work, so that no output folder is made.
    early: bool,
    kinds: &'static [BadInput],
}

/// Arguments that follow the same command, in a folder that `prepare` has changed.
struct Questions {
    name: &'static str,
    prepare: fn(&Sandbox),
    /// Two braces stand for the arguments.
    command: &'static str,
    code: i32,
    kinds: &'static [BadArguments],
}

/// Commands that read a model.
const MODEL: &[&str] = &[
    "eval model eval.safetensors --seqlen 32 --quiet",
    "quantize model calib.safetensors --wbits 4 --out out --quiet",
];

/// Kinds whose error leaves open what to do, by table: the file is damaged, or the system's own words say it.
const NO_STEP: &[(&str, &str)] = &[];

const TABLES: &[&[Table]] = &[
    input::TABLES,
    config::TABLES,
    packed::TABLES,
    checkpoint::TABLES,
    data::TABLES,
    lines::TABLES,
    layer::TABLES,
    #[cfg(unix)]
    limits::TABLES,
    #[cfg(unix)]
    paths::TABLES,
    #[cfg(unix)]
    tokenizers::TABLES,
    tokens::TABLES,
];
const QUESTIONS: &[&[Questions]] = &[
    data::QUESTIONS,
    layer::QUESTIONS,
    misuse::QUESTIONS,
    #[cfg(unix)]
    paths::QUESTIONS,
];

/// Tries the kinds of the table of this name. Only those of [`TABLES`] and [`QUESTIONS`], which are counted, have one.
fn check(name: &str) {
    let mut wrong = Vec::new();
    if let Some(table) = TABLES.iter().copied().flatten().find(|table| table.name == name) {
        for (what, change, words) in table.kinds {
            let sandbox = Sandbox::new();
            change(&sandbox);
            for command in table.commands {
                let ran = match table.shell {
                    "" => sandbox.run(command),
                    limit => sandbox.shell(&format!("{limit}exec \"$PARING\" {command}")),
                };
                let refused = sandbox.refuses(&ran, 1, words).and_then(|()| says_what_to_do(name, what, &ran));
                wrong.extend(refused.err().map(|text| format!("{what}: {command}: {text}")));
            }
            if table.early && sandbox.path("out").exists() {
                wrong.push(format!("{what}: an output folder was made"));
            }
        }
    } else if let Some(table) = QUESTIONS.iter().copied().flatten().find(|table| table.name == name) {
        let sandbox = Sandbox::new();
        (table.prepare)(&sandbox);
        for (arguments, words) in table.kinds {
            let command = table.command.replace("{}", arguments);
            let ran = sandbox.run(&command);
            let refused =
                sandbox.refuses(&ran, table.code, words).and_then(|()| says_what_to_do(name, arguments, &ran));
            wrong.extend(refused.err().map(|text| format!("paring {command}\n{text}")));
        }
        if sandbox.path("out").exists() {
            wrong.push("an output folder was made".to_string());
        }
    } else {
        panic!("no table {name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Errors unless the error says what to do next, but for what nothing can be done about.
fn says_what_to_do(table: &str, kind: &str, ran: &Ran) -> Result<(), String> {
    match (wording::says_what_to_do(&ran.stderr), NO_STEP.contains(&(table, kind))) {
        (false, false) => Err(format!("it does not say what to do: {}", ran.stderr)),
        (true, true) => Err(format!("it says what to do, and is among those that do not: {}", ran.stderr)),
        _ => Ok(()),
    }
}

/// The number that the documents give is the number of kinds, and no two are the same.
#[cfg(unix)]
#[test]
fn kinds_are_counted() {
    let mut names = BTreeSet::new();
    let (mut inputs, mut arguments) = (0, 0);
    for table in TABLES.iter().copied().flatten() {
        inputs += table.kinds.len();
        for (kind, ..) in table.kinds {
            assert!(names.insert((table.name, *kind)), "two are named {}: {kind}", table.name);
        }
    }
    for table in QUESTIONS.iter().copied().flatten() {
        arguments += table.kinds.len();
        for (kind, _) in table.kinds {
            assert!(names.insert((table.name, *kind)), "two are named {}: {kind}", table.name);
        }
    }
    let told = format!("{inputs} kinds of inputs and {arguments} of arguments");
    let document = fs::read_to_string(golden("../../docs/reliability.md")).unwrap();
    assert!(document.contains(&told), "docs/reliability.md does not say {told:?}");
}

/// Every table is tried by the test of its name.
#[test]
fn tables_are_tried() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bad");
    let texts: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    for name in
        TABLES.iter().copied().flatten().map(|t| t.name).chain(QUESTIONS.iter().copied().flatten().map(|t| t.name))
    {
        let tried = format!("    check(\"{name}\");");
        assert_eq!(texts.iter().map(|text| text.matches(&tried).count()).sum::<usize>(), 1, "the table {name}");
    }
}
