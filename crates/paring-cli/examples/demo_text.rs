//! Prints text of the demo language: `demo_text [--seed N] [--words N]`, or its words with `--vocabulary`.
//!
//! The text goes to standard output and its information content per word to standard error.

use std::io::Write;
use std::process::ExitCode;

#[path = "../src/demo/language/mod.rs"]
mod language;

/// Arguments of the command line.
struct Options {
    seed: u64,
    words: usize,
    vocabulary: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seed: 0, words: 200, vocabulary: false };
    while let Some(arg) = args.next() {
        if arg == "--vocabulary" {
            options.vocabulary = true;
            continue;
        }
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        let number: u64 = value.parse().map_err(|_| format!("{arg} needs a whole number, got {value}"))?;
        match arg.as_str() {
            "--seed" => options.seed = number,
            "--words" => options.words = usize::try_from(number).map_err(|e| e.to_string())?,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    Ok(options)
}

fn run() -> Result<(), String> {
    let options = parse(std::env::args().skip(1))?;
    let text = if options.vocabulary {
        language::vocabulary().join("\n")
    } else {
        let sample = language::sample(options.seed, options.words);
        eprintln!("{} words, {:.6} nats per word", sample.words, sample.nats / sample.words as f64);
        sample.text
    };
    writeln!(std::io::stdout(), "{text}").map_err(|e| e.to_string())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("demo_text: {message}");
            ExitCode::FAILURE
        }
    }
}
