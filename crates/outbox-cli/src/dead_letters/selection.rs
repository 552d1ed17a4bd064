//! Which dead letters a command is about.

use clap::Args;
use outbox::listener::dead_letter::{Filter, Kind};
use uuid::Uuid;

/// Which dead letters; all that is given must hold. Only a command line makes it, so no discard lacks one.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// The event's id
    id: Option<Uuid>,
    /// Of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Of this key, as text
    #[arg(long, conflicts_with = "key_hex")]
    key: Option<String>,
    /// Of this key, in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = bytes)]
    key_hex: Option<Bytes>,
    /// Of this kind: poison, deferred, unknown or parked
    #[arg(long)]
    kind: Option<Kind>,
    /// Of this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Dead-lettered at least so long ago, such as 90s, 15m, 6h, 2d
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    older_than: Option<u64>,
    /// All of them
    #[arg(long, conflicts_with_all = ["id", "topic", "key", "key_hex", "kind", "event_type", "older_than"])]
    all: bool,
}

/// A key's bytes; a type of its own, since clap takes a vector for many arguments.
#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

impl Selection {
    /// Matches them.
    pub(super) fn filter(&self) -> Filter {
        let text = self.key.as_ref().map(|key| key.clone().into_bytes());
        Filter {
            id: self.id,
            topic: self.topic.clone(),
            key: text.or_else(|| self.key_hex.clone().map(|Bytes(bytes)| bytes)),
            kind: self.kind,
            event_type: self.event_type.clone(),
            older_than_s: self.older_than,
        }
    }
}

/// A hundred years, in seconds: more than any dead letter's age, and within PostgreSQL's intervals.
const OLDEST: u64 = 36_525 * 86_400;

fn seconds(age: &str) -> Result<u64, String> {
    let wrong = || "a whole number and s, m, h or d, such as 15m".to_owned();
    let unit = age.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = age.strip_suffix(unit).unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: Option<u64> = number.parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(factor));
    let seconds = seconds.filter(|seconds| *seconds <= OLDEST);
    seconds.ok_or_else(|| "at most 100 years, 36525d".to_owned())
}

fn bytes(hex: &str) -> Result<Bytes, String> {
    let wrong = || "an even number of hexadecimal digits".to_owned();
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let bytes = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    bytes
        .collect::<Result<_, _>>()
        .map(Bytes)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_keys_are_read() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2d"), Ok(172_800));
        for wrong in ["", "5", "m", "1.5h", "-1s", "+1s", "1é"] {
            assert!(seconds(wrong).unwrap_err().contains("15m"), "{wrong}");
        }
        assert_eq!(seconds("36525d"), Ok(3_155_760_000));
        for long in ["36526d", "3155760001s", "99999999999999999999d"] {
            assert!(seconds(long).unwrap_err().contains("100 years"), "{long}");
        }
        assert_eq!(bytes("00fF").unwrap().0, [0, 255]);
        for wrong in ["0", "zz", "é0"] {
            bytes(wrong).unwrap_err();
        }
        assert_eq!("parked".parse(), Ok(Kind::Parked));
        let unknown = "Parked".parse::<Kind>().unwrap_err().to_string();
        assert!(
            unknown.contains("poison, deferred, unknown, parked"),
            "{unknown}"
        );
    }
}
