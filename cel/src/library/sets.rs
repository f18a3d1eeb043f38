//! Lists as sets.

use crate::error::Error;
use crate::function::Library;
use crate::value::{Value, equal};

pub(super) fn library() -> Library {
    Library::new()
        .function("list_sets_contains_list: sets.contains(list(A), list(A)): bool", |args| {
            over(args, |one, two| every(two, one))
        })
        .function("list_sets_equivalent_list: sets.equivalent(list(A), list(A)): bool", |args| {
            over(args, |one, two| Ok(every(one, two)? && every(two, one)?))
        })
        .function("list_sets_intersects_list: sets.intersects(list(A), list(A)): bool", |args| {
            over(args, |one, two| {
                for item in one {
                    if among(item, two)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            })
        })
}

fn over<'a>(
    args: &[Value<'a>],
    question: impl Fn(&[Value<'a>], &[Value<'a>]) -> Result<bool, Error>,
) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(one), Value::List(two)] => question(&one.to_vec()?, &two.to_vec()?).map(Value::Bool),
        _ => Err(Error::no_overload()),
    }
}

fn among(item: &Value<'_>, list: &[Value<'_>]) -> Result<bool, Error> {
    for other in list {
        if equal(item, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether each of `items` is in `list`.
fn every(items: &[Value<'_>], list: &[Value<'_>]) -> Result<bool, Error> {
    for item in items {
        if !among(item, list)? {
            return Ok(false);
        }
    }
    Ok(true)
}
