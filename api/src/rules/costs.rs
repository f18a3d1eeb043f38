//! Estimates of upstream's own tests: they decide which definitions are accepted, so they must agree to the digit.

use std::sync::Arc;

use serde_json::{Value, json};

use super::declare::declare;
use super::rule::Rule;

fn cost(mut schema: Value, rule: &str) -> u64 {
    schema["x-kubernetes-validations"] = json!([{"rule": rule}]);
    let written = schema.as_object().expect("a schema");
    let decl = Arc::new(declare(written, false, "selfType").expect("a declaration"));
    let rule = Rule::all(written).next().expect("a rule");
    match Rule::compile(rule, written, &decl).program {
        Some(Ok(program)) => program.cost_estimate().max,
        other => panic!("{schema}: {other:?}"),
    }
}

fn of(kind: &str) -> Value {
    match kind {
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        "duration" | "date" | "date-time" | "byte" => json!({"type": "string", "format": kind}),
        kind => json!({"type": kind}),
    }
}

fn limited(mut schema: Value, limit: &str, most: Option<u64>) -> Value {
    if let Some(most) = most {
        schema[limit] = most.into();
    }
    schema
}

fn array(items: Value, most: Option<u64>) -> Value {
    limited(json!({"type": "array", "items": items}), "maxItems", most)
}

fn map(values: Value, most: Option<u64>) -> Value {
    limited(json!({"type": "object", "additionalProperties": values}), "maxProperties", most)
}

fn string(most: Option<u64>) -> Value {
    limited(of("string"), "maxLength", most)
}

#[test]
fn loops_cost_by_how_many_elements_fit_into_a_request() {
    let all = "self.all(x, true)";
    let arrays = [
        ("number", 4_718_591, 10, 32),
        ("string", 3_145_727, 20, 62),
        ("boolean", 1_887_437, 5, 17),
        ("int-or-string", 4_718_591, 10, 32),
        ("duration", 2_359_295, 5, 17),
        ("date", 725_936, 15, 47),
        ("date-time", 428_963, 25, 77),
    ];
    for (kind, unlimited, most, with_limit) in arrays {
        assert_eq!(cost(array(of(kind), None), all), unlimited, "{kind}");
        assert_eq!(cost(array(of(kind), Some(most)), all), with_limit, "{kind}");
    }
    let maps = [
        ("number", 1_348_169, 10, 32),
        ("string", 1_179_647, 3, 11),
        ("boolean", 943_718, 100, 302),
        ("int-or-string", 1_348_169, 15, 47),
        ("duration", 1_048_577, 5, 17),
        ("date", 524_288, 10, 32),
        ("date-time", 349_526, 25, 77),
    ];
    for (kind, unlimited, most, with_limit) in maps {
        assert_eq!(cost(map(of(kind), None), all), unlimited, "{kind}");
        assert_eq!(cost(map(of(kind), Some(most)), all), with_limit, "{kind}");
    }
    assert_eq!(cost(array(array(of("number"), None), None), all), 3_145_727);
    assert_eq!(cost(map(map(of("number"), None), None), all), 1_179_647);
    assert_eq!(cost(array(of("number"), None), "self.all(x, x == 0.0)"), 6_291_454);
    assert_eq!(cost(array(of("number"), Some(3 * 1024 * 2048)), "self.all(x, x == 0.0)"), 25_165_826);
    assert_eq!(cost(array(of("number"), Some(10)), "self.all(x, self.all(y, true))"), 352);
    assert_eq!(cost(array(of("number"), Some(10)), "self.all(x, self.all(y, self.all(z, true)))"), 3552);
    let of_maps = |most| array(map(of("number"), most), most);
    assert_eq!(cost(of_maps(None), "self.all(x, x.y == 25.2)"), 6_291_452);
    assert_eq!(cost(of_maps(Some(12)), "self.all(x, x.y == 25.2)"), 74);
}

