//! Values by chance, of the shape that a schema asks for, or nearly.

use api::openapi::values_of;
use api::schema::{Presence, Scalar, SchemaRef, Type};
use serde_json::{Map, Value, json};

use super::random::Random;

/// How deep made values are.
const DEPTH: usize = 4;
const TEXTS: [&str; 12] = ["a", "b-c", "A_b", "", "10.0.0.1", "a.example.com", "a/b", "80", "true", "-x", "é", "x y"];
const QUANTITIES: [&str; 9] = ["1", "100m", "1Gi", "0.5", "1e3", "-1", "0", "1.5k", "x"];
const NUMBERS: [i64; 10] = [0, 1, 2, 5, -1, 80, 443, 65_536, 30, 2_147_483_648];

/// A change of an object: the value at a pointer is replaced, added or removed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) pointer: String,
    /// `None` removes.
    pub(super) value: Option<Value>,
}

/// Makes values of schemas.
pub(super) struct Values<'a> {
    pub(super) random: &'a mut Random,
}

impl Values<'_> {
    /// A change somewhere in `object`, which has the schema.
    pub(super) fn change(&mut self, object: &Value, schema: SchemaRef<'_>) -> Change {
        let roots: Vec<(&str, SchemaRef<'_>)> = schema
            .fields()
            .filter(|(name, _)| !matches!(*name, "apiVersion" | "kind" | "metadata" | "status"))
            .collect();
        if roots.is_empty() || self.random.chance(15) {
            return self.change_of_metadata();
        }
        self.below("", object, schema, &roots, 0)
    }

    /// A change of some field of the struct at a pointer, or of something below it.
    fn below(
        &mut self,
        pointer: &str,
        object: &Value,
        schema: SchemaRef<'_>,
        fields: &[(&str, SchemaRef<'_>)],
        depth: usize,
    ) -> Change {
        let there: Vec<&(&str, SchemaRef<'_>)> =
            fields.iter().filter(|(name, _)| object.get(*name).is_some()).collect();
        if !there.is_empty() && depth < 8 && self.random.chance(75) {
            let (name, field) = **self.random.pick(&there);
            let (mut pointer, mut inner, mut field) = (format!("{pointer}/{}", escaped(name)), &object[name], field);
            if let (Some(list), Some(items)) = (inner.as_array().filter(|list| !list.is_empty()), field.items()) {
                let at = self.random.below(list.len());
                (pointer, inner, field) = (format!("{pointer}/{at}"), &list[at], items);
            }
            let declared: Vec<(&str, SchemaRef<'_>)> = field.fields().collect();
            if inner.is_object() && !declared.is_empty() {
                return self.below(&pointer, inner, field, &declared, depth + 1);
            }
            return match self.random.below(6) {
                0 => Change { pointer, value: None },
                1 => Change { pointer, value: Some(self.odd()) },
                _ => Change { value: Some(self.of(field, owner(schema), name, 0)), pointer },
            };
        }
        let (name, field) = *self.random.pick(fields);
        let value = if self.random.chance(7) { self.odd() } else { self.of(field, owner(schema), name, 0) };
        Change { pointer: format!("{pointer}/{}", escaped(name)), value: Some(value) }
    }

    fn change_of_metadata(&mut self) -> Change {
        let (pointer, value) = match self.random.below(6) {
            0 => ("/metadata/labels/app", json!(self.random.pick(&TEXTS))),
            1 => ("/metadata/annotations/example.com~1a", json!(self.random.pick(&TEXTS))),
            2 => ("/metadata/finalizers", json!([])),
            3 => ("/metadata/labels", Value::Null),
            4 => ("/metadata/generation", json!(7)),
            _ => ("/metadata/annotations", json!({"a": "b", "c/d": "e"})),
        };
        Change { pointer: pointer.to_owned(), value: Some(value) }
    }

    /// A value of a type that hardly any field has.
    fn odd(&mut self) -> Value {
        self.random
            .pick(&[json!(null), json!(5), json!("text"), json!([1]), json!({"odd": 1}), json!(true), json!(1.5)])
            .clone()
    }

    /// A value of a field.
    fn of(&mut self, schema: SchemaRef<'_>, owner: &str, field: &str, depth: usize) -> Value {
        let node = schema.node();
        let listed = values_of(owner, field);
        if !listed.is_empty() && schema.items().is_none() && self.random.chance(85) {
            return self.random.pick(&listed).clone().into();
        }
        match (node.scalar, node.type_) {
            (Scalar::Quantity, _) => (*self.random.pick(&QUANTITIES)).into(),
            (Scalar::Time, _) => "2020-01-02T03:04:05Z".into(),
            (Scalar::MicroTime, _) => "2020-01-02T03:04:05.000006Z".into(),
            (Scalar::Bytes, _) => (*self.random.pick(&["YQ==", "", "%"])).into(),
            (_, Type::String) => (*self.random.pick(&TEXTS)).into(),
            (_, Type::Integer) => (*self.random.pick(&NUMBERS)).into(),
            (_, Type::Number) => json!(0.5),
            (_, Type::Boolean) => self.random.chance(50).into(),
            (_, Type::IntOrString) => {
                self.random.pick(&[json!(1), json!("50%"), json!("http"), json!(-1), json!(0)]).clone()
            }
            (_, Type::Any) => json!({"a": 1}),
            (_, Type::Array) => self.list(schema, owner, field, depth),
            (_, Type::Object) => self.object(schema, depth),
        }
    }

    fn list(&mut self, schema: SchemaRef<'_>, owner: &str, field: &str, depth: usize) -> Value {
        let Some(items) = schema.items() else { return json!([]) };
        let listed = values_of(owner, field);
        let count = if depth >= DEPTH { 0 } else { self.random.below(3) };
        let element = |values: &mut Self| match listed.is_empty() {
            true => values.of(items, "", "", depth + 1),
            false => values.random.pick(&listed).clone().into(),
        };
        (0..count).map(|_| element(self)).collect()
    }

    fn object(&mut self, schema: SchemaRef<'_>, depth: usize) -> Value {
        let mut object = Map::new();
        if let Some(values) = schema.values() {
            let key = (*self.random.pick(&["a", "cpu", "memory", "b/c", "bad key"])).to_owned();
            if self.random.chance(80) {
                object.insert(key, self.of(values, "", "", depth + 1));
            }
            return object.into();
        }
        for (name, field) in schema.fields() {
            let required = schema.node().required.iter().any(|required| required == name)
                || matches!(field.node().presence, Presence::Always);
            if (required && self.random.chance(90)) || (depth < DEPTH && self.random.chance(8)) {
                object.insert(name.to_owned(), self.of(field, owner(schema), name, depth + 1));
            }
        }
        object.into()
    }
}

fn owner<'a>(schema: SchemaRef<'a>) -> &'a str {
    schema.node().definition.as_deref().unwrap_or("")
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
