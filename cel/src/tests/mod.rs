//! Expressions and what they say.

mod errors;
mod expressions;
mod limits;
mod practice;

use serde_json::json;

use super::*;

/// The language with formats of a host, which are one here: no capital letters and no underscores.
fn with_formats() -> EnvBuilder {
    let format = |name| Format {
        name,
        pattern_size: 30,
        check: |text| {
            let wrong = text.contains(|letter: char| letter.is_uppercase() || " _".contains(letter));
            if wrong { vec!["wrong".to_owned()] } else { Vec::new() }
        },
    };
    Env::kubernetes().extend().library(formats(&["dns1123Label", "dns1123Subdomain", "labelValue"].map(format)))
}

/// What most tests work with.
fn env() -> Env {
    let env = with_formats().bind_macro();
    env.variable("self", Type::Dyn).variable("x", Type::Int).variable("s", Type::String).build()
}

fn object() -> serde_json::Value {
    json!({
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}, "annotations": null},
        "spec": {
            "replicas": 3,
            "ratio": 0.5,
            "paused": false,
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
            "hosts": ["a.example.com", "b.example.com"],
            "empty": [],
        },
    })
}

/// Works an expression out, with `self` an object of JSON, `x` 7 and `s` "hello".
fn run(text: &str) -> Result<String, String> {
    let program = env().compile(text).map_err(|issues| issues.to_string())?;
    let object = object();
    let bindings =
        Bindings::new().with("self", Value::json(&object)).with("x", Value::Int(7)).with("s", Value::text("hello"));
    let (value, _) = program.evaluate(&bindings, &Limits::cost(10_000_000));
    value.map(|value| show(&value)).map_err(|error| error.to_string())
}

/// A value as `format` shows it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        Value::Opaque(value) => value.type_name().to_owned(),
        value => {
            let program = Env::kubernetes().extend().variable("v", Type::Dyn).build().compile("'%s'.format([v])");
            let bindings = Bindings::new().with("v", value.clone());
            let (shown, _) = program.expect("compiles").evaluate(&bindings, &Limits::cost(u64::MAX));
            shown.expect("every such value can be shown").as_str().unwrap_or_default().to_owned()
        }
    }
}
