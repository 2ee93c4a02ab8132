//! Messages that name options: a library calls an option by its name, and a program spells it as it is typed.

use std::fmt;

/// An option in a message, with the value that it has or should have, if the message names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's name, without any sign of how it is typed.
    pub option: &'static str,
    /// The value as it follows the name.
    value: String,
}

impl Setting {
    /// An option, whatever its value.
    pub fn new(option: &'static str) -> Self {
        Self { option, value: String::new() }
    }

    /// An option with a value.
    pub fn with(option: &'static str, value: impl fmt::Display) -> Self {
        Self { option, value: format!(" {value}") }
    }

    /// A switch that is set to false or true.
    pub fn switched(option: &'static str, on: bool) -> Self {
        Self { option, value: format!("={on}") }
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Words.
    Words(String),
    /// An option.
    Setting(Setting),
}

impl From<&str> for Piece {
    fn from(words: &str) -> Self {
        Piece::Words(words.into())
    }
}

impl From<String> for Piece {
    fn from(words: String) -> Self {
        Piece::Words(words)
    }
}

impl From<Setting> for Piece {
    fn from(setting: Setting) -> Self {
        Piece::Setting(setting)
    }
}

/// A message whose options are known apart from its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<Piece>);

impl Message {
    /// Pieces, one after the other.
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Self(pieces.into_iter().collect())
    }

    /// This message with another one after it.
    pub fn then(mut self, more: impl Into<Message>) -> Self {
        self.0.extend(more.into().0);
        self
    }

    /// The names of the options in it.
    pub fn options(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Setting(setting) => Some(setting.option),
            Piece::Words(_) => None,
        })
    }

    /// The text with each option as `spell` writes its name.
    pub fn spelled(&self, spell: impl Fn(&str) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Words(words) => words.clone(),
            Piece::Setting(Setting { option, value }) => format!("{}{value}", spell(option)),
        };
        self.0.iter().map(piece).collect()
    }
}

/// The text with options by their names.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled(str::to_string))
    }
}

impl<T: Into<Piece>> From<T> for Message {
    fn from(piece: T) -> Self {
        Self(vec![piece.into()])
    }
}

/// A [`Message`] of words and [`Setting`]s.
#[macro_export]
macro_rules! message {
    ($($piece:expr),* $(,)?) => {
        $crate::message::Message::new([$($crate::message::Piece::from($piece)),*])
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_spelled_by_the_reader() {
        let message =
            message![Setting::with("groupsize", 33), ": choose a divisor, or leave out ", Setting::new("sym")];
        let message = message.then("; or use ").then(Setting::switched("perchannel", false));
        assert_eq!(message.to_string(), "groupsize 33: choose a divisor, or leave out sym; or use perchannel=false");
        let typed = message.spelled(|name| format!("--{name}"));
        assert_eq!(typed, "--groupsize 33: choose a divisor, or leave out --sym; or use --perchannel=false");
        assert_eq!(message.options().collect::<Vec<_>>(), ["groupsize", "sym", "perchannel"]);
        assert_eq!(Message::from("--words--").spelled(|_| String::new()), "--words--");
    }
}
