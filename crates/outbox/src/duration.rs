//! Durations as settings: whole numbers, whose unit is the end of the setting's name.
//!
//! Settings come from TOML and from environment variables, where `30` has no unit; so the name has it (`pause_s`). In Rust the type
//! has it, and the field's name is the plain one (`pause`).

use std::time::Duration;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $from:path, $to:path) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
                let number = u64::try_from($to(duration)).map_err(S::Error::custom)?;
                to.serialize_u64(number)
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
