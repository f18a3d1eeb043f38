//! Named formats of texts: `format.dns1123Label().validate(name)` (upstream: k8s.io/apiserver/pkg/cel/library/format.go).
//! What names may look like is the host's to say.

use std::sync::Arc;

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::{Opaque, Text, Value};
use crate::{base64, time};

const NAME: &str = "kubernetes.NamedFormat";

/// A format.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The name of the function that gives it.
    pub name: &'static str,
    /// The length of the pattern that the reference has for it (about, for some): a check costs by it.
    pub pattern_size: u64,
    /// Tells what is wrong with a text.
    pub check: fn(&str) -> Vec<String>,
}

const OWN: [Format; 6] = [
    own("uri", 400, |text| simple(super::url::is_url(text), "invalid URI")),
    own("uuid", 100, |text| simple(uuid(text), "does not match the UUID format")),
    own("byte", 70, |text| simple(base64::is_standard(text), "invalid base64")),
    own("date", 100, |text| simple(time::parse_date(text).is_some(), "invalid date")),
    own("datetime", 100, |text| simple(time::parse_timestamp(text).is_some(), "invalid datetime")),
    own("duration", 100, |text| simple(time::parse_duration(text).is_some(), "invalid duration")),
];

const fn own(name: &'static str, pattern_size: u64, check: fn(&str) -> Vec<String>) -> Format {
    Format { name, pattern_size, check }
}

impl Opaque for Format {
    fn type_name(&self) -> &str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>().is_some_and(|other| other.name == self.name)
    }

    fn size(&self) -> u64 {
        self.pattern_size
    }
}

/// The library with the language's own formats and those of the host.
pub fn formats(of_host: &[Format]) -> Library {
    let all: Arc<[Format]> = of_host.iter().chain(&OWN).copied().collect();
    let mut library = Library::new().type_(NAME, Type::opaque(NAME));
    for format in all.iter().copied() {
        let name = format.name;
        library = library.function(&format!("format_{name}: format.{name}(): kubernetes.NamedFormat"), move |_| {
            Ok(Value::opaque(format))
        });
    }
    library
        .function("format-named: format.named(string): optional(kubernetes.NamedFormat)", move |args| match args {
            [Value::String(wanted)] => {
                let found = all.iter().find(|format| *format.name == **wanted);
                Ok(Value::Optional(found.map(|format| Box::new(Value::opaque(*format)))))
            }
            _ => Err(Error::no_overload()),
        })
        .function("format-validate: kubernetes.NamedFormat.validate(string): optional(list(string))", |args| match args
        {
            [Value::Opaque(format), Value::String(text)] => validate(format.as_ref(), text),
            _ => Err(Error::no_overload()),
        })
}

/// None when the text is right, else what is wrong with it.
fn validate<'a>(format: &dyn Opaque, text: &Text<'a>) -> Result<Value<'a>, Error> {
    let format: &Format = format.downcast().ok_or_else(Error::no_overload)?;
    let wrong = (format.check)(text);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
}

fn simple(right: bool, wrong: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![wrong.to_owned()] }
}

fn uuid(text: &str) -> bool {
    let pattern = "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    crate::pattern::compiled(pattern).is_ok_and(|regex| regex.is_match(text))
}
