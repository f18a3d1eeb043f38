//! Reads a few fields out of a JSON document, and makes sure of the rest that it is JSON: every committed object passes
//! through here, and most of its bytes are of no interest.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

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
    pub(super) fn read(&self, json: &[u8]) -> Result<Value, NotJson> {
        let text = std::str::from_utf8(json).map_err(|_| NotJson)?;
        let mut scanner = Scanner { text, at: 0, depth: 0 };
        let value = scanner.value(self)?;
        scanner.space();
        if scanner.at == text.len() { Ok(value) } else { Err(NotJson) }
    }

    fn of_field(&self, name: &str) -> &Self {
        let Self::Fields(fields) = self else { return &Self::Nothing };
        fields.iter().find(|(known, _)| **known == *name).map_or(&Self::Nothing, |(_, wanted)| wanted)
    }
}

/// A document cannot be read as a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// Lists and objects may be nested this deep, as for the reader of [`Value`]s.
const MAX_DEPTH: usize = 127;
/// Integers of up to so many characters fit, whatever they are.
const SHORT: usize = 18;

/// Walks over a document.
struct Scanner<'j> {
    text: &'j str,
    at: usize,
    depth: usize,
}

impl<'j> Scanner<'j> {
    /// Passes a value and answers with what is wanted of it. Of what is not an object, nothing can be wanted but all.
    fn value(&mut self, wanted: &Sieve) -> Result<Value, NotJson> {
        self.space();
        let start = self.at;
        let mut kept = Map::new();
        match self.peek()? {
            b'{' => self.items(b'}', |scanner| scanner.field(wanted, &mut kept))?,
            b'[' => self.items(b']', |scanner| scanner.value(&Sieve::Nothing).map(drop))?,
            b'"' => drop(self.string()?),
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        Ok(match wanted {
            Sieve::Everything => serde_json::from_str(&self.text[start..self.at]).map_err(|_| NotJson)?,
            Sieve::Fields(_) if self.text.as_bytes()[start] == b'{' => Value::Object(kept),
            Sieve::Fields(_) | Sieve::Nothing => Value::Null,
        })
    }

    fn field(&mut self, wanted: &Sieve, kept: &mut Map<String, Value>) -> Result<(), NotJson> {
        self.space();
        let name = self.string()?;
        self.space();
        self.take(b':')?;
        match wanted.of_field(&name) {
            Sieve::Nothing => self.value(&Sieve::Nothing).map(drop),
            wanted => {
                let value = self.value(wanted)?;
                kept.insert(name.into_owned(), value);
                Ok(())
            }
        }
    }

    /// Passes a list or an object, whose items `each` passes.
    fn items(&mut self, close: u8, mut each: impl FnMut(&mut Self) -> Result<(), NotJson>) -> Result<(), NotJson> {
        self.at += 1;
        self.depth += 1;
        self.space();
        if self.depth > MAX_DEPTH {
            return Err(NotJson);
        }
        if self.peek()? != close {
            each(self)?;
            self.space();
            while self.peek()? == b',' {
                self.at += 1;
                each(self)?;
                self.space();
            }
        }
        self.depth -= 1;
        self.take(close)
    }

    /// Passes a string and answers with what it says.
    fn string(&mut self) -> Result<Cow<'j, str>, NotJson> {
        let quote = self.at;
        self.take(b'"')?;
        let plain = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).ok_or(NotJson)?;
        self.at += plain;
        if self.peek()? == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[quote + 1..self.at - 1]));
        }
        while self.peek()? != b'"' {
            self.at += if self.peek()? == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        // Escapes are rare: whoever knows them all reads them.
        serde_json::from_str(&self.text[quote..self.at]).map(Cow::Owned).map_err(|_| NotJson)
    }

    fn number(&mut self) -> Result<(), NotJson> {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = self.rest();
        let number = &rest[..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        self.at += number.len();
        let digits = number.strip_prefix(b"-").unwrap_or(number);
        let is_short =
            matches!(digits, [b'1'..=b'9', more @ ..] if more.len() < SHORT && more.iter().all(u8::is_ascii_digit));
        if is_short || digits == b"0" || serde_json::from_slice::<Number>(number).is_ok() {
            Ok(())
        } else {
            Err(NotJson)
        }
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        self.at += word.len();
        if self.text.as_bytes().get(self.at - word.len()..self.at) == Some(word.as_bytes()) {
            Ok(())
        } else {
            Err(NotJson)
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Ok(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> Result<(), NotJson> {
        let found = self.peek()?;
        self.at += 1;
        if found == wanted { Ok(()) } else { Err(NotJson) }
    }

    fn peek(&self) -> Result<u8, NotJson> {
        self.text.as_bytes().get(self.at).copied().ok_or(NotJson)
    }

    fn rest(&self) -> &'j [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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
        assert_eq!(read(&[]), Value::Null);
    }

    /// JSON and what is nearly JSON.
    fn documents() -> impl Strategy<Value = String> {
        const PIECES: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\ud800",
            "a",
            "é",
            " ",
            "\n",
            "0",
            "-",
            "7",
            ".5",
            "e9",
            "e999",
            "123456789012345678901",
            "true",
            "nul",
            "null",
            "{\"a\":",
            "\"b\":[1,",
            "\u{1}",
        ];
        prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_reader_of_values_on_what_json_is(document in documents()) {
            let is_json = serde_json::from_str::<Value>(&document).is_ok();
            prop_assert_eq!(sieve(&["b"]).read(document.as_bytes()).is_ok(), is_json);
        }

        #[test]
        fn all_of_a_value_comes_through(document in "[ -~]{0,8}") {
            let value = json!({"a": [document, 1.5, -0.0, 1e30, {"c": null}], "b": document});
            prop_assert_eq!(sieve(&["a", "b"]).read(value.to_string().as_bytes()), Ok(value));
        }
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
