//! Durations as Kubernetes writes them: `96h`, `30m`, `1h30m`.

use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A duration in Go's notation, never negative, units `h`, `m`, `s`, `ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub SignedDuration);

impl HumanDuration {
    /// Whole hours.
    #[must_use]
    pub const fn hours(hours: i64) -> Self {
        Self(SignedDuration::from_hours(hours))
    }

    /// Whole minutes.
    #[must_use]
    pub const fn minutes(minutes: i64) -> Self {
        Self(SignedDuration::from_mins(minutes))
    }

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(seconds: i64) -> Self {
        Self(SignedDuration::from_secs(seconds))
    }

    /// Parses `1h30m`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault =
            || format!("\"{text}\" is no duration; write numbers with h, m, s or ms, such as 96h or 1h30m");
        let mut total = SignedDuration::ZERO;
        let mut rest = text;
        if rest.is_empty() {
            return Err(fault());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = rest.split_at(digits);
            let letters = behind.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, behind) = behind.split_at(letters);
            let number: i64 = number.parse().map_err(|_| fault())?;
            let milliseconds = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(fault()),
            };
            let part = number.checked_mul(milliseconds).ok_or_else(fault)?;
            total = total.checked_add(SignedDuration::from_millis(part)).ok_or_else(fault)?;
            rest = behind;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 40,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9]') && self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?([0-9]{1,9}ms)?$')",
                "message": "a duration is written in h, m, s and ms, in this order and up to 999999h, such as 96h or 1h30m; a day is 24h",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_go_durations() {
        for (text, seconds) in [("96h", 345_600), ("1h30m", 5_400), ("10s", 10), ("0s", 0)] {
            let duration = HumanDuration::parse(text).unwrap();
            assert_eq!(duration.0.as_secs(), seconds);
            assert_eq!(duration.to_string(), text);
        }
        for bad in ["", "4d", "h", "-5s", "1.5h", "10", "99999999999999999999h", "9223372036854775807h"] {
            assert!(HumanDuration::parse(bad).unwrap_err().contains("such as 96h"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(ms in 0i64..10_000_000_000) {
            let duration = HumanDuration(SignedDuration::from_millis(ms));
            prop_assert_eq!(HumanDuration::parse(&duration.to_string()).unwrap(), duration);
        }
    }
}
