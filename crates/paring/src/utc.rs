//! Moments in universal time.

use std::fmt::{self, Display, Formatter};
use std::time::{SystemTime, UNIX_EPOCH};

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
        }
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
    use std::time::Duration;

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
            assert_eq!(moment.to_string(), format!("{}Z", &want[..19]));
        }
        assert_eq!(Utc::of(UNIX_EPOCH - Duration::from_secs(1)), Utc::of(UNIX_EPOCH));
    }
}
