//! JSON text that PostgreSQL's `jsonb` keeps as it is, number by number.
//!
//! `jsonb` stores a number as `numeric`: it keeps every digit and whether there is a fraction, but neither an exponent (`1e16` becomes
//! the integer `10000000000000000`) nor the sign of zero. So floats are written without an exponent and with a fraction, and what
//! would not come back is refused.

use std::io::{self, Write};

use serde_json::Number;
use serde_json::ser::Formatter;

/// Writes floats digit by digit; an error for a number that would not come back.
pub(super) struct Exact;

fn refuse<T>(why: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

impl Formatter for Exact {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, value.into())
    }

    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value == 0.0 && value.is_sign_negative() {
            return refuse("jsonb has no negative zero: it would arrive as 0.0");
        }
        // The standard library prints the shortest digits that read back as the same float, without an exponent.
        if value.fract() == 0.0 {
            write!(writer, "{value}.0")
        } else {
            write!(writer, "{value}")
        }
    }

    fn write_i128<W: Write + ?Sized>(&mut self, writer: &mut W, value: i128) -> io::Result<()> {
        if i64::try_from(value).is_ok() || u64::try_from(value).is_ok() {
            write!(writer, "{value}")
        } else {
            refuse("an integer of more than 64 bits would lose digits: make it a string")
        }
    }

    fn write_u128<W: Write + ?Sized>(&mut self, writer: &mut W, value: u128) -> io::Result<()> {
        match i128::try_from(value) {
            Ok(value) => self.write_i128(writer, value),
            Err(_) => refuse("an integer of more than 64 bits would lose digits: make it a string"),
        }
    }

    /// Only with `serde_json`'s feature `arbitrary_precision`.
    fn write_number_str<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        value: &str,
    ) -> io::Result<()> {
        if value.parse::<u64>().is_ok() || (value != "-0" && value.parse::<i64>().is_ok()) {
            return writer.write_all(value.as_bytes());
        }
        match value.parse().ok().filter(|float: &f64| float.is_finite()) {
            Some(float) if Number::from_f64(float).is_some_and(|it| it.to_string() == value) => {
                self.write_f64(writer, float)
            }
            _ => refuse(
                "a number that is neither a 64-bit integer nor a float in its shortest form would lose digits: make it a string",
            ),
        }
    }

    /// Only with `serde_json`'s feature `raw_value`.
    fn write_raw_fragment<W: Write + ?Sized>(&mut self, _: &mut W, _: &str) -> io::Result<()> {
        refuse("jsonb does not keep a RawValue's text: make it a Value")
    }
}
