//! Options of every command, before its name or after it.

use std::ffi::OsString;

use clap::Args;

use crate::show::Channels;

#[derive(Args, Clone, Copy, Default)]
#[command(next_help_heading = "Global options")]
pub struct Shared {
    /// Print no progress, notes or estimates
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print the result as one JSON object on stdout, and text for people on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

impl Shared {
    /// The channels of the command's output.
    pub fn channels(&self) -> Channels {
        Channels { json: self.json, quiet: self.quiet }
    }

    /// The options of a command line that may make no sense otherwise.
    pub fn of_words(words: impl IntoIterator<Item = OsString>) -> Self {
        let mut options = words.into_iter().skip(1).take_while(|word| word != "--");
        Self { json: options.any(|word| word == "--json"), quiet: false }
    }
}
