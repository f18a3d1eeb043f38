//! Finding parts of texts by patterns.

use crate::error::Error;
use crate::function::Library;
use crate::pattern::compiled;
use crate::value::{Text, Value};

pub(super) fn library() -> Library {
    Library::new()
        .function("string_find_string: string.find(string): string", |args| match args {
            [Value::String(text), Value::String(pattern)] => {
                let regex = compiled(pattern).map_err(Error::new)?;
                Ok(Value::text(regex.find(text).map_or("", |found| found.as_str())))
            }
            _ => Err(Error::no_overload()),
        })
        .function("string_find_all_string: string.findAll(string): list(string)", |args| match args {
            [Value::String(text), Value::String(pattern)] => all(text, pattern, -1),
            _ => Err(Error::no_overload()),
        })
        .function("string_find_all_string_int: string.findAll(string, int): list(string)", |args| match args {
            [Value::String(text), Value::String(pattern), Value::Int(most)] => all(text, pattern, *most),
            _ => Err(Error::no_overload()),
        })
}

fn all<'a>(text: &Text<'a>, pattern: &str, most: i64) -> Result<Value<'a>, Error> {
    let regex = compiled(pattern).map_err(Error::new)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(Value::list(regex.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect()))
}
