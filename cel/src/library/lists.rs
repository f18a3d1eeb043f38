//! Lists: what Kubernetes adds, and what the common extension of the language adds.

use std::cmp::Ordering;

use crate::error::{Error, check_size};
use crate::function::Library;
use crate::value::{List, Value, compare, equal};

type Outcome<'a> = Result<Value<'a>, Error>;

const COMPARABLE: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];

/// `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`.
pub(super) fn library() -> Library {
    let mut library = Library::new();
    for of in COMPARABLE {
        library = library
            .function(&format!("list_{of}_is_sorted_bool: list({of}).isSorted(): bool"), is_sorted)
            .function(&format!("list_{of}_min_{of}: list({of}).min(): {of}"), |args| {
                extreme(args, Ordering::Less, "min")
            })
            .function(&format!("list_{of}_max_{of}: list({of}).max(): {of}"), |args| {
                extreme(args, Ordering::Greater, "max")
            });
    }
    let zeros = [
        ("int", Value::Int(0)),
        ("uint", Value::Uint(0)),
        ("double", Value::Double(0.0)),
        ("duration", Value::Duration(0)),
    ];
    for (of, zero) in zeros {
        library = library
            .function(&format!("list_{of}_sum_{of}: list({of}).sum(): {of}"), move |args| sum(args, zero.clone()));
    }
    library
        .function("list_a_index_of_int: list(A).indexOf(A): int", |args| index_of(args, false))
        .function("list_a_last_index_of_int: list(A).lastIndexOf(A): int", |args| index_of(args, true))
}

/// `slice`, `flatten`, `sort`, `sortBy`, `distinct`, `range`, `reverse`, `first`, `last`.
pub(super) fn extended() -> Library {
    let mut library = Library::new();
    for of in COMPARABLE {
        library = library
            .function(&format!("list_{of}_sort: list({of}).sort(): list({of})"), |args| match args {
                [Value::List(list)] => sorted(list.to_vec()?, list.to_vec()?),
                _ => Err(Error::no_overload()),
            })
            .function(
                &format!("list_{of}_sortByAssociatedKeys: list(A).@sortByAssociatedKeys(list({of})): list(A)"),
                |args| match args {
                    [Value::List(list), Value::List(keys)] => sorted(list.to_vec()?, keys.to_vec()?),
                    _ => Err(Error::no_overload()),
                },
            );
    }
    library
        .function("list_slice: list(A).slice(int, int): list(A)", slice)
        .function("list_flatten: list(list(A)).flatten(): list(A)", |args| flatten(args, 1))
        .function("list_flatten_int: list(dyn).flatten(int): list(dyn)", |args| match args {
            [list, Value::Int(depth)] if *depth >= 0 => flatten(std::slice::from_ref(list), *depth),
            [_, Value::Int(_)] => Err(Error::new("level must be non-negative")),
            _ => Err(Error::no_overload()),
        })
        .function("list_distinct: list(A).distinct(): list(A)", distinct)
        .function("list_reverse: list(A).reverse(): list(A)", |args| match args {
            [Value::List(list)] => Ok(Value::list(list.to_vec()?.into_iter().rev().collect())),
            _ => Err(Error::no_overload()),
        })
        .function("lists_range: lists.range(int): list(int)", range)
        .function("list_first: list(A).first(): optional(A)", |args| end(args, false))
        .function("list_last: list(A).last(): optional(A)", |args| end(args, true))
}

fn order(one: &Value<'_>, two: &Value<'_>) -> Result<Option<Ordering>, Error> {
    compare(one, two).ok_or_else(Error::no_overload)
}

fn list_of<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, Error> {
    match args {
        [Value::List(list), ..] => Ok(list),
        _ => Err(Error::no_overload()),
    }
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let items = list_of(args)?.to_vec()?;
    for pair in items.windows(2) {
        if order(&pair[0], &pair[1])? == Some(Ordering::Greater) {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering, name: &str) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list_of(args)?.iter() {
        let item = item?;
        let better = match &best {
            None => true,
            Some(best) => order(&item, best)? == Some(wanted),
        };
        if better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Outcome<'a> {
    let overflow = |what: &str| Error::new(format!("{what} overflow"));
    list_of(args)?.iter().try_fold(zero, |sum, item| match (sum, item?) {
        (Value::Int(one), Value::Int(two)) => one.checked_add(two).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_add(two).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one + two)),
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_add(two).map(Value::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(Error::no_overload()),
    })
}

fn index_of<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let [Value::List(list), wanted] = args else { return Err(Error::no_overload()) };
    let mut found = -1;
    for (at, item) in list.iter().enumerate() {
        if equal(&item?, wanted)? {
            found = i64::try_from(at).unwrap_or(i64::MAX);
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn sorted<'a>(items: Vec<Value<'a>>, keys: Vec<Value<'a>>) -> Outcome<'a> {
    if items.len() != keys.len() {
        return Err(Error::new("lists of keys and elements must have the same length"));
    }
    for pair in keys.windows(2) {
        order(&pair[0], &pair[1])?;
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(items).collect();
    pairs.sort_by(|one, two| compare(&one.0, &two.0).flatten().unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn slice<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return Err(Error::no_overload()) };
    if start > end {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    match (usize::try_from(*start), usize::try_from(*end)) {
        (Ok(from), Ok(to)) if to <= list.len() => {
            (from..to).filter_map(|at| list.get(at)).collect::<Result<_, _>>().map(Value::list)
        }
        (Ok(_), Ok(_)) => Err(Error::new(format!("cannot slice({start}, {end}), list is length {}", list.len()))),
        _ => Err(Error::new(format!("cannot slice({start}, {end}), negative indexes not supported"))),
    }
}

fn flatten<'a>(args: &[Value<'a>], depth: i64) -> Outcome<'a> {
    fn into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Result<(), Error> {
        for item in list.iter() {
            match item? {
                Value::List(inner) if depth > 0 => into(&inner, depth - 1, out)?,
                other => out.push(other),
            }
        }
        check_size(out.len())
    }
    let mut out = Vec::new();
    into(list_of(args)?, depth, &mut out)?;
    Ok(Value::list(out))
}

fn distinct<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut out: Vec<Value<'a>> = Vec::new();
    for item in list_of(args)?.iter() {
        let item = item?;
        if !out.contains(&item) {
            out.push(item);
        }
    }
    Ok(Value::list(out))
}

fn range<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(count)] if (0..=1_000_000).contains(count) => {
            Ok(Value::list((0..*count).map(Value::Int).collect()))
        }
        [Value::Int(_)] => Err(Error::new("lists.range() is out of range")),
        _ => Err(Error::no_overload()),
    }
}

fn end<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let list = list_of(args)?;
    let at = if last { list.len().wrapping_sub(1) } else { 0 };
    Ok(Value::Optional(list.get(at).transpose()?.map(Box::new)))
}
