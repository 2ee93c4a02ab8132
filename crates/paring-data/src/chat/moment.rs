//! The time that templates may ask for.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use time::{Month, UtcDateTime, Weekday};

/// A moment that `strftime_now` of chat templates writes, in universal time: one for a whole run, so that all of its tokens
/// are made on the same day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(UtcDateTime);

impl Moment {
    /// This second.
    pub fn now() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self::from_seconds(i64::try_from(seconds).unwrap_or(0)).unwrap_or(Self(UtcDateTime::UNIX_EPOCH))
    }

    /// The moment so many seconds after the start of 1970; `None` beyond the year 9999.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        UtcDateTime::from_unix_timestamp(seconds).ok().map(Self)
    }

    /// Seconds since the start of 1970.
    pub fn seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Python's `strftime` of a time without a zone, in English. Errors on what it does not know.
    pub(crate) fn strftime(self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            // GNU's flags: no padding, spaces, zeros, capitals.
            let flag = code.filter(|c| matches!(c, '-' | '_' | '0' | '^'));
            if flag.is_some() {
                code = rest.next();
            }
            let written = code.and_then(|code| self.code(code));
            let Some(written) = written else {
                let code = code.map(String::from).unwrap_or_default();
                return Err(format!("strftime_now does not know %{code} in {format:?}"));
            };
            flagged(&written, flag, &mut out);
        }
        Ok(out)
    }

    fn code(self, code: char) -> Option<String> {
        let now = self.0;
        let twelve = (now.hour() + 11) % 12 + 1;
        let (week, year) = (now.iso_week(), now.to_iso_week_date().0);
        Some(match code {
            'a' => weekday(now.weekday())[..3].into(),
            'A' => weekday(now.weekday()).into(),
            'w' => now.weekday().number_days_from_sunday().to_string(),
            'u' => now.weekday().number_from_monday().to_string(),
            'd' => format!("{:02}", now.day()),
            'e' => format!("{:2}", now.day()),
            'b' | 'h' => month(now.month())[..3].into(),
            'B' => month(now.month()).into(),
            'm' => format!("{:02}", u8::from(now.month())),
            'y' => format!("{:02}", now.year().rem_euclid(100)),
            'Y' => now.year().to_string(),
            'C' => format!("{:02}", now.year().div_euclid(100)),
            'H' => format!("{:02}", now.hour()),
            'k' => format!("{:2}", now.hour()),
            'I' => format!("{twelve:02}"),
            'l' => format!("{twelve:2}"),
            'M' => format!("{:02}", now.minute()),
            'S' => format!("{:02}", now.second()),
            'f' => "000000".into(),
            'p' => if now.hour() < 12 { "AM" } else { "PM" }.into(),
            'P' => if now.hour() < 12 { "am" } else { "pm" }.into(),
            'j' => format!("{:03}", now.ordinal()),
            'U' => format!("{:02}", now.sunday_based_week()),
            'W' => format!("{:02}", now.monday_based_week()),
            'V' => format!("{week:02}"),
            'G' => year.to_string(),
            'g' => format!("{:02}", year.rem_euclid(100)),
            's' => self.seconds().to_string(),
            // A time without a zone has none to write.
            'z' | 'Z' => String::new(),
            'n' => "\n".into(),
            't' => "\t".into(),
            '%' => "%".into(),
            'c' => self.strftime("%a %b %e %H:%M:%S %Y").ok()?,
            'D' | 'x' => self.strftime("%m/%d/%y").ok()?,
            'F' => self.strftime("%Y-%m-%d").ok()?,
            'R' => self.strftime("%H:%M").ok()?,
            'T' | 'X' => self.strftime("%H:%M:%S").ok()?,
            'r' => self.strftime("%I:%M:%S %p").ok()?,
            _ => return None,
        })
    }
}

/// Writes what a code stands for with another padding, or in capitals.
fn flagged(written: &str, flag: Option<char>, out: &mut String) {
    let digits = written.trim_start_matches([' ', '0']);
    let is_number = !written.is_empty() && written.bytes().all(|c| c.is_ascii_digit() || c == b' ');
    // A number of zeros alone keeps the last.
    let digits = if digits.is_empty() { &written[written.len().saturating_sub(1)..] } else { digits };
    match flag {
        Some('^') => out.push_str(&written.to_uppercase()),
        Some('-') if is_number => out.push_str(digits),
        Some('_') if is_number => _ = write!(out, "{digits:>width$}", width = written.len()),
        Some('0') if is_number => _ = write!(out, "{digits:0>width$}", width = written.len()),
        _ => out.push_str(written),
    }
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn month(month: Month) -> &'static str {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    NAMES[usize::from(u8::from(month)) - 1]
}
