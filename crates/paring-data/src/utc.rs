//! Moments in universal time.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, to the millisecond. It is shown as ISO 8601 has it, to the second: `2026-01-31T23:59:59Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// Such as 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// Of the month, 1 to 31.
    pub day: u64,
    /// Days after the last Sunday, 0 to 6.
    pub weekday: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// 0 to 999.
    pub millisecond: u32,
    /// Whole days since 1970 began.
    days: u64,
}

impl Utc {
    /// This moment.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// That of a clock of the system; one before 1970 becomes the beginning of 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, time) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years that begin in March have their leap day at the end; 719,468 days lie between year 0 and 1970.
        let day = days + 719_468;
        let (era, day_of_era) = (day / 146_097, day % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            // 1970 began on a Thursday.
            weekday: (days + 4) % 7,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            millisecond: since.subsec_millis(),
            days,
        }
    }

    /// Reads what is shown: ISO 8601 to the second, in universal time. `None` for anything else, and for days and times that
    /// no calendar or clock has.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |range: Range<usize>| text.get(range)?.parse::<u64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // The inverse of what `of` does, with years that begin in March.
        let (from_march, year_from_march) = ((month + 9) % 12, year - u64::from(month <= 2));
        let day_of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
        let days =
            365 * year_from_march + year_from_march / 4 - year_from_march / 100 + year_from_march / 400 + day_of_year;
        let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second;
        let moment = Self::of(UNIX_EPOCH + Duration::from_secs(seconds));
        (moment.to_string() == text).then_some(moment)
    }

    /// Seconds since 1970 began.
    pub fn since_1970(&self) -> Duration {
        let Self { hour, minute, second, .. } = self;
        Duration::from_secs(self.days * 86_400 + hour * 3600 + minute * 60 + second)
            + Duration::from_millis(u64::from(self.millisecond))
    }

    /// As it is shown, with milliseconds: `2026-01-31T23:59:59.123Z`.
    pub fn precise(&self) -> String {
        let whole = self.to_string();
        format!("{}.{:03}Z", whole.trim_end_matches('Z'), self.millisecond)
    }
}

impl Display for Utc {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (millis, want, weekday) in [
            (0, "1970-01-01T00:00:00.000Z", 4),
            (951_782_399_999, "2000-02-28T23:59:59.999Z", 1),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", 2),
            (1_722_000_000_007, "2024-07-26T13:20:00.007Z", 5),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z", 1),
        ] {
            let moment = Utc::of(UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!((moment.precise().as_str(), moment.weekday), (want, weekday));
            assert_eq!(moment.since_1970(), Duration::from_millis(millis));
            let shown = moment.to_string();
            assert_eq!(shown, format!("{}Z", &want[..19]));
            assert_eq!(Utc::parse(&shown).unwrap().since_1970(), Duration::from_secs(millis / 1000), "{shown}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01 00:00:00Z",
            "+026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "20é6-01-01T00:00:00Z",
        ] {
            assert_eq!(Utc::parse(bad), None, "{bad}");
        }
        assert_eq!(Utc::of(UNIX_EPOCH - Duration::from_secs(1)), Utc::of(UNIX_EPOCH));
    }
}
