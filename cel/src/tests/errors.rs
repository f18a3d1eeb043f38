use super::{env, run};
use crate::{Env, Type};

/// What a text is refused with.
fn refused(text: &str) -> String {
    match env().compile(text) {
        Ok(program) => format!("accepted as {}", program.result_type()),
        Err(issues) => issues.to_string(),
    }
}

const BEGINNINGS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                          BYTES, IDENTIFIER}";

#[test]
fn syntax_errors_are_worded_and_placed_as_upstream() {
    let cases = [
        (
            "self +",
            format!(
                "ERROR: <input>:1:7: Syntax error: mismatched input '<EOF>' expecting {BEGINNINGS}\n | self +\n | ......^"
            ),
        ),
        (
            "self.spec.",
            "ERROR: <input>:1:11: Syntax error: no viable alternative at input '.'\n | self.spec.\n | ..........^"
                .into(),
        ),
        (
            "self.driver =",
            "ERROR: <input>:1:13: Syntax error: token recognition error at: '='\n | self.driver =\n | ............^"
                .into(),
        ),
        ("1 2", "ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>\n | 1 2\n | ..^".into()),
        ("(1", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^".into()),
        ("a.b(for)", "ERROR: <input>:1:5: reserved identifier: for\n | a.b(for)\n | ....^".into()),
        ("has(self)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^".into()),
        (
            "[1].all(a.b, true)",
            "ERROR: <input>:1:10: argument must be a simple name\n | [1].all(a.b, true)\n | .........^".into(),
        ),
        ("99999999999999999999", "ERROR: <input>:1:1: invalid int literal\n | 99999999999999999999\n | ^".into()),
    ];
    for (text, want) in cases {
        assert_eq!(refused(text), want);
    }
}

#[test]
fn type_errors_are_worded_and_placed_as_upstream() {
    let cases = [
        ("y == 1", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y == 1\n | ^"),
        ("f(1)", "ERROR: <input>:1:2: undeclared reference to 'f' (in container '')\n | f(1)\n | .^"),
        (
            "x + s",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | x + s\n | ..^",
        ),
        (
            "s.startsWith(1)",
            "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'string.(int)'\n | \
             s.startsWith(1)\n | ............^",
        ),
        (
            "x.all(i, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | x.all(i, true)\n | ^",
        ),
        ("x.y", "ERROR: <input>:1:2: type 'int' does not support field selection\n | x.y\n | .^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("s.matches('(')", "ERROR: <input>:1:11: invalid matches argument\n | s.matches('(')\n | ..........^"),
        ("duration('1x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('1x')\n | .........^"),
    ];
    for (text, want) in cases {
        assert_eq!(refused(text), want);
    }
}

#[test]
fn several_mistakes_come_in_the_order_of_the_text() {
    let shown = refused("y == 1 &&\n  z == 2");
    let want = "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y == 1 &&\n | ^\n\
                ERROR: <input>:2:3: undeclared reference to 'z' (in container '')\n |   z == 2\n | ..^";
    assert_eq!(shown, want);
}

#[test]
fn failures_are_worded_as_upstream() {
    let cases = [
        ("self.missing", "no such key: missing"),
        ("self['missing']", "no such key: missing"),
        ("[1][3]", "index out of bounds: 3"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("int('a')", "type conversion error from 'string' to 'int'"),
        ("self.spec + 1", "no such overload"),
        ("self.spec.replicas.startsWith('a')", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("false || 1 / 0 == 1", "division by zero"),
        ("[1, 0].map(i, 1 / i)", "division by zero"),
        ("{'a': 1, 'a': 2}", "Failed with repeated key: a"),
        ("[].min() == 1", "min called on empty list"),
        ("'abc'.substring(5)", "index out of range: 5"),
        ("self.spec.replicas && true", "no such overload"),
    ];
    for (text, want) in cases {
        assert_eq!(run(text), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn result_types_are_known() {
    let env = Env::kubernetes().extend().bind_macro().variable("m", Type::map(Type::String, Type::Int)).build();
    let cases = [
        ("1 + 1", "int"),
        ("m.a > 1", "bool"),
        ("m.map(k, m[k])", "list(int)"),
        ("m.?a", "optional_type(int)"),
        ("m[?'a'].orValue(3)", "int"),
        ("[]", "list(dyn)"),
        ("[[], [1]]", "list(list(int))"),
        ("m.transformMap(k, v, string(v))", "map(string, string)"),
        ("true ? 1 : 2", "int"),
        ("'a,b'.split(',')", "list(string)"),
        ("dyn(1)", "dyn"),
        ("cel.bind(a, 1, [a])", "list(int)"),
        ("type(1)", "type(int)"),
        ("timestamp('2020-01-01T00:00:00Z') - duration('1s')", "timestamp"),
    ];
    for (text, want) in cases {
        let program = env.compile(text).unwrap_or_else(|issues| panic!("{text}: {issues}"));
        assert_eq!(program.result_type().to_string(), want, "{text}");
    }
}

#[test]
fn what_kubernetes_does_not_offer_is_unknown() {
    for (text, unknown) in [
        ("cel.bind(a, 1, a == 1)", "undeclared reference to 'cel'"),
        ("math.greatest(1, 2) == 2", "undeclared reference to 'math'"),
        ("base64.encode(b'a') == 'YQ=='", "undeclared reference to 'base64'"),
        ("'ab'.reverse() == 'ba'", "found no matching overload for 'reverse' applied to 'string.()'"),
    ] {
        let issues = Env::kubernetes().compile(text).unwrap_err().to_string();
        assert!(issues.contains(unknown), "{text}: {issues}");
    }
}
