//! An order as a client asks for it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use uuid::Uuid;

/// A valid request for pieces of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewOrder {
    /// The product; never the nil UUID.
    pub product_id: Uuid,
    /// The price per piece that the customer was shown, at least 1.
    pub estimated_price: i32,
    /// Pieces, at least 1.
    pub quantity: i32,
}

/// A request body that is no valid order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not a JSON object, or a field of the wrong type: field (empty: the body itself) and what it should be.
    Malformed(BTreeMap<&'static str, String>),
    /// Every field has the right type, but these are missing or out of range.
    Invalid(BTreeMap<&'static str, String>),
}

impl NewOrder {
    /// Parses a request body. A field's type is checked before its value, and a wrong type in one field wins over
    /// a missing value in another; either way the error names every such field.
    ///
    /// Any whole number is a number, however large and however it is written (`2`, `2.0`, `2e0`).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| {
                Refused::Malformed([("", format!("not a JSON object: {error}"))].into())
            })?;
        let raw = |name| fields.get(name).map(|value| value.get());

        let mut wrong_type = BTreeMap::new();
        let mut invalid = BTreeMap::new();
        let mut field = |name, parsed: Result<(), Bad>| match parsed {
            Ok(()) => {}
            Err(Bad::Type(why)) => drop(wrong_type.insert(name, why)),
            Err(Bad::Value(why)) => drop(invalid.insert(name, why)),
        };
        let (mut product_id, mut estimated_price, mut quantity) = (Uuid::nil(), 0, 0);
        field(
            "product_id",
            uuid(raw("product_id")).map(|id| product_id = id),
        );
        field(
            "estimated_price",
            positive(raw("estimated_price")).map(|price| estimated_price = price),
        );
        field(
            "quantity",
            positive(raw("quantity")).map(|pieces| quantity = pieces),
        );

        if !wrong_type.is_empty() {
            return Err(Refused::Malformed(wrong_type));
        }
        if !invalid.is_empty() {
            return Err(Refused::Invalid(invalid));
        }
        Ok(Self {
            product_id,
            estimated_price,
            quantity,
        })
    }
}

enum Bad {
    Type(String),
    Value(String),
}

fn missing() -> Bad {
    Bad::Value("is missing".to_owned())
}

fn uuid(raw: Option<&str>) -> Result<Uuid, Bad> {
    let raw = raw.ok_or_else(missing)?;
    let id = serde_json::from_str::<String>(raw)
        .ok()
        .and_then(|text| Uuid::try_parse(&text).ok())
        .ok_or_else(|| Bad::Type("must be a UUID in a string".to_owned()))?;
    if id.is_nil() {
        return Err(Bad::Value("must not be the nil UUID".to_owned()));
    }
    Ok(id)
}

fn positive(raw: Option<&str>) -> Result<i32, Bad> {
    let whole = whole_number(raw.ok_or_else(missing)?)
        .ok_or_else(|| Bad::Type("must be a whole number".to_owned()))?;
    match whole {
        Whole::Within(value) if value > 0 => Ok(value),
        Whole::Within(_) | Whole::Below => Err(Bad::Value("must be at least 1".to_owned())),
        Whole::Above => Err(Bad::Value(format!("must be at most {}", i32::MAX))),
    }
}

/// A whole number against the range of the column that is to hold it.
#[derive(Debug, PartialEq)]
enum Whole {
    Below,
    Within(i32),
    Above,
}

