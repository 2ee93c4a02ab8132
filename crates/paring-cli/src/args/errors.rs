//! Errors of the parser of the command line, in the words of this program: a line that says what to type instead.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use paring::plan::METHODS;

/// Names that options have in other programs, and what they are here.
const ELSEWHERE: [(&str, &str); 13] = [
    ("--model", "give the model without an option, as the first argument"),
    ("--dataset", "give the data without an option, as the argument after the model"),
    ("--data", "give the data without an option, as the argument after the model"),
    ("--bits", "use --wbits"),
    ("--group-size", "use --groupsize"),
    ("--output", "use --out"),
    ("--output-dir", "use --out"),
    ("--save-dir", "use --out"),
    ("--num-calibration-samples", "use --nsamples"),
    ("--num-samples", "use --nsamples"),
    ("--max-seq-length", "use --seqlen"),
    ("--desc-act", "use --actorder static"),
    ("--act-order", "use --actorder static"),
];

/// Things to name where they are missing.
const MISSING: [(&str, &str); 3] = [
    ("MODEL", "a Hugging Face folder, a hub name such as org/model, or demo"),
    ("RUN", "the output folder of a run"),
    ("FILE", "a safetensors file with `weight` and `activations` or `hessian`"),
];

/// The text of an error of the parser, of a command if one was named.
pub fn said(error: &clap::Error, command: Option<&str>) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let invalid = text(ContextKind::InvalidArg);
    let name = command.map_or("paring".to_string(), |command| format!("paring {command}"));
    match (error.kind(), invalid) {
        (ErrorKind::UnknownArgument, Some(arg)) => unknown(arg, text(ContextKind::SuggestedArg), command, &name),
        (ErrorKind::MissingSubcommand, _) => "the command is missing; `paring --help` lists them".into(),
        (ErrorKind::InvalidSubcommand, _) => {
            let typed = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let near = strings(error, ContextKind::SuggestedSubcommand);
            let near = near.first().map_or("`paring --help` lists them".into(), |near| format!("did you mean {near}?"));
            format!("unknown command {typed}; {near}")
        }
        (ErrorKind::InvalidValue, Some(arg)) => match text(ContextKind::InvalidValue).filter(|value| !value.is_empty())
        {
            Some(value) => not_one_of(option(arg), value, &strings(error, ContextKind::ValidValue), command),
            None => format!("{} needs a value", option(arg)),
        },
        (ErrorKind::ValueValidation, Some(arg)) => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let problem = error.source().map_or("not a value that it takes".into(), |e| e.to_string());
            // As Rust says it.
            let is_number = ["invalid digit found in string", "invalid float literal"].contains(&problem.as_str());
            let problem = if is_number { "expected a number".into() } else { problem };
            format!("{} {value}: {problem}", option(arg))
        }
        (ErrorKind::ArgumentConflict, Some(arg)) => {
            let others = strings(error, ContextKind::PriorArg);
            match others.first() {
                Some(other) if option(other) == option(arg) => format!("{} is there more than once", option(arg)),
                Some(other) => format!("{} and {} exclude each other: leave one out", option(arg), option(other)),
                None => plain(error),
            }
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing: Vec<String> = strings(error, ContextKind::InvalidArg);
            let named: Vec<String> = missing.iter().map(|arg| arg.replace(['<', '>'], "")).collect();
            let what = MISSING.iter().find(|(arg, _)| named.first().is_some_and(|first| first == arg));
            let what = what.map_or(String::new(), |(_, what)| format!(": {what}"));
            let verb = if named.len() > 1 { "are" } else { "is" };
            format!("{} {verb} missing{what}; see `{name} --help`", named.join(" and "))
        }
        _ => plain(error),
    }
}

/// An option or argument that the command does not have.
fn unknown(arg: &str, near: Option<&str>, command: Option<&str>, name: &str) -> String {
    let arg = arg.split_once('=').map_or(arg, |(option, _)| option);
    if !arg.starts_with('-') {
        return format!("{arg}: one argument too many; see `{name} --help`");
    }
    if let Some(other) = arg.strip_prefix("--").and_then(|long| owner(long, command)) {
        return format!("{arg} belongs to paring {other}");
    }
    if let Some((_, here)) = ELSEWHERE.iter().find(|(there, _)| *there == arg) {
        return format!("{arg} is unknown: {here}");
    }
    match near {
        Some(near) => format!("{arg} is unknown; did you mean {}?", option(near)),
        None => format!("{arg} is unknown; see `{name} --help`"),
    }
}

