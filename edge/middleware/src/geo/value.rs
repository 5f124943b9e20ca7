//! A value in a record, of which only what is useful is kept.
//!
//! The type of the map inside is a parameter and not this type again, so that the depth of decoding is fixed by the
//! types: a corrupt database whose maps contain themselves cannot recurse.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest text kept from a database, in bytes. Place names are far shorter.
const MAX_TEXT_BYTES: usize = 256;

/// A text, a number, a boolean, or a map with the fields of `F`. Lists, longer texts and texts with control characters
/// are dropped.
#[derive(Debug, Default)]
pub(super) enum Value<F = Nothing> {
    /// Nothing useful.
    #[default]
    Absent,
    Text(String),
    /// Finite.
    Number(f64),
    Flag(bool),
    Map(Box<F>),
}

/// A map that has nothing for us.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Nothing {}

/// The first element of a list.
#[derive(Debug, Default)]
pub(super) struct First<T>(pub(super) T);

// === impl Value ===

impl<F> Value<F> {
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    pub(super) fn fields(&self) -> Option<&F> {
        if let Self::Map(fields) = self { Some(fields) } else { None }
    }

    /// The text of one field of the map.
    pub(super) fn of(&self, pick: impl Fn(&F) -> &Value) -> Option<&str> {
        pick(self.fields()?).text()
    }

    /// A number, or a text that is one, at most `bound` away from 0.
    pub(super) fn within(&self, bound: f64) -> Option<f64> {
        let number = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        (number.abs() <= bound).then_some(number)
    }

    /// A whole number that fits 32 bits.
    pub(super) fn whole(&self) -> Option<u32> {
        let &Self::Number(number) = self else { return None };
        let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        whole.then_some(number as u32)
    }
}

impl<'de, F: Deserialize<'de>> Deserialize<'de> for Value<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData))
    }
}

struct ValueVisitor<F>(PhantomData<F>);

impl<'de, F: Deserialize<'de>> Visitor<'de> for ValueVisitor<F> {
    type Value = Value<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<F>, E> {
        let kept = text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
        Ok(if kept { Value::Text(text.to_owned()) } else { Value::Absent })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<F>, E> {
        Ok(if number.is_finite() { Value::Number(number) } else { Value::Absent })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<F>, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<F>, E> {
        self.visit_f64(number as f64)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value<F>, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Value<F>, E> {
        Ok(Value::Absent)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value<F>, E> {
        Ok(Value::Absent)
    }

    fn visit_unit<E: Error>(self) -> Result<Value<F>, E> {
        Ok(Value::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<F>, A::Error> {
        Ok(Value::Map(Box::new(F::deserialize(MapAccessDeserializer::new(map))?)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Value<F>, A::Error> {
        skip(list)?;
        Ok(Value::Absent)
    }
}

fn skip<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

// === impl First ===

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

struct FirstVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for FirstVisitor<T> {
    type Value = First<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<T>, A::Error> {
        let first = list.next_element()?.unwrap_or_default();
        skip(list)?;
        Ok(First(first))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<First<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(First::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<First<T>, E> {
        Ok(First::default())
    }

    fn visit_unit<E: Error>(self) -> Result<First<T>, E> {
        Ok(First::default())
    }
}
