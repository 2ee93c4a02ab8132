//! The command line together with the recipe file that it names.

use std::ffi::OsString;
use std::io::Write;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};
use paring::plan::file::{self as recipe_file, Known, RecipeFile, Setting};
use paring::request::GroupOptions;
use paring::{Error, Result};
use paring_format::names::is_obeyed;

use super::errors::said;
use super::{Change, Changed, Cli, Command, Run, Shared};
use crate::show::terminal::printable;
use crate::show::{Failure, paint};
use crate::stderr;

/// Options that a file cannot set: they say how to look at a run, or name the file.
const OF_THE_COMMAND_LINE: [&str; 7] = ["config", "help", "json", "log-json", "quiet", "verbose", "version"];

/// Options of which a command takes one: where one is typed, the others that stand in the file do not count.
const EITHER: [&[&str]; 5] = [
    &["wbits", "scheme", "target-bits"],
    &["pattern", "sparsity"],
    &["scales", "mse"],
    &["outlier-threshold", "outlier-share", "target-bits"],
    &["eval-protocol", "new-eval"],
];

/// The answer to a command line without a command: the help, on stderr.
const NOTHING: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Reads what was typed, and the recipe file that it names: options that are typed win over those in the file. A command
/// line that asks for help ends the process with it.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli> {
    let args: Vec<OsString> = super::normalized(args).collect();
    let named = named(&args);
    let at = named.as_ref().map(|(at, _)| *at);
    let command = canonical(named.as_ref().map(|(_, name)| name.as_str()));
    let said = |e: &clap::Error| said(e, command.as_deref());
    let matches = match super::command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(answer) if answer.use_stderr() && answer.kind() != NOTHING => return Err(Error::Misuse(said(&answer))),
        Err(answer) => ended(&answer, &args),
    };
    let cli = typed(&matches)?;
    let Some(path) = running(&cli.command).and_then(|run| run.config.clone()) else { return Ok(cli) };
    let Some((name, matches)) = matches.subcommand() else { return Ok(cli) };
    let commands = super::command();
    let command = commands.find_subcommand(name).ok_or_else(|| Error::Misuse(format!("unknown command {name}")))?;
    let change = Change::command();
    let longs = |command: &clap::Command| -> Vec<String> {
        let names = command.get_arguments().filter_map(|arg| arg.get_long());
        names.filter(|name| !OF_THE_COMMAND_LINE.contains(name)).map(String::from).collect()
    };
    let known = Known { options: longs(command), of_groups: longs(&change) };
    let file = recipe_file::read(&path, &known)?;
    let set: Vec<&Setting> =
        file.settings.iter().filter(|setting| !is_typed(&setting.name, command, matches)).collect();
    let start = [args[0].clone(), name.into()];
    let mut all: Vec<OsString> = start.to_vec();
    for setting in &set {
        let options = as_options(&file, setting, command)?;
        // Any model will do.
        let alone = start.iter().cloned().chain(["MODEL".into()]).chain(options.iter().map(OsString::from));
        super::command().try_get_matches_from(alone).map_err(|e| file.error(setting.line, said(&e)))?;
        all.extend(options.into_iter().map(OsString::from));
    }
    let words = args.into_iter().enumerate().skip(1);
    all.extend(words.filter(|(i, _)| Some(*i) != at).map(|(_, word)| word));
    let together = super::command().try_get_matches_from(all);
    let together = together.map_err(|e| Error::Misuse(format!("{}: {}", file.path, said(&e))))?;
    let mut cli = typed(&together)?;
    let groups = file.groups.iter().map(|group| changed(&file, group, &change)).collect::<Result<Vec<_>>>()?;
    if let Some(run) = running_mut(&mut cli.command) {
        run.groups = groups;
        run.from_file = set.iter().map(|setting| setting.name.clone()).collect();
        run.notes = file.notes;
        // What is typed holds for both.
        let typed = |name: &str| is_typed(name, command, matches);
        run.alike = file.alike.filter(|_| !typed("include") && !typed("ignore"));
    }
    Ok(cli)
}

/// The place and the name of the command that was typed. Options before it are flags, so that it is the first word that is none.
fn named(args: &[OsString]) -> Option<(usize, String)> {
    let mut words = args.iter().enumerate().skip(1);
    let (at, name) = words.find(|(_, word)| !word.as_encoded_bytes().starts_with(b"-"))?;
    Some((at, name.to_str()?.to_string()))
}