/// Another command that has this option, and what it is for.
fn owner(long: &str, command: Option<&str>) -> Option<String> {
    let own = command?;
    let all = super::command();
    let has = |command: &&clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some(long));
    let other = all.get_subcommands().filter(|command| command.get_name() != own).find(has)?.get_name();
    // Of several commands only these two are taken for each other.
    let is_alone = all.get_subcommands().filter(has).count() <= 2;
    match other {
        "prune" => Some("prune, which also quantizes with --wbits or --scheme".into()),
        "quantize" if own == "prune" => Some("quantize".into()),
        _ if is_alone => Some(other.into()),
        _ => None,
    }
}

/// A value that is none of those that an option takes.
fn not_one_of(option: &str, value: &str, valid: &[String], command: Option<&str>) -> String {
    if option != "--method" {
        return format!("{option} {value}: not one of {}", valid.join(", "));
    }
    // The usual one first.
    let usual = if command == Some("prune") { "sparsegpt" } else { "gptq" };
    match METHODS.iter().find(|method| method.name == value) {
        Some(method) if method.drops => {
            format!(
                "--method {value} belongs to paring prune, which also quantizes with --wbits or --scheme (sparsegpt)"
            )
        }
        Some(_) => format!(
            "--method {value} belongs to paring quantize; to prune and quantize at once, use --method sparsegpt with --wbits"
        ),
        None => {
            let others: Vec<&str> = valid.iter().map(String::as_str).filter(|name| *name != usual).collect();
            format!("--method {value}: not available; use {usual} (or {})", others.join(", "))
        }
    }
}

/// The option of an argument as the parser writes it: `--wbits <B>`.
fn option(arg: &str) -> &str {
    arg.trim_matches(['<', '>', '[', ']']).split([' ', '=', '[']).next().unwrap_or(arg)
}

/// The texts of one kind.
fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// The parser's own text, without its hints.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"));
    let text = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    text.trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_type() {
        for (typed, expected) in [
            (
                "quantize demo --pattern 2:4",
                "--pattern belongs to paring prune, which also quantizes with --wbits or --scheme",
            ),
            ("sparsify demo --target-bits 4", "--target-bits belongs to paring quantize"),
            ("quantize demo --max-kl=1", "--max-kl belongs to paring verify"),
            ("quantize --model demo", "--model is unknown: give the model without an option, as the first argument"),
            ("quantize demo --bits 4", "--bits is unknown: use --wbits"),
            ("quantize demo --wbit 4", "--wbit is unknown; did you mean --wbits?"),
            ("quantize demo --fast", "--fast is unknown; see `paring quantize --help`"),
            ("quantize demo demo more", "more: one argument too many; see `paring quantize --help`"),
            ("quantize demo --method awq", "--method awq: not available; use gptq (or rtn, spqr)"),
            ("prune demo --method magic", "--method magic: not available; use sparsegpt (or magnitude, wanda)"),
            (
                "quantize demo --method wanda",
                "--method wanda belongs to paring prune, which also quantizes with --wbits or --scheme (sparsegpt)",
            ),
            (
                "prune demo --method gptq",
                "--method gptq belongs to paring quantize; to prune and quantize at once, use --method sparsegpt with --wbits",
            ),
            ("quantize demo --wbits four", "--wbits four: expected a number"),
            ("quantize demo --layers 1", "--layers 1: expected A..B, such as 0..12"),
            ("quantize demo --dtype f8", "--dtype f8: not one of auto, f32, bf16, f16"),
            ("prune demo --pattern 2:4 --sparsity 0.5", "--pattern and --sparsity exclude each other: leave one out"),
            ("quantize demo --wbits 4 --wbits 3", "--wbits is there more than once"),
            ("quantize demo --wbits", "--wbits needs a value"),
            (
                "quantize",
                "MODEL is missing: a Hugging Face folder, a hub name such as org/model, or demo; see `paring quantize --help`",
            ),
            ("decompress demo", "--out DIR is missing; see `paring decompress --help`"),
            ("prun demo", "unknown command prun; did you mean prune?"),
            ("frobnicate", "unknown command frobnicate; `paring --help` lists them"),
            ("--fast", "--fast is unknown; see `paring --help`"),
            ("--quiet", "the command is missing; `paring --help` lists them"),
            (
                "inspect demo --outliers map.png",
                "--outliers map.png: the plot is an SVG, not a .png file; name it map.svg",
            ),
        ] {
            let words = std::iter::once("paring").chain(typed.split_whitespace());
            let error = super::super::command().try_get_matches_from(words).unwrap_err();
            let command = typed.split_whitespace().next().filter(|word| !word.starts_with('-'));
            let command = super::super::file::canonical(command);
            assert_eq!(said(&error, command.as_deref()), expected, "{typed}: {error}");
        }
    }
}
