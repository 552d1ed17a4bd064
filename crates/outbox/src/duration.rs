//! Durations as settings: whole numbers, whose unit is the end of the setting's name.
//!
//! Settings come from TOML and from environment variables, where `30` has no unit; so the name has it (`pause_s`). In Rust the type
//! has it, and the field's name is the plain one (`pause`).

use std::time::Duration;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// The longest duration that a setting in seconds holds: 136 years. A policy that is built in Rust is cut to it, so that neither adding
/// it to a time nor an interval of PostgreSQL overflows.
pub(crate) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $from:path, $to:path) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            /// Refuses what the setting cannot hold: a fraction of the unit, or more than `u32::MAX` of it.
            pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
                match u32::try_from($to(duration)) {
                    Ok(number) if $from(number.into()) == *duration => to.serialize_u32(number),
                    _ => Err(S::Error::custom(format!("{duration:?} is no whole number of the unit, or too large"))),
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
                u32::deserialize(from).map(|number| $from(number.into()))
            }
        }
    };
}

unit!(
    /// Settings whose names end in `_s`.
    seconds, Duration::from_secs, Duration::as_secs
);
unit!(
    /// Settings whose names end in `_ms`.
    milliseconds, Duration::from_millis, Duration::as_millis
);

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Settings {
        #[serde(with = "seconds")]
        pause_s: Duration,
        #[serde(with = "milliseconds")]
        wait_ms: Duration,
    }

    #[test]
    fn a_duration_is_a_whole_number_of_its_unit_or_refused() {
        let settings = Settings {
            pause_s: Duration::from_secs(30),
            wait_ms: Duration::from_millis(200),
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"pause_s":30,"wait_ms":200}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        for pause_s in [Duration::from_millis(500), Duration::MAX] {
            let settings = Settings {
                pause_s,
                ..settings
            };
            assert!(serde_json::to_string(&settings).is_err());
        }
    }
}
