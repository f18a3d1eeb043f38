//! Named formats of texts: `format.dns1123Label().validate(name)`.

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::{Opaque, Text, Value};
use crate::{base64, time};

const NAME: &str = "kubernetes.NamedFormat";

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Tells what is wrong with a text.
type Check = fn(&str) -> Vec<String>;

/// The formats by name, with the length of the pattern that the reference has for it (about, for the last ones): a check
/// costs by it.
const FORMATS: [(&str, u64, Check); 14] = [
    ("dns1123Label", 30, |text| label(text, false)),
    ("dns1123Subdomain", 60, |text| subdomain(text, false)),
    ("dns1035Label", 30, |text| label_1035(text, false)),
    ("qualifiedName", 60, qualified_name),
    ("dns1123LabelPrefix", 30, |text| label(text, true)),
    ("dns1123SubdomainPrefix", 60, |text| subdomain(text, true)),
    ("dns1035LabelPrefix", 30, |text| label_1035(text, true)),
    ("labelValue", 40, label_value),
    ("uri", 400, |text| simple(super::url::is_url(text), "invalid URI")),
    ("uuid", 100, |text| simple(uuid(text), "does not match the UUID format")),
    ("byte", 70, |text| simple(base64::decode(text).is_some(), "invalid base64")),
    ("date", 100, |text| simple(time::parse_date(text).is_some(), "invalid date")),
    ("datetime", 100, |text| simple(time::parse_timestamp(text).is_some(), "invalid datetime")),
    ("duration", 100, |text| simple(time::parse_duration(text).is_some(), "invalid duration")),
];

/// A format.
#[derive(Debug)]
struct Format {
    name: &'static str,
    pattern_size: u64,
    check: Check,
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

pub(super) fn library() -> Library {
    let mut library = Library::new().type_(NAME, Type::opaque(NAME));
    for (name, pattern_size, check) in FORMATS {
        library = library.function(&format!("format_{name}: format.{name}(): kubernetes.NamedFormat"), move |_| {
            Ok(Value::opaque(Format { name, pattern_size, check }))
        });
    }
    library
        .function("format-named: format.named(string): optional(kubernetes.NamedFormat)", |args| match args {
            [Value::String(wanted)] => {
                let found = FORMATS.into_iter().find(|(name, ..)| *name == &**wanted);
                Ok(Value::Optional(
                    found.map(|(name, pattern_size, check)| {
                        Box::new(Value::opaque(Format { name, pattern_size, check }))
                    }),
                ))
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

fn whole(text: &str, pattern: &str) -> bool {
    crate::pattern::compiled(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text))
}

fn too_long(text: &str, most: usize, out: &mut Vec<String>) {
    if text.len() > most {
        out.push(format!("must be no more than {most} bytes"));
    }
}

/// A prefix may end with a dash: characters are added to it.
fn unmasked(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(rest) if prefix => format!("{rest}a"),
        _ => text.to_owned(),
    }
}

fn label(text: &str, prefix: bool) -> Vec<String> {
    let text = unmasked(text, prefix);
    let mut out = Vec::new();
    too_long(&text, 63, &mut out);
    if !whole(&text, LABEL) {
        let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                    and end with an alphanumeric character";
        out.push(with_pattern(rule, &["my-name", "123-abc"], LABEL));
    }
    out
}

fn subdomain(text: &str, prefix: bool) -> Vec<String> {
    let text = unmasked(text, prefix);
    let pattern = format!(r"{LABEL}(\.{LABEL})*");
    let mut out = Vec::new();
    too_long(&text, 253, &mut out);
    if !whole(&text, &pattern) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                    must start and end with an alphanumeric character";
        out.push(with_pattern(rule, &["example.com"], &pattern));
    }
    out
}

fn label_1035(text: &str, prefix: bool) -> Vec<String> {
    let text = unmasked(text, prefix);
    let mut out = Vec::new();
    too_long(&text, 63, &mut out);
    if !whole(&text, LABEL_1035) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                    character, and end with an alphanumeric character";
        out.push(with_pattern(rule, &["my-name", "abc-123"], LABEL_1035));
    }
    out
}

fn with_pattern(rule: &str, examples: &[&str], pattern: &str) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

fn qualified_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(subdomain(prefix, false).into_iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        Some(_) => {
            return vec![with_pattern(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                 an alphanumeric character",
                &["MyName", "my.name", "123-abc"],
                QUALIFIED,
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push("name part must be no more than 63 bytes".to_owned());
    }
    if !whole(name, QUALIFIED) {
        let rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                    alphanumeric character";
        out.push(with_pattern(rule, &["MyName", "my.name", "123-abc"], QUALIFIED));
    }
    out
}

fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    too_long(text, 63, &mut out);
    if !text.is_empty() && !whole(text, QUALIFIED) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                    must start and end with an alphanumeric character";
        out.push(with_pattern(rule, &["MyValue", "my_value", "12345"], &format!("({QUALIFIED})?")));
    }
    out
}

fn uuid(text: &str) -> bool {
    whole(text, "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
}
