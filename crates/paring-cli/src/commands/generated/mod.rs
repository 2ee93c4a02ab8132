//! Completions and manual pages, made from the table of options.

use std::fs;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use paring::{Error, Result};
use paring_format::writer::{InputFiles, NamedFile};
use serde_json::json;

use crate::args::{CompletionsArgs, ManArgs, canonical, command};
use crate::show::{Answer, Failure};

/// The program.
const NAME: &str = "paring";

/// The beginning of the title of a page.
const TITLE: &[u8] = b".TH paring";

/// Text of the program's page beside its options.
const OF_THE_PROGRAM: &str = r#".SH "EXIT STATUS"
.TP
0
Done.
.TP
1
Failed: one line on standard error says what, where, and what to do.
.TP
2
Misuse: the command line makes no sense.
.TP
130, 143
Stopped by ctrl-C (SIGINT) or by SIGTERM.
.SH ENVIRONMENT
.TP
\fBHF_HOME\fR, \fBHF_HUB_CACHE\fR
The cache of models and data from the hub, shared with other programs.
.TP
\fBHF_TOKEN\fR, \fBHF_TOKEN_PATH\fR
The token for private and gated repositories, or its file.
.TP
\fBHF_ENDPOINT\fR, \fBHF_HUB_OFFLINE\fR
The address of another hub; 1: use nothing but the cache.
.TP
\fBPARING_LOG\fR
The level of messages for finding faults, such as \fBdebug\fR.
"#;

/// Prints the script that teaches a shell the commands and options.
pub fn completions(args: &CompletionsArgs) -> Result<Answer, Failure> {
    let script = script(args.shell)?;
    let answer = Answer::new(&json!({"shell": args.shell.to_string(), "script": script}))?;
    Ok(answer.own_text(script))
}

/// Prints a manual page, or writes all of them.
pub fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let pages = pages()?;
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
        let inputs = InputFiles::default();
        let paths: Vec<PathBuf> = pages.iter().map(|page| dir.join(format!("{}.1", page.name))).collect();
        let file = |path| NamedFile { path, inputs: &inputs, is_own: &is_own, overwrite: args.overwrite };
        // All of them before the first is written.
        paths.iter().try_for_each(|path| file(path).check())?;
        for (page, path) in pages.iter().zip(&paths) {
            file(path).write(page.text.len(), |to| to.write_all(page.text.as_bytes())).map_err(Error::from)?;
        }
        return Ok(Answer::new(&json!({"written": paths}))?);
    }
    let named = |name: &str| canonical(Some(name)).unwrap_or_else(|| name.to_string());
    let wanted = args.command.as_deref().map_or(NAME.to_string(), |name| format!("{NAME}-{}", named(name)));
    let known: Vec<String> =
        pages.iter().filter_map(|page| page.name.strip_prefix("paring-")).map(String::from).collect();
    match pages.into_iter().find(|page| page.name == wanted) {
        Some(Page { name, text }) => Ok(Answer::new(&json!({"name": name, "page": text}))?.own_text(text)),
        None => {
            let command = args.command.as_deref().unwrap_or_default();
            Err(Error::Misuse(format!("man {command}: no such command; there are {}", known.join(", "))).into())
        }
    }
}

/// Tells whether a file that begins so is a page of the manual of this program.
fn is_own(head: &[u8]) -> bool {
    head.windows(TITLE.len()).any(|part| part == TITLE)
}

fn script(shell: Shell) -> Result<String> {
    let mut command = command().mut_subcommands(|command| command.mut_args(hinted));
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    text(script)
}

/// An option whose value's name says which files may stand there, if any.
fn hinted(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() {
        return arg;
    }
    // Positional arguments have none of their own; their identifiers are the same words.
    let named = arg.get_value_names().and_then(|names| names.first()).map(|name| name.to_string());
    let hint = match named.unwrap_or_else(|| arg.get_id().as_str().to_uppercase()).as_str() {
        "DIR" | "FOLDER" => ValueHint::DirPath,
        "FILE" | "FILE.svg" | "DATASET" => ValueHint::FilePath,
        "MODEL" => ValueHint::AnyPath,
        _ => ValueHint::Other,
    };
    arg.value_hint(hint)
}

/// A manual page.
struct Page {
    /// Name of the page for `man`: `paring`, `paring-quantize`.
    name: String,
    /// In the language of roff.
    text: String,
}

impl Page {
    /// Of a command that knows its full name.
    fn new(mut command: Command) -> Result<Self> {
        let name = command.get_display_name().unwrap_or(NAME).to_string();
        // The options have a section; all of them in one line are no summary.
        let usage = command.render_usage().to_string();
        // A page describes what the short help leaves out too.
        command = command.mut_args(|arg| arg.hide_short_help(false));
        let examples = command.get_after_long_help().map(examples).unwrap_or_default();
        let has_commands = command.has_subcommands();
        let command = command.override_usage(usage.trim_start_matches("Usage: ").to_string());
        let source = concat!("paring ", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command).source(source).manual("Manual of paring");
        let mut page = Vec::new();
        man.render_title(&mut page)
            .and_then(|()| man.render_name_section(&mut page))
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_description_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page))
            .and_then(|()| if has_commands { man.render_subcommands_section(&mut page) } else { Ok(()) })
            .map_err(|e| Error::Plan(format!("the manual page {name} cannot be made: {e}")))?;
        let more = if has_commands { OF_THE_PROGRAM } else { "" };
        Ok(Self { name, text: ascii(&(text(page)? + &examples + more)) })
    }
}

/// Other characters as roff names them, whatever it takes its input for.
fn ascii(page: &str) -> String {
    let named = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", c as u32) };
    page.chars().map(named).collect()
}

/// The examples below a command's help, each on a line of its own.
fn examples(help: &StyledStr) -> String {
    let escaped = |line: &str| line[2..].replace('\\', "\\e").replace('-', "\\-");
    let text = help.to_string();
    let lines: Vec<String> = text.lines().filter(|line| line.starts_with("  ")).map(escaped).collect();
    format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", lines.join("\n"))
}

/// The page of the program and one for each of its commands.
fn pages() -> Result<Vec<Page>> {
    let mut all = command().disable_help_subcommand(true);
    all.build();
    let commands: Vec<Command> = all.get_subcommands().cloned().collect();
    std::iter::once(all).chain(commands).map(Page::new).collect()
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| Error::Plan(format!("what was made of the options is no text: {e}")))
}

#[cfg(test)]
mod tests;