#[test]
fn texts_cost_by_their_length() {
    let cases = [
        ("self.contains('test')", 314_574, 10, 5),
        ("self.startsWith('test')", 2, 15, 2),
        ("self.endsWith('test')", 2, 30, 2),
        (r#"size(self + "hello") > size("hello")"#, 314_578, 4, 7),
        (r#"self.matches("x")"#, 314_574, 50, 22),
        (r#""".matches("(((((((((())))))))))[0-9]")"#, 7, 10, 7),
        (r#"self.matches("")"#, 1, 100, 1),
        ("self == 'x'", 2, 0, 1),
        ("self.find('[0-9]+') == ''", 629_147, 10, 11),
        ("self.lowerAscii() == 'lower!'", 314_575, 10, 6),
    ];
    for (rule, unlimited, most, with_limit) in cases {
        assert_eq!(cost(string(None), rule), unlimited, "{rule}");
        assert_eq!(cost(string(Some(most)), rule), with_limit, "{rule}");
    }
    let word = |most| limited(json!({"type": "string", "enum": ["A", "B", "C", "LongValue"]}), "maxLength", most);
    assert_eq!(cost(word(None), "self.contains('A')"), 2);
    assert_eq!(cost(word(Some(1000)), "self.contains('A')"), 401);
    assert_eq!(cost(limited(of("byte"), "maxLength", Some(0)), "self == b'x'"), 1);
}

#[test]
fn elements_have_the_sizes_of_their_own_schema() {
    let cases = [
        (array(of("number"), None), "self[1] == 0.0", 2),
        (array(of("string"), Some(8)), "self[1] == self[1]", 314_577),
        (array(of("int-or-string"), None), "self[0] == 5", 3),
        (array(of("boolean"), None), "self[0] == false", 2),
        (array(array(of("number"), None), None), "self[0][0] == -1.0", 3),
        (array(map(of("number"), None), None), "self[0].x > 2.0", 4),
        (array(of("duration"), None), "self[0].getHours() == 2", 4),
        (array(of("date"), None), "self[2].getDayOfMonth() == 13", 4),
        (map(of("number"), Some(0)), r#"self["x"] == 0.0"#, 2),
        (map(of("integer"), None), "oldSelf.size() == self.size()", 5),
        (map(of("date-time"), None), r#"self["a"] == self["b"]"#, 8),
        (map(of("duration"), None), r#"self["c"] == self["d"]"#, 8),
    ];
    for (schema, rule, want) in cases {
        assert_eq!(cost(schema.clone(), rule), want, "{rule}: {schema}");
    }
}

#[test]
fn what_functions_make_has_a_size_too() {
    let strings = |most| array(string(most), most);
    assert_eq!(cost(strings(None), "self.join(' ') == 'aa bb'"), 329_853_068_905);
    assert_eq!(cost(strings(Some(10)), "self.join(' ') == 'aa bb'"), 43);
    assert_eq!(cost(strings(None), "self.isSorted() == true"), 329_854_432_052);
    assert_eq!(cost(strings(Some(10)), "self.isSorted() == true"), 52);
    let fields = |most| {
        json!({"type": "object", "properties": {
            "str": string(most), "before": string(Some(2)), "after": string(Some(4)), "separator": string(most),
        }})
    };
    let replace = "self.str.replace(self.before, self.after) == 'does not matter'";
    assert_eq!(cost(fields(None), replace), 629_154);
    assert_eq!(cost(fields(Some(4)), replace), 12);
    assert_eq!(cost(fields(None), "self.str.split(self.separator) == []"), 629_160);
    assert_eq!(cost(fields(Some(10)), "self.str.split(self.separator) == []"), 22);
}

#[test]
fn keys_and_what_is_made_on_the_way_cost_as_upstream_counts_them() {
    // Gateway API, Istio and Karpenter have rules of these shapes.
    let labels = map(string(Some(63)), Some(8));
    assert!(cost(labels, "self.all(k, k.matches('^[a-z]+(/[a-z]+)?$'))") < 1000);
    let addresses = json!({"type": "object", "properties": {"addresses": array(string(Some(64)), Some(256))}});
    let rule = "(has(self.addresses) ? self.addresses : []).exists(k, k.contains('/'))";
    assert!(cost(addresses, rule) < 10_000);
    let pool = json!({"type": "object", "properties": {"cidr": string(Some(48))}});
    assert!(cost(pool, "cidr(self.cidr) == cidr(self.cidr).masked()") < 100);
}

#[test]
fn words_of_the_language_are_fields_too() {
    let schema = json!({"type": "object", "properties": {"namespace": string(Some(8)), "for": of("integer")}});
    assert!(cost(schema.clone(), "has(self.namespace) && self.namespace == 'a'") > 0);
    assert!(cost(schema, "self.__namespace__ == 'a' || self.for == 1") > 0);
}
