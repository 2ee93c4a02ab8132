//! Options of every command, before its name or after it.

use std::ffi::OsString;

use clap::{ArgAction, Args};

use super::headings::GLOBAL;
use crate::show::Channels;

#[derive(Args, Clone, Copy, Default)]
#[command(next_help_heading = GLOBAL)]
pub struct Shared {
    /// No progress bar, notes or estimates
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print the result as one JSON object on stdout; text for people goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Print help: a page with -h, everything with --help
    #[arg(long, short, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version, what it was built with, and the instructions it uses
    #[arg(long, short = 'V', global = true, action = ArgAction::Version, hide_short_help = true)]
    version: Option<bool>,
}

impl Shared {
    /// The channels of the command's output.
    pub fn channels(&self) -> Channels {
        Channels { json: self.json, quiet: self.quiet }
    }

    /// The options of a command line that may make no sense otherwise.
    pub fn of_words(words: impl IntoIterator<Item = OsString>) -> Self {
        let mut options = words.into_iter().skip(1).take_while(|word| word != "--");
        Self { json: options.any(|word| word == "--json"), ..Self::default() }
    }
}
