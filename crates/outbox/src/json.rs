//! JSON as it is written to the outbox, and as it is read from untrusted producers.
//!
//! Any producer may write to a topic, so [`parse`] takes nothing for granted: its depth is bounded, no key has a meaning of its own,
//! and it reads the same whatever features of `serde_json` other crates of the build enable. [`write`] writes only what `jsonb` and
//! [`parse`] give back bit for bit, and refuses everything else.
//!
//! | value | what `serde_json` and `jsonb` make of it | here |
//! | --- | --- | --- |
//! | NaN, infinities | `null` | refused |
//! | `Some(None)`, `Some(())` | `null`, which reads as `None` | refused |
//! | `-0.0` | `0.0` | refused |
//! | `1e16` | the integer `10000000000000000` | written as `10000000000000000.0` |
//! | `1.5777777777770001` | the last bit is lost in parsing | parsed exactly (`float_roundtrip`) |
//! | an integer of more than 64 bits | a rounded float | refused |
//! | a raw value | spaces, order of fields and duplicates change | refused |
//! | two fields of one name | the last one counts | refused where it is written, read as `jsonb` does |

mod exact;
mod faithful;

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Map, Value};

use exact::Exact;
use faithful::Faithful;

/// Writes a value as text that reads back bit for bit.
///
/// # Errors
/// It has a float that is not finite or a negative zero, a number of more than 64 bits, a null within `Some`, or a key that is neither a
/// string nor a number; or its own `Serialize` fails.
pub(crate) fn write<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(128);
    value.serialize(Faithful {
        inner: &mut serde_json::Serializer::with_formatter(&mut text, Exact),
        null: &Cell::new(false),
    })?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Parses JSON text into a value, nested at most 128 deep. Of two fields of one name the last one counts, as for `jsonb`.
///
/// Deserializing `serde_json`'s own `Value` is unsafe if any crate of the build enables its feature `raw_value`: it then takes the key
/// `$serde_json::private::RawValue` of an object for its own, and parses the string behind it with a fresh limit on depth. A message can
/// repeat that until the stack overflows.
pub(crate) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    deserialize(text, Plain { unique: false })
}

/// As [`parse`], but two fields of one name are an error.
pub(crate) fn parse_unique(text: &[u8]) -> Result<Value, serde_json::Error> {
    deserialize(text, Plain { unique: true })
}

fn deserialize(text: &[u8], plain: Plain) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = plain.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Visits any JSON value as itself.
#[derive(Clone, Copy)]
struct Plain {
    /// Whether two fields of one name are an error.
    unique: bool,
}

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
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key_seed(NameOf)? {
            match name {
                Name::Number => {
                    let digits: String = map.next_value()?;
                    return match digits.parse() {
                        Ok(float) if f64::is_finite(float) => Ok(float.into()),
                        _ => Err(A::Error::custom("number out of range")),
                    };
                }
                Name::Field(name) if self.unique && fields.contains_key(&name) => {
                    return Err(A::Error::custom(format_args!(
                        "two fields {name:?} in one object"
                    )));
                }
                Name::Field(name) => {
                    fields.insert(name, map.next_value_seed(self)?);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

/// The name of a field.
enum Name {
    /// Of an object's field, however it reads: none is special.
    Field(String),
    /// There is no object. With its feature `arbitrary_precision`, `serde_json` passes each fraction as a map of one text.
    Number,
}

/// Asks for a name as bytes: a field's name comes as bytes, and what stands for a number as text.
struct NameOf;

impl<'de> DeserializeSeed<'de> for NameOf {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameOf {
    type Value = Name;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Name, E> {
        let name = std::str::from_utf8(name).map_err(E::custom)?;
        Ok(Name::Field(name.to_owned()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Name, E> {
        Ok(Name::Number)
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
