//! Points in time as text (RFC 3339), without a calendar crate, and for how long something has been so.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment of the past as a state dump tells it: `since 2026-01-31T12:00:00.5Z (3.2 s)`.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// One by the clock that does not jump.
    pub fn of(at: Instant) -> Self {
        Self(at)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = self.0.elapsed();
        let at = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
        write!(f, "since {} ({:.1} s)", rfc3339(at), ago.as_secs_f64())
    }
}

/// UTC with nanoseconds, as Go's `time.RFC3339Nano` pads it.
pub fn rfc3339(at: SystemTime) -> String {
    let (seconds, nanos) = since_epoch(at);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Seconds and nanoseconds since the epoch, before it negative seconds with positive nanoseconds.
pub fn since_epoch(at: SystemTime) -> (i64, u32) {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
        Err(before) => {
            let (seconds, nanos) = (
                before.duration().as_secs().cast_signed(),
                before.duration().subsec_nanos(),
            );
            if nanos == 0 {
                (-seconds, 0)
            } else {
                (-seconds - 1, 1_000_000_000 - nanos)
            }
        }
    }
}

/// Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin on 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_around_leap_days_are_right() {
        for (seconds, text) in [
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_moment_before_the_epoch_has_positive_nanoseconds() {
        assert_eq!(
            since_epoch(UNIX_EPOCH - Duration::from_millis(1)),
            (-1, 999_000_000)
        );
    }
}
