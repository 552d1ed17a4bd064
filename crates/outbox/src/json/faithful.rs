//! A serializer that refuses a value for which JSON has the same text as for another one.
//!
//! `serde_json` writes NaN and the infinities as `null`, in silence, and so it writes `Some(None)` and `Some(())`: an optional value
//! would read back as `None`. Nothing but a serializer around its own sees the difference.
//!
//! Everything else is passed on to the serializer within, with each value wrapped once more, so that a float is seen however deep it
//! lies: in a map's key, in a tuple, behind `#[serde(flatten)]`.

use std::cell::Cell;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Passes everything on, but for floats that are not finite and for nulls within `Some`.
pub(super) struct Faithful<'a, S> {
    pub(super) inner: S,
    /// Whether the value that was written last is null.
    pub(super) null: &'a Cell<bool>,
}

/// A value within another one.
struct Inner<'a, T: ?Sized> {
    value: &'a T,
    null: &'a Cell<bool>,
}

impl<T: Serialize + ?Sized> Serialize for Inner<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (inner, null) = (serializer, self.null);
        self.value.serialize(Faithful { inner, null })
    }
}

impl<'a, S> Faithful<'a, S> {
    /// The serializer of a compound value.
    fn around<C, E>(self, begin: impl FnOnce(S) -> Result<C, E>) -> Result<Faithful<'a, C>, E> {
        let (inner, null) = (begin(self.inner)?, self.null);
        Ok(Faithful { inner, null })
    }
}

/// Methods that pass a value on that is not null.
macro_rules! pass_on {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.null.set(false);
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Faithful<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Faithful<'a, S::SerializeSeq>;
    type SerializeTuple = Faithful<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Faithful<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Faithful<'a, S::SerializeTupleVariant>;
    type SerializeMap = Faithful<'a, S::SerializeMap>;
    type SerializeStruct = Faithful<'a, S::SerializeStruct>;
    type SerializeStructVariant = Faithful<'a, S::SerializeStructVariant>;

    pass_on!(
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8]
    );

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.null.set(false);
        if value.is_finite() {
            self.inner.serialize_f64(value)
        } else {
            Err(S::Error::custom(format_args!("JSON has no number {value}")))
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null.set(true);
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null.set(true);
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null.set(true);
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let null = self.null;
        let written = self.inner.serialize_some(&Inner { value, null })?;
        if null.get() {
            return Err(S::Error::custom("an optional null would read back as none"));
        }
        Ok(written)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.null.set(false);
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let null = self.null;
        self.inner
            .serialize_newtype_struct(name, &Inner { value, null })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let null = self.null;
        let value = Inner { value, null };
        let written = self
            .inner
            .serialize_newtype_variant(name, index, variant, &value)?;
        null.set(false);
        Ok(written)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.around(|inner| inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.around(|inner| inner.serialize_tuple(length))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.around(|inner| inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.around(|inner| inner.serialize_tuple_variant(name, index, variant, length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.around(|inner| inner.serialize_map(length))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.around(|inner| inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.around(|inner| inner.serialize_struct_variant(name, index, variant, length))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Elements, fields and entries are values within the compound one, which is not null.
macro_rules! compound {
    ($($trait:ident: $method:ident($($name:ident)?)),*) => {
        $(impl<S: $trait> $trait for Faithful<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), S::Error> {
                let null = self.null;
                self.inner.$method($($name,)? &Inner { value, null })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.null.set(false);
                self.inner.end()
            }
        })*
    };
}

compound!(
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(name),
    SerializeStructVariant: serialize_field(name)
);

impl<S: SerializeMap> SerializeMap for Faithful<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let null = self.null;
        self.inner.serialize_key(&Inner { value, null })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let null = self.null;
        self.inner.serialize_value(&Inner { value, null })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.null.set(false);
        self.inner.end()
    }
}
