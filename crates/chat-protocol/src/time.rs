//! Times in JSON: RFC 3339, UTC, with microseconds.

use chat_domain::Timestamp;
use serde::{Serialize, Serializer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const FORMAT: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A time in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Time {
    /// Formats the time, for example `2026-02-02T22:00:00.000000Z`. Times outside the years 0 to
    /// 9999, which RFC 3339 does not have, become the nearest one within.
    pub fn text(self) -> String {
        let first =
            PrimitiveDateTime::new(time::macros::date!(0000 - 01 - 01), time::Time::MIDNIGHT)
                .assume_utc();
        let last = PrimitiveDateTime::MAX.assume_utc();
        let nearest = if self.0.0 < 0 { first } else { last };
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0.0) * 1_000)
            .unwrap_or(nearest)
            .clamp(first, last);
        // Every time has the components of the format, so formatting cannot fail.
        time.format(FORMAT).unwrap_or_default()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        assert_eq!(Time(Timestamp(0)).text(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            Time(Timestamp(1_770_069_600_000_001)).text(),
            "2026-02-02T22:00:00.000001Z"
        );
        assert_eq!(Time(Timestamp(-1)).text(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(
            Time(Timestamp(i64::MIN)).text(),
            "0000-01-01T00:00:00.000000Z"
        );
        assert_eq!(
            Time(Timestamp(i64::MAX)).text(),
            "9999-12-31T23:59:59.999999Z"
        );
    }
}
