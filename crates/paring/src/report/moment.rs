//! Moments in universal time, as reports and logs write them.

use time::UtcDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

/// `2026-01-31T23:59:59Z`
const TO_THE_SECOND: StaticFormatDescription = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
/// `2026-01-31T23:59:59.123Z`
const TO_THE_MILLISECOND: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// As people read it.
const IN_WORDS: StaticFormatDescription =
    format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute] UTC");

/// This moment in ISO 8601, to the second: `2026-01-31T23:59:59Z`.
pub fn now() -> String {
    shown(UtcDateTime::now(), TO_THE_SECOND)
}

/// This moment in ISO 8601, to the millisecond: `2026-01-31T23:59:59.123Z`.
pub fn now_to_the_millisecond() -> String {
    shown(UtcDateTime::now(), TO_THE_MILLISECOND)
}

/// A moment that [`now`] wrote, as people read it: `31 Jan 2026, 23:59 UTC`. Another text stays as it is.
pub fn in_words(text: &str) -> String {
    parse(text).map_or_else(|| text.to_string(), |moment| shown(moment, IN_WORDS))
}

/// Reads what [`now`] writes, from 1970 on. `None` for anything else, and for days and times that no calendar or clock has.
pub(super) fn parse(text: &str) -> Option<UtcDateTime> {
    let moment = UtcDateTime::parse(text, TO_THE_SECOND).ok()?;
    // The library takes signs, which nothing here writes.
    (moment.unix_timestamp() >= 0 && shown(moment, TO_THE_SECOND) == text).then_some(moment)
}

/// The moment in a format that every moment has.
pub(super) fn shown(moment: UtcDateTime, format: StaticFormatDescription) -> String {
    moment.format(format).unwrap_or_else(|_| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_722_000_000_007, "2024-07-26T13:20:00.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let moment = UtcDateTime::from_unix_timestamp_nanos(millis * 1_000_000).unwrap();
            assert_eq!(shown(moment, TO_THE_MILLISECOND), want);
            let text = shown(moment, TO_THE_SECOND);
            assert_eq!(text, format!("{}Z", &want[..19]));
            assert_eq!(i128::from(parse(&text).unwrap().unix_timestamp()), millis / 1000, "{text}");
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
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01 00:00:00Z",
            "+026-01-01T00:00:00Z",
            "+2026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "20é6-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(in_words("2026-01-09T03:05:59Z"), "9 Jan 2026, 03:05 UTC");
        assert_eq!(in_words("yesterday"), "yesterday");
        assert!(parse(&now()).is_some());
        assert_eq!(now_to_the_millisecond().len(), "2026-01-31T23:59:59.123Z".len());
    }
}
