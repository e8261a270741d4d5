//! Moments and spans in words for people.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `2026-11-24 12:00:00 UTC`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The next whole second, as Kubernetes stores times: never before the moment itself.
#[must_use]
pub fn whole(at: Timestamp) -> Time {
    let seconds = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    Time(Timestamp::from_second(seconds).unwrap_or(at))
}

/// A span rounded for reading: `3 days`, `5 hours`, `20 minutes`, `10 seconds`.
#[must_use]
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (count, unit) = match seconds {
        s if s >= 2 * 86_400 => ((s + 43_200) / 86_400, "day"),
        s if s >= 2 * 3_600 => ((s + 1_800) / 3_600, "hour"),
        s if s >= 120 => ((s + 30) / 60, "minute"),
        s => (s, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_for_reading() {
        for (seconds, words) in
            [(1, "1 second"), (600, "10 minutes"), (345_600, "4 days"), (7_300, "2 hours")]
        {
            assert_eq!(span(SignedDuration::from_secs(seconds)), words);
        }
        assert_eq!(moment(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
    }
}
