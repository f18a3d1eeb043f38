//! Quantities in expressions: `quantity('1Gi').isLessThan(quantity('2Gi'))`.

use std::cmp::Ordering;

use cel::{Error, Library, Opaque, Type, Value};

use crate::quantity::{Format, Quantity};

const NAME: &str = "kubernetes.Quantity";

#[derive(Debug)]
struct Amount(Quantity);

impl Opaque for Amount {
    fn type_name(&self) -> &str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>().is_some_and(|other| other.0 == self.0)
    }
}

type Outcome<'a> = Result<Value<'a>, Error>;

fn mismatch() -> Error {
    Error::new("no such overload")
}

fn amount(value: Option<&Value<'_>>) -> Result<Quantity, Error> {
    match value {
        Some(Value::Opaque(value)) => value.downcast::<Amount>().map(|amount| amount.0).ok_or_else(mismatch),
        Some(Value::Int(number)) => Ok(Quantity::new(*number, Format::DecimalSi)),
        _ => Err(mismatch()),
    }
}

fn one<'a>(args: &[Value<'a>], answer: impl Fn(Quantity) -> Outcome<'a>) -> Outcome<'a> {
    amount(args.first()).and_then(answer)
}

fn two<'a>(args: &[Value<'a>], answer: impl Fn(Quantity, Quantity) -> Value<'a>) -> Outcome<'a> {
    Ok(answer(amount(args.first())?, amount(args.get(1))?))
}

/// The whole number that the quantity is, if it is one of 64 bits.
fn integer(quantity: Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::new(value, Format::DecimalSi) == quantity).then_some(value)
}

/// `quantity`, `isQuantity` and what quantities can do.
pub(super) fn library() -> Library {
    let library = Library::new()
        .type_(NAME, Type::opaque(NAME))
        .function("string_to_quantity: quantity(string): kubernetes.Quantity", |args| match args {
            [Value::String(text)] => text
                .parse()
                .map(|quantity| Value::opaque(Amount(quantity)))
                .map_err(|err: crate::quantity::Error| Error::new(err.to_string())),
            _ => Err(mismatch()),
        })
        .function("is_quantity_string: isQuantity(string): bool", |args| match args {
            [Value::String(text)] => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
            _ => Err(mismatch()),
        })
        .function("quantity_sign: kubernetes.Quantity.sign(): int", |args| {
            one(args, |it| Ok(Value::Int(it.signum().into())))
        })
        .function("quantity_is_integer: kubernetes.Quantity.isInteger(): bool", |args| {
            one(args, |it| Ok(Value::Bool(integer(it).is_some())))
        })
        .function("quantity_get_int: kubernetes.Quantity.asInteger(): int", |args| {
            let refuse = || Error::new("cannot convert value to integer");
            one(args, |it| integer(it).map(Value::Int).ok_or_else(refuse))
        })
        .function("quantity_get_float: kubernetes.Quantity.asApproximateFloat(): double", |args| {
            one(args, |it| Ok(Value::Double(it.to_f64())))
        });
    comparisons(library)
        .function("quantity_add: kubernetes.Quantity.add(kubernetes.Quantity): kubernetes.Quantity", |args| {
            two(args, |one, two| Value::opaque(Amount(one + two)))
        })
        .function("quantity_add_int: kubernetes.Quantity.add(int): kubernetes.Quantity", |args| {
            two(args, |one, two| Value::opaque(Amount(one + two)))
        })
        .function("quantity_sub: kubernetes.Quantity.sub(kubernetes.Quantity): kubernetes.Quantity", |args| {
            two(args, |one, two| Value::opaque(Amount(one - two)))
        })
        .function("quantity_sub_int: kubernetes.Quantity.sub(int): kubernetes.Quantity", |args| {
            two(args, |one, two| Value::opaque(Amount(one - two)))
        })
}

fn comparisons(library: Library) -> Library {
    let order = |args: &[Value<'_>]| Ok::<Ordering, Error>(amount(args.first())?.cmp(&amount(args.get(1))?));
    library
        .function(
            "quantity_is_greater_than: kubernetes.Quantity.isGreaterThan(kubernetes.Quantity): bool",
            move |args| order(args).map(|order| Value::Bool(order == Ordering::Greater)),
        )
        .function("quantity_is_less_than: kubernetes.Quantity.isLessThan(kubernetes.Quantity): bool", move |args| {
            order(args).map(|order| Value::Bool(order == Ordering::Less))
        })
        .function("quantity_compare_to: kubernetes.Quantity.compareTo(kubernetes.Quantity): int", move |args| {
            order(args).map(|order| Value::Int(order as i64))
        })
}

#[cfg(test)]
mod tests {
    use cel::{Bindings, Limits, Value};

    use super::super::environment;

    #[test]
    fn quantities_count_and_compare() {
        for text in [
            "quantity('1Gi') == quantity('1024Mi')",
            "quantity('500m').isLessThan(quantity('1')) && quantity('1').isGreaterThan(quantity('-1'))",
            "quantity('1k').asInteger() == 1000 && !quantity('1.5').isInteger() && quantity('1.5').asApproximateFloat() == 1.5",
            "quantity('1').add(quantity('2')).compareTo(quantity('3')) == 0 && quantity('5').sub(2) == quantity('3')",
            "isQuantity('20Mi') && !isQuantity('20 Mi') && quantity('-3').sign() == -1",
        ] {
            let program = environment().compile(text).unwrap_or_else(|issues| panic!("{issues}"));
            let (value, _) = program.evaluate(&Bindings::new(), &Limits::cost(1000));
            assert_eq!(value, Ok(Value::Bool(true)), "{text}");
        }
    }
}
