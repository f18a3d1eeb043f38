//! What texts can do beyond the standard. Positions count characters.

mod printf;

use crate::error::{Error, check_size};
use crate::function::Library;
use crate::value::{List, Value};

type Outcome<'a> = Result<Value<'a>, Error>;

pub(super) fn library() -> Library {
    let library = Library::new()
        .function("string_char_at_int: string.charAt(int): string", char_at)
        .function("string_index_of_string: string.indexOf(string): int", index_of)
        .function("string_index_of_string_int: string.indexOf(string, int): int", index_of)
        .function("string_last_index_of_string: string.lastIndexOf(string): int", last_index_of)
        .function("string_last_index_of_string_int: string.lastIndexOf(string, int): int", last_index_of)
        .function("string_lower_ascii: string.lowerAscii(): string", |args| map(args, |text| text.to_ascii_lowercase()))
        .function("string_upper_ascii: string.upperAscii(): string", |args| map(args, |text| text.to_ascii_uppercase()))
        .function("string_trim: string.trim(): string", |args| map(args, |text| text.trim().to_owned()))
        .function("strings_quote: strings.quote(string): string", |args| map(args, quote))
        .function("string_replace_string_string: string.replace(string, string): string", replace)
        .function("string_replace_string_string_int: string.replace(string, string, int): string", replace)
        .function("string_split_string: string.split(string): list(string)", split)
        .function("string_split_string_int: string.split(string, int): list(string)", split)
        .function("string_substring_int: string.substring(int): string", substring)
        .function("string_substring_int_int: string.substring(int, int): string", substring)
        .function("list_join: list(string).join(): string", join)
        .function("list_join_string: list(string).join(string): string", join);
    library.function("string_format: string.format(list(dyn)): string", |args| match args {
        [Value::String(pattern), Value::List(values)] => printf::format(pattern, &values.to_vec()?).map(Value::text),
        _ => Err(Error::no_overload()),
    })
}

fn map<'a>(args: &[Value<'a>], change: impl Fn(&str) -> String) -> Outcome<'a> {
    match args {
        [Value::String(text)] => Ok(Value::text(change(text))),
        _ => Err(Error::no_overload()),
    }
}

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

/// The byte at which the character at `index` begins; the end counts too.
fn byte_at(text: &str, index: i64) -> Result<usize, Error> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(wanted).ok_or_else(|| out_of_range(index))
}

fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::Int(index)] = args else { return Err(Error::no_overload()) };
    let at = byte_at(text, *index)?;
    Ok(Value::text(text[at..].chars().next().map_or_else(String::new, String::from)))
}

fn index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, wanted, from) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, 0),
        [Value::String(text), Value::String(wanted), Value::Int(from)] => (text, wanted, *from),
        _ => return Err(Error::no_overload()),
    };
    let start = byte_at(text, from)?;
    Ok(Value::Int(text[start..].find(&**wanted).map_or(-1, |at| count(&text[..start + at]))))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::String(wanted)] => {
            Ok(Value::Int(text.rfind(&**wanted).map_or(-1, |at| count(&text[..at]))))
        }
        [Value::String(text), Value::String(wanted), Value::Int(from)] => {
            let start = byte_at(text, *from)?;
            let mut end = (start + wanted.len()).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            Ok(Value::Int(text[..end].rfind(&**wanted).map_or(-1, |at| count(&text[..at]))))
        }
        _ => Err(Error::no_overload()),
    }
}

fn replace<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, from, to, most) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(most)] => (text, from, to, *most),
        _ => return Err(Error::no_overload()),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let times = text.matches(&**from).count().min(most);
    check_size(times.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(Value::text(text.replacen(&**from, to, most)))
}

fn split<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, by, most) = match args {
        [Value::String(text), Value::String(by)] => (text, by, -1),
        [Value::String(text), Value::String(by), Value::Int(most)] => (text, by, *most),
        _ => return Err(Error::no_overload()),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    if by.is_empty() {
        // By nothing: into characters, the last part takes the rest.
        let mut parts = Vec::new();
        let mut rest: &str = text;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == most {
                break;
            }
            parts.push(Value::text(c));
            rest = &rest[c.len_utf8()..];
        }
        if !rest.is_empty() {
            parts.push(Value::text(rest));
        }
        return Ok(Value::list(parts));
    }
    Ok(Value::list(text.splitn(most, &**by).map(Value::text).collect()))
}

fn substring<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::Int(start)] => Ok(Value::text(&text[byte_at(text, *start)?..])),
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            if start > end {
                return Err(Error::new(format!("invalid substring range. start: {start}, end: {end}")));
            }
            Ok(Value::text(&text[byte_at(text, *start)?..byte_at(text, *end)?]))
        }
        _ => Err(Error::no_overload()),
    }
}

fn join<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (list, by): (&List<'a>, &str) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(by)] => (list, by),
        _ => return Err(Error::no_overload()),
    };
    let mut out = String::new();
    for (at, item) in list.iter().enumerate() {
        let Value::String(item) = item? else { return Err(Error::no_overload()) };
        if at > 0 {
            out.push_str(by);
        }
        out.push_str(&item);
        check_size(out.len())?;
    }
    Ok(Value::text(out))
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
