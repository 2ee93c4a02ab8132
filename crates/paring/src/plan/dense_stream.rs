//! The dense model beside the one that is being compressed.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Curvature, Opt, Plan, Recipe};
use crate::Result;
use paring_format::message;

/// The shift of weights, before they are compressed, towards what the dense model computes from its own activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DenseStream {
    /// By this share of the whole shift, up to 1. In a plan it is above 0.
    Share(f64),
    /// By the whole shift for inputs alone, and by what the first column to be visited adds to it: Qronos.
    Qronos,
}

impl DenseStream {
    /// The share of runs that ask for none: with 8,192 tokens better than the whole shift, at 3 bits and for 2:4 (docs/dev/lab-notes.md).
    pub const USUAL: Self = Self::Share(0.5);
    /// No shift: the dense model does not run.
    pub const NONE: Self = Self::Share(0.0);
    /// The name of [`DenseStream::Qronos`].
    const QRONOS: &'static str = "qronos";

    /// The share of the shift for inputs, and that for the sum that a fan's output joins.
    pub(crate) fn shares(self) -> [f64; 2] {
        match self {
            Self::Share(share) => [share; 2],
            Self::Qronos => [1.0, 0.0],
        }
    }
}

impl fmt::Display for DenseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(0.0) => f.write_str("none"),
            Self::Share(share) => share.fmt(f),
            Self::Qronos => f.write_str(Self::QRONOS),
        }
    }
}

impl FromStr for DenseStream {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let share = || text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).map(Self::Share);
        match text.to_ascii_lowercase().as_str() {
            Self::QRONOS => Ok(Self::Qronos),
            "none" => Ok(Self::NONE),
            _ => share().ok_or_else(|| "expected a share up to 1, none, or qronos".to_string()),
        }
    }
}

impl Serialize for DenseStream {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Share(share) => s.serialize_f64(*share),
            Self::Qronos => s.serialize_str(Self::QRONOS),
        }
    }
}

impl Plan {
    /// The statistics of a linear's inputs that its recipe needs, or the shift of its weights.
    pub(crate) fn need(&self, recipe: &Recipe) -> Curvature {
        if self.dense_stream.is_some() { Curvature::Full } else { recipe.statistics() }
    }

    /// Errors where the dense model cannot run beside the other one.
    pub(crate) fn check_dense_stream(&self) -> Result<()> {
        let Some(stream) = self.dense_stream else { return Ok(()) };
        match stream {
            DenseStream::Share(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Opt::DenseStream.wrong(share, "must be above 0, and 1 at most"))
            }
            _ if self.device != "cpu" => {
                let problem = message![Opt::DenseStream, format!(": not on {}", self.device)];
                Err(Opt::DenseStream.misfit(problem).hint(message![
                    "use ",
                    Opt::Device.with("cpu"),
                    ", or leave it out"
                ]))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_qronos_are_read_as_they_are_written() {
        for stream in [DenseStream::USUAL, DenseStream::Share(1.0), DenseStream::NONE, DenseStream::Qronos] {
            assert_eq!(stream.to_string().parse(), Ok(stream));
        }
        assert_eq!("0".parse(), Ok(DenseStream::NONE));
        for text in ["", "1.5", "-0.5", "nan", "inf", "gptaq"] {
            assert!(text.parse::<DenseStream>().is_err(), "{text}");
        }
    }
}
