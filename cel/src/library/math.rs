//! Arithmetic beyond operators.

use std::cmp::Ordering;

use crate::eval::Error;
use crate::function::Library;
use crate::value::{Value, compare};

type Outcome<'a> = Result<Value<'a>, Error>;

pub(super) fn library() -> Library {
    let mut library = extremes(Library::new());
    type Round = fn(f64) -> f64;
    let rounding: [(&str, Round); 4] =
        [("ceil", f64::ceil), ("floor", f64::floor), ("round", f64::round), ("trunc", f64::trunc)];
    for (name, round) in rounding {
        library =
            library.function(&format!("math_{name}_double: math.{name}(double): double"), move |args| match args {
                [Value::Double(it)] => Ok(Value::Double(round(*it))),
                _ => Err(Error::no_overload()),
            });
    }
    type Question = fn(f64) -> bool;
    let questions: [(&str, Question); 3] =
        [("isNaN", f64::is_nan), ("isInf", f64::is_infinite), ("isFinite", f64::is_finite)];
    for (name, question) in questions {
        library = library.function(&format!("math_{name}_double: math.{name}(double): bool"), move |args| match args {
            [Value::Double(it)] => Ok(Value::Bool(question(*it))),
            _ => Err(Error::no_overload()),
        });
    }
    for of in ["int", "uint", "double"] {
        library = library
            .function(&format!("math_abs_{of}: math.abs({of}): {of}"), abs)
            .function(&format!("math_sign_{of}: math.sign({of}): {of}"), sign)
            .function(&format!("math_sqrt_{of}: math.sqrt({of}): double"), sqrt);
    }
    bits(library)
}

/// `math.greatest` and `math.least` of up to five numbers, or of a list.
fn extremes(mut library: Library) -> Library {
    for (name, wanted) in [("greatest", Ordering::Greater), ("least", Ordering::Less)] {
        for of in ["int", "uint", "double"] {
            library = library.function(&format!("math_{name}_list_{of}: math.{name}(list({of})): {of}"), move |args| {
                match args {
                    [Value::List(list)] => extreme(&list.to_vec()?, wanted, name),
                    _ => Err(Error::no_overload()),
                }
            });
            for count in 1..=5 {
                let params = vec![of; count].join(", ");
                let signature = format!("math_{name}_{of}_{count}: math.{name}({params}): {of}");
                library = library.function(&signature, move |args| extreme(args, wanted, name));
            }
        }
        for count in 2..=5 {
            let params = vec!["dyn"; count].join(", ");
            let signature = format!("math_{name}_dyn_{count}: math.{name}({params}): dyn");
            library = library.function(&signature, move |args| extreme(args, wanted, name));
        }
    }
    library
}

fn extreme<'a>(values: &[Value<'a>], wanted: Ordering, name: &str) -> Outcome<'a> {
    let (first, rest) =
        values.split_first().ok_or_else(|| Error::new(format!("math.{name}() needs at least one number")))?;
    let mut best = first;
    for value in rest {
        if compare(value, best).ok_or_else(Error::no_overload)? == Some(wanted) {
            best = value;
        }
    }
    match best {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => Ok(best.clone()),
        _ => Err(Error::no_overload()),
    }
}

fn abs<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(it)] => it.checked_abs().map(Value::Int).ok_or_else(|| Error::new("integer overflow")),
        [Value::Uint(it)] => Ok(Value::Uint(*it)),
        [Value::Double(it)] => Ok(Value::Double(it.abs())),
        _ => Err(Error::no_overload()),
    }
}

fn sign<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(it)] => Ok(Value::Int(it.signum())),
        [Value::Uint(it)] => Ok(Value::Uint((*it).min(1))),
        [Value::Double(it)] if *it == 0.0 || it.is_nan() => Ok(Value::Double(*it)),
        [Value::Double(it)] => Ok(Value::Double(it.signum())),
        _ => Err(Error::no_overload()),
    }
}

fn sqrt<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(it)] => Ok(Value::Double((*it as f64).sqrt())),
        [Value::Uint(it)] => Ok(Value::Double((*it as f64).sqrt())),
        [Value::Double(it)] => Ok(Value::Double(it.sqrt())),
        _ => Err(Error::no_overload()),
    }
}

fn bits(mut library: Library) -> Library {
    type Binary = fn(u64, u64) -> u64;
    let binary: [(&str, Binary); 3] =
        [("bitAnd", |one, two| one & two), ("bitOr", |one, two| one | two), ("bitXor", |one, two| one ^ two)];
    for (name, change) in binary {
        for of in ["int", "uint"] {
            let signature = format!("math_{name}_{of}_{of}: math.{name}({of}, {of}): {of}");
            library = library.function(&signature, move |args| match args {
                [Value::Int(one), Value::Int(two)] => {
                    Ok(Value::Int(change(one.cast_unsigned(), two.cast_unsigned()).cast_signed()))
                }
                [Value::Uint(one), Value::Uint(two)] => Ok(Value::Uint(change(*one, *two))),
                _ => Err(Error::no_overload()),
            });
        }
    }
    for (name, left) in [("bitShiftLeft", true), ("bitShiftRight", false)] {
        for of in ["int", "uint"] {
            let signature = format!("math_{name}_{of}_int: math.{name}({of}, int): {of}");
            library = library.function(&signature, move |args| match args {
                [_, Value::Int(by)] if *by < 0 => Err(Error::new(format!("math.{name}() negative offset: {by}"))),
                [Value::Int(it), Value::Int(by)] => Ok(Value::Int(shift(it.cast_unsigned(), *by, left).cast_signed())),
                [Value::Uint(it), Value::Int(by)] => Ok(Value::Uint(shift(*it, *by, left))),
                _ => Err(Error::no_overload()),
            });
        }
    }
    for of in ["int", "uint"] {
        library = library.function(&format!("math_bitNot_{of}_{of}: math.bitNot({of}): {of}"), |args| match args {
            [Value::Int(it)] => Ok(Value::Int(!it)),
            [Value::Uint(it)] => Ok(Value::Uint(!it)),
            _ => Err(Error::no_overload()),
        });
    }
    library
}

fn shift(bits: u64, by: i64, left: bool) -> u64 {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    let shifted = if left { bits.checked_shl(by) } else { bits.checked_shr(by) };
    shifted.unwrap_or(0)
}
