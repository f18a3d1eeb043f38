use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde_json::json;

use super::{env, object};
use crate::{Bindings, Decl, Env, Field, Kind, Limits, ListKind, Object, Type, Value};

fn list(items: Decl, most: u64) -> Decl {
    Decl { max_elements: most, ..Decl::of(Kind::List { items: Arc::new(items), kind: ListKind::Atomic }) }
}

fn text(most: u64) -> Decl {
    Decl { max_elements: most, ..Decl::of(Kind::String) }
}

fn most(text: &str, decl: Decl) -> u64 {
    let env = Env::kubernetes().extend().declared("self", Arc::new(decl)).build();
    env.compile(text).unwrap_or_else(|issues| panic!("{issues}")).cost_estimate().max
}

#[test]
fn estimates_follow_the_sizes_that_schemas_allow() {
    // A name costs 1, a look at a field 1, a round of a loop what it does.
    assert_eq!(most("self == 1", Decl::of(Kind::Int)), 1);
    assert_eq!(most("self.size() > 1", text(40)), 3);
    assert_eq!(most("self.startsWith('abcdefghijk')", text(40)), 1 + 2);
    assert_eq!(most("self.all(x, x > 1)", list(Decl::of(Kind::Int), 10)), 1 + 1 + 10 * (1 + 1 + 1 + 1 + 1));
    assert_eq!(most("self.contains('abcdefghijk')", text(40)), 1 + 4 * 2);
}

#[test]
fn what_has_no_bounds_costs_too_much() {
    let unbounded = Decl::of(Kind::List { items: Arc::new(Decl::of(Kind::String)), kind: ListKind::Atomic });
    assert!(most("self.all(x, self.exists(y, x == y))", unbounded.clone()) > 100 * 10_000_000);
    assert!(most("self.all(x, x.contains('a'))", unbounded) > 10_000_000);
    assert!(most("'' + string(self) == ''", Decl::of(Kind::Int)) > 100 * 10_000_000, "nobody knows how long it gets");
}

#[test]
fn objects_have_the_fields_that_are_declared() {
    let field = |name: &str, kind| (name.to_owned(), Field { name: name.to_owned(), decl: Arc::new(Decl::of(kind)) });
    let fields = [
        field("when", Kind::Timestamp),
        field("wait", Kind::Duration),
        field("raw", Kind::Bytes),
        field("any", Kind::IntOrString),
    ];
    let object = Object { name: "selfType".into(), fields: fields.into_iter().collect() };
    let decl = Decl::of(Kind::Object(Arc::new(object)));
    let env = Env::kubernetes().extend().declared("self", Arc::new(decl.clone())).build();
    let json = json!({"when": "2020-01-01T00:00:00Z", "wait": "90m", "raw": "aGk=", "any": 5, "other": 1});
    let check = |text: &str| {
        let program = env.compile(text).unwrap_or_else(|issues| panic!("{issues}"));
        let bindings = Bindings::new().with("self", Value::read(&json, &decl).expect("an object"));
        program.evaluate(&bindings, &Limits::cost(1000)).0
    };
    for text in [
        "self.when > timestamp('2019-01-01T00:00:00Z')",
        "self.wait == duration('1h30m')",
        "self.raw == b'hi'",
        "type(self.any) == int && self.any == 5",
    ] {
        assert_eq!(check(text), Ok(Value::Bool(true)), "{text}");
    }
    let issues = env.compile("self.other == 1").expect_err("an undeclared field").to_string();
    assert_eq!(issues, "ERROR: <input>:1:5: undefined field 'other'\n | self.other == 1\n | ....^");
}

#[test]
fn work_stops_at_its_limit() {
    let program = env().compile("[1, 2, 3, 4, 5].all(a, [1, 2, 3, 4, 5].all(b, a + b > 0))").expect("compiles");
    let (value, cost) = program.evaluate(&Bindings::new(), &Limits::cost(50));
    assert!(value.is_err_and(|error| error.is_cost_limit()));
    assert!(cost <= 60, "{cost}");
    let (value, cost) = program.evaluate(&Bindings::new(), &Limits::cost(10_000));
    assert_eq!(value, Ok(Value::Bool(true)));
    assert!(cost > 50, "{cost}");
}