/// Reads valid JSON text as a whole number of any size; none if it is something else.
fn whole_number(raw: &str) -> Option<Whole> {
    if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let (negative, unsigned) = match raw.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(Whole::Within(0));
    }
    // Of an exponent beyond i64 only the sign matters.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    });
    let places = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    // value = significant x 10^zeros
    let zeros = exponent
        .saturating_sub(places(fraction))
        .saturating_add(places(&digits) - places(significant));
    if zeros < 0 {
        return None;
    }
    let beyond = if negative { Whole::Below } else { Whole::Above };
    let value = u32::try_from(zeros)
        .ok()
        .and_then(|zeros| 10_i64.checked_pow(zeros))
        .zip(significant.parse::<i64>().ok())
        .and_then(|(scale, significant)| significant.checked_mul(scale))
        .map(|value| if negative { -value } else { value });
    Some(
        value
            .and_then(|value| i32::try_from(value).ok())
            .map_or(beyond, Whole::Within),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn parse(body: &str) -> Result<NewOrder, Refused> {
        NewOrder::parse(body.as_bytes())
    }

    fn with(field: &str, value: &str) -> String {
        let mut fields = BTreeMap::from([
            ("product_id", format!("\"{ID}\"")),
            ("estimated_price", "1500".to_owned()),
            ("quantity", "2".to_owned()),
        ]);
        fields.insert(field, value.to_owned());
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn a_whole_number_is_a_number_however_it_is_written() {
        for (written, quantity) in [
            ("2", 2),
            ("2.0", 2),
            ("20e-1", 2),
            ("2E0", 2),
            ("2147483647", i32::MAX),
        ] {
            assert_eq!(
                parse(&with("quantity", written)).unwrap().quantity,
                quantity,
                "{written}"
            );
        }
        for (written, whole) in [
            ("0", Whole::Within(0)),
            ("-0.0e9", Whole::Within(0)),
            ("0e99999999999999999999", Whole::Within(0)),
            ("1e400", Whole::Above),
            ("1e99999999999999999999", Whole::Above),
            ("-1e400", Whole::Below),
            ("-2147483648", Whole::Within(i32::MIN)),
            ("99999999999999999999999999", Whole::Above),
        ] {
            assert_eq!(whole_number(written), Some(whole), "{written}");
        }
        for written in ["1.5", "1e-1", "0.1e-99999999999999999999", "15e-1"] {
            assert_eq!(whole_number(written), None, "{written}");
        }
    }

    #[test]
    fn a_wrong_type_is_malformed() {
        for (field, value) in [
            ("product_id", "\"laptop\""),
            ("product_id", "null"),
            ("product_id", "7"),
            ("quantity", "1.5"),
            ("quantity", "null"),
            ("quantity", "\"2\""),
            ("quantity", "true"),
            ("estimated_price", "[]"),
            ("estimated_price", "{}"),
        ] {
            let Err(Refused::Malformed(fields)) = parse(&with(field, value)) else {
                panic!("{field}: {value}");
            };
            assert_eq!(
                fields.keys().copied().collect::<Vec<_>>(),
                [field],
                "{value}"
            );
        }
        for body in [
            "",
            "{",
            "[]",
            "null",
            "\"x\"",
            "[\"550e8400-e29b-41d4-a716-446655440000\",1,1]",
            "{\"a\":1}x",
        ] {
            assert!(matches!(parse(body), Err(Refused::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn every_missing_or_out_of_range_field_is_named() {
        let Err(Refused::Invalid(fields)) = parse("{}") else {
            panic!("{{}} is well-formed");
        };
        assert_eq!(
            fields.keys().copied().collect::<Vec<_>>(),
            ["estimated_price", "product_id", "quantity"]
        );
        for (field, value) in [
            ("product_id", "\"00000000-0000-0000-0000-000000000000\""),
            ("quantity", "0"),
            ("quantity", "-1"),
            ("quantity", "2147483648"),
            ("estimated_price", "1e400"),
        ] {
            let refused = parse(&with(field, value));
            assert!(
                matches!(&refused, Err(Refused::Invalid(fields)) if fields.contains_key(field)),
                "{value}"
            );
        }
    }

    #[test]
    fn a_wrong_type_wins_over_a_missing_value() {
        let refused = parse("{\"quantity\": \"2\", \"estimated_price\": 0}");
        let Err(Refused::Malformed(fields)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(fields.keys().copied().collect::<Vec<_>>(), ["quantity"]);
    }
}
