//! JSON of untrusted producers.
//!
//! Any producer may write to a topic, so the parser takes nothing for granted: its depth is bounded, no key has a meaning of its own,
//! and it reads the same whatever features of `serde_json` other crates of the build enable.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Parses JSON text into a value, nested at most 128 deep.
///
/// Deserializing `serde_json`'s own `Value` is unsafe if any crate of the build enables its feature `raw_value`: it then takes the key
/// `$serde_json::private::RawValue` of an object for its own, and parses the string behind it with a fresh limit on depth. A message can
/// repeat that until the stack overflows.
pub(super) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Plain.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Visits any JSON value as itself.
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Plain)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            fields.insert(name, map.next_value_seed(Plain)?);
        }
        Ok(Value::Object(fields))
    }
}

/// A field's name as a plain string, so that none is special.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parsed_value_equals_what_serde_json_reads() {
        let text =
            r#"{"a": [1, -2, 1.5, "x\u0000", null, true, {}], "b": {"c": 18446744073709551615}}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
        for text in ["", "{", "{}x", "[1,]", "nul"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_limited_and_no_key_resets_the_limit() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(parse(deep.as_bytes()).is_err());
        // Each layer is text in the one around it; this escaping grows it by a constant.
        let mut hostile = "1".to_owned();
        for _ in 0..5_000 {
            let inner = hostile.replace('\\', "\\u005c").replace('"', "\\u0022");
            hostile = format!("{{\"$serde_json::private::RawValue\":\"{inner}\"}}");
            if hostile.len() > 900_000 {
                break;
            }
        }
        let value = parse(hostile.as_bytes()).unwrap();
        assert!(value["$serde_json::private::RawValue"].is_string());
    }
}
