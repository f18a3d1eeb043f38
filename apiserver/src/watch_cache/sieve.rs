//! Reads a few fields out of a JSON document, and makes sure of the rest that it is JSON.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What is wanted of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Sieve {
    #[default]
    Nothing,
    Everything,
    /// Parts of these fields.
    Fields(Vec<(Box<str>, Self)>),
}

impl Sieve {
    /// Lets the value at a path through, too.
    pub(super) fn add<'p>(&mut self, mut path: impl Iterator<Item = &'p str>) {
        let Some(first) = path.next() else {
            *self = Self::Everything;
            return;
        };
        if matches!(self, Self::Nothing) {
            *self = Self::Fields(Vec::new());
        }
        let Self::Fields(fields) = self else { return };
        let at = fields.iter().position(|(name, _)| **name == *first).unwrap_or_else(|| {
            fields.push((first.into(), Self::Nothing));
            fields.len() - 1
        });
        fields[at].1.add(path);
    }

    /// The document with nothing but what is wanted. Fails for all that could not be read as a [`Value`].
    pub(super) fn read(&self, json: &[u8]) -> serde_json::Result<Value> {
        let mut source = serde_json::Deserializer::from_slice(json);
        let value = self.deserialize(&mut source)?;
        source.end()?;
        Ok(value)
    }

    fn of_field(&self, name: &str) -> &Self {
        let Self::Fields(fields) = self else { return &Self::Nothing };
        fields.iter().find(|(known, _)| **known == *name).map_or(&Self::Nothing, |(_, wanted)| wanted)
    }
}

impl<'de> DeserializeSeed<'de> for &Sieve {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        match self {
            Sieve::Everything => Value::deserialize(source),
            _ => source.deserialize_any(self),
        }
    }
}

/// Of what is not an object, nothing can be wanted.
impl<'de> Visitor<'de> for &Sieve {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(Name(name)) = fields.next_key()? {
            match self.of_field(&name) {
                Sieve::Nothing => drop(fields.next_value_seed(&Sieve::Nothing)?),
                wanted => {
                    let value = fields.next_value_seed(wanted)?;
                    kept.insert(name.into_owned(), value);
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element_seed(&Sieve::Nothing)?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A field's name, copied only if it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        source.deserialize_str(Text).map(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sieve(paths: &[&str]) -> Sieve {
        let mut sieve = Sieve::default();
        paths.iter().for_each(|path| sieve.add(path.split('.')));
        sieve
    }

    #[test]
    fn only_what_is_wanted_comes_through() {
        let document = br#"{"a": {"b": {"c": [1, {"d": null}]}, "x": 1}, "e": "f", "g\n": 2, "h": [{"a": {}}]}"#;
        let read = |paths: &[&str]| sieve(paths).read(document).unwrap();
        assert_eq!(read(&["a.b", "e"]), json!({"a": {"b": {"c": [1, {"d": null}]}}, "e": "f"}));
        assert_eq!(read(&["a.b.c", "a.x", "g\n"]), json!({"a": {"b": {"c": [1, {"d": null}]}, "x": 1}, "g\n": 2}));
        assert_eq!(read(&["e.x", "h.a", "z"]), json!({"e": null, "h": null}));
        assert_eq!(read(&[]), json!({}));
    }

    #[test]
    fn what_is_no_json_is_refused_wherever_it_is() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        for bad in
            ["{\"a\": \"\\ud800\"}", "{\"a\": 1e999}", "{\"a\": tru}", "{} {}", "", &format!("{{\"a\": {nested}}}")]
        {
            assert!(serde_json::from_str::<Value>(bad).is_err(), "{bad}");
            assert!(sieve(&["b"]).read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(sieve(&["b"]).read(b"{\"a\": \"\xff\"}").is_err());
    }
}