/// The first name of a command that may have another; `None` where there is no such command.
pub fn canonical(name: Option<&str>) -> Option<String> {
    super::command().find_subcommand(name?).map(|command| command.get_name().to_string())
}

/// Prints what the parser answers itself, a help text or the version, and ends the process.
fn ended(answer: &clap::Error, args: &[OsString]) -> ! {
    if answer.use_stderr() {
        // Its text is the help.
        let mut failure = Failure::new("no command is given", crate::MISUSE);
        failure.print_results(Shared::of_words(args.iter().cloned()).channels(), false);
    }
    let plain = answer.render().to_string();
    // A terminal must not obey what was typed, nor what a completion put there.
    if plain.contains(|c| c != '\n' && c != '\t' && is_obeyed(c)) {
        plain.lines().for_each(|text| stderr::line(printable(text)));
        std::process::exit(answer.exit_code());
    }
    let printed = answer.print().and_then(|()| std::io::stdout().flush());
    let code = match printed {
        // Nobody reads on, or nobody could be told.
        Err(error) if !answer.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            paint::error(&format!("stdout: {error}"), None);
            i32::from(crate::FAILED)
        }
        _ => answer.exit_code(),
    };
    std::process::exit(code)
}

fn typed(matches: &ArgMatches) -> Result<Cli> {
    let cli = Cli::from_arg_matches(matches).map_err(|e| Error::Misuse(said(&e, None)))?;
    // The parser does not see it where one of them comes before the command.
    let is_verbose = cli.command.running().is_some_and(|running| running.verbose);
    match cli.shared.quiet && is_verbose {
        true => Err(Error::Misuse("--quiet and --verbose contradict each other: leave one out".into())),
        false => Ok(cli),
    }
}

impl Run {
    /// An error about options, with the name of the file if it set one of them.
    pub fn located(&self, error: Error) -> Error {
        match (&error, &self.config) {
            (Error::Option { misuse: true, .. }, Some(path))
                if error.message().options().any(|name| self.from_file.iter().any(|set| set == name)) =>
            {
                error.at(path.display().to_string())
            }
            _ => error,
        }
    }
}

/// The options of a command that compresses a model.
fn running(command: &Command) -> Option<&Run> {
    match command {
        Command::Sparsify(args) => Some(&args.run),
        Command::Quantize(args) => Some(&args.run),
        _ => None,
    }
}

fn running_mut(command: &mut Command) -> Option<&mut Run> {
    match command {
        Command::Sparsify(args) => Some(&mut args.run),
        Command::Quantize(args) => Some(&mut args.run),
        _ => None,
    }
}

/// True if an option, or one that excludes it, is on the command line.
fn is_typed(name: &str, command: &clap::Command, matches: &ArgMatches) -> bool {
    let typed = |name: &str| {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        arg.is_some_and(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
    };
    typed(name) || EITHER.iter().filter(|group| group.contains(&name)).flat_map(|group| group.iter()).any(|n| typed(n))
}

/// A setting as it would be typed.
fn as_options(file: &RecipeFile, setting: &Setting, command: &clap::Command) -> Result<Vec<String>> {
    let Setting { name, values, line } = setting;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    let action = arg.map_or(&ArgAction::Set, |arg| arg.get_action());
    match (action, values.as_slice()) {
        (ArgAction::SetTrue, [one]) if one == "true" => Ok(vec![format!("--{name}")]),
        (ArgAction::SetTrue, [one]) if one == "false" => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err(file.error(*line, format!("{name}: expected true or false"))),
        (ArgAction::Append, _) | (_, [_]) => Ok(values.iter().map(|value| format!("--{name}={value}")).collect()),
        _ => Err(file.error(*line, format!("{name}: expected one value, got {}", values.len()))),
    }
}

/// The options of a group of the file.
fn changed(file: &RecipeFile, group: &recipe_file::Group, command: &clap::Command) -> Result<GroupOptions> {
    let mut options = Vec::new();
    for setting in &group.settings {
        let made = as_options(file, setting, command)?;
        Change::try_parse_from(&made).map_err(|e| file.error(setting.line, said(&e, None)))?;
        options.extend(made);
    }
    let change = Change::try_parse_from(options).map_err(|e| file.error(group.line, said(&e, None)))?;
    let changed = Changed {
        targets: group.targets.clone(),
        change: (!group.skip).then_some(change),
        place: format!("{}, line {}", file.path, group.line),
    };
    changed.options()
}