#[test]
fn a_limit_cannot_be_hidden_by_or() {
    let program = env().compile("[1, 2, 3].all(a, a > 0) || true").expect("compiles");
    let (value, _) = program.evaluate(&Bindings::new(), &Limits::cost(12));
    assert!(value.is_err_and(|error| error.is_cost_limit()));
}

#[test]
fn loops_ask_whether_to_go_on() {
    let program = env().compile("lists.range(1000).all(i, i >= 0)").expect("compiles");
    let asked = AtomicU32::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let limits = Limits::cost(u64::MAX).interrupted_by(&stop);
    let (value, _) = program.evaluate(&Bindings::new(), &limits);
    assert!(value.is_err_and(|error| error.is_interrupt()));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[test]
fn depth_and_length_are_limited() {
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    let issues = env().compile(&deep).expect_err("too deep").to_string();
    assert_eq!(issues, "ERROR: <input>:-1:0: expression recursion limit exceeded: 250");
    let chain = vec!["1"; 1000].join(" + ");
    assert!(env().compile(&chain).is_err());
    let ands = vec!["true"; 5000].join(" && ");
    assert!(env().compile(&ands).is_ok(), "chains of && are balanced");
    let long = format!("'{}'", "a".repeat(100_001));
    assert!(env().compile(&long).is_err());
    let nested = format!("{}x > 0{}", "[1].all(x, ".repeat(60), ")".repeat(60));
    assert!(env().compile(&nested).is_ok());
}

#[test]
fn long_texts_are_checked_in_time_and_their_mistakes_shown_in_short() {
    let long = vec!["x < 1"; 10_000].join(" || ");
    assert!(env().compile(&long).is_ok());
    let wrong = vec!["y < 1"; 10_000].join(" || ");
    let issues = env().compile(&wrong).expect_err("undeclared").to_string();
    assert!(issues.len() < 300_000, "{}", issues.len());
}

#[test]
fn programs_tell_what_they_use() {
    let env = Env::kubernetes().extend().variable("variables", Type::Dyn).variable("oldSelf", Type::Dyn).build();
    let program = env.compile("variables.a > 1 && has(variables.b) && variables.?c.hasValue()").expect("compiles");
    let mut fields = program.fields_used("variables").expect("only fields");
    fields.sort_unstable();
    assert_eq!(fields, ["a", "b", "c"]);
    assert!(!program.uses("oldSelf"));
    assert_eq!(env.compile("size(variables) > 1").expect("compiles").fields_used("variables"), None);
}

/// Texts that look somewhat like expressions.
fn garbage() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("self"),
        Just("x"),
        Just("."),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just("?"),
        Just(":"),
        Just(","),
        Just("'a'"),
        Just("1"),
        Just("1.5"),
        Just("2u"),
        Just(" && "),
        Just(" || "),
        Just("!"),
        Just("-"),
        Just(" + "),
        Just(" * "),
        Just(" in "),
        Just("has("),
        Just(".all(i, "),
        Just(".map(i, "),
        Just(".filter(e, "),
        Just(".exists(k, v, "),
        Just("size("),
        Just("\""),
        Just("b'"),
        Just("\\"),
        Just("cel.bind(y, "),
        Just(".?"),
        Just("[?"),
        Just(" == "),
        Just("null"),
        Just("ä"),
        Just("\n"),
        Just("//"),
        Just(".spec"),
        Just(".ports"),
        Just(".sortBy(p, "),
        Just(".optMap(o, "),
        Just("optional.of("),
        Just(".replace('', 'aaaaaaaaaa')"),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = env().compile(&text);
    }

    #[test]
    fn whatever_compiles_ends_within_its_limit(text in garbage(), limit in 0u64..5000) {
        if let Ok(program) = env().compile(&text) {
            let object = object();
            let bindings = Bindings::new().with("self", Value::json(&object)).with("x", Value::Int(7)).with("s", Value::text("hello"));
            let (value, cost) = program.evaluate(&bindings, &Limits::cost(limit));
            prop_assert_eq!(cost > limit, value.is_err_and(|error| error.is_cost_limit()));
        }
    }
}
