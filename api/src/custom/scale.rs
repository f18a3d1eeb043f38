//! Where `/scale` of a custom resource finds its values, and the rules for these.

use serde_json::Value;

use crate::field::{FieldError, Path};
use crate::object::Object;
use crate::patch::go_format;

/// `subresources.scale` of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: FieldPath,
    pub status_replicas: FieldPath,
    pub label_selector: Option<FieldPath>,
}

/// A path of plain fields, as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    text: String,
    fields: Vec<String>,
}

impl FieldPath {
    /// Reads `.spec.replicas`.
    pub fn new(text: &str) -> Self {
        let fields = text.trim_start_matches('.').split('.').map(str::to_owned).collect();
        Self { text: text.to_owned(), fields }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names on the way.
    pub fn fields(&self) -> Vec<&str> {
        self.fields.iter().map(String::as_str).collect()
    }

    /// The value; an error when something on the way is no object.
    fn find<'o>(&self, object: &'o Object) -> Result<Option<&'o Value>, String> {
        let mut at: Option<&Value> = None;
        for (depth, name) in self.fields.iter().enumerate() {
            let fields = match at {
                None => object.root(),
                Some(Value::Object(fields)) => fields,
                Some(other) => {
                    let shown = self.fields[..depth].join(".");
                    let (value, found) = (go_format(other), go_type(other));
                    return Err(format!(
                        ".{shown} accessor error: {value} is of the type {found}, expected map[string]interface{{}}"
                    ));
                }
            };
            match fields.get(name) {
                Some(next) => at = Some(next),
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    fn wrong(&self, value: &Value, wanted: &str) -> String {
        let path = self.fields.join(".");
        format!(".{path} accessor error: {} is of the type {}, expected {wanted}", go_format(value), go_type(value))
    }

    /// The integer there.
    pub fn integer(&self, object: &Object) -> Result<Option<i64>, String> {
        let Some(value) = self.find(object)? else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.wrong(value, "int64"))
    }

    /// The text there.
    pub fn string<'o>(&self, object: &'o Object) -> Result<Option<&'o str>, String> {
        let Some(value) = self.find(object)? else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(value, "string"))
    }
}

impl Scale {
    /// The rules for what a client says.
    pub(super) fn validate_spec(&self, object: &Object) -> Option<FieldError> {
        self.replicas(&self.spec_replicas, object)
    }

    /// The rules for what a controller says.
    pub(super) fn validate_status(&self, object: &Object) -> Vec<FieldError> {
        let selector = self.label_selector.as_ref().and_then(|path| {
            let why = path.string(object).err()?;
            Some(FieldError::invalid(&Path::new(path.as_str()), "", &why))
        });
        self.replicas(&self.status_replicas, object).into_iter().chain(selector).collect()
    }

    fn replicas(&self, at: &FieldPath, object: &Object) -> Option<FieldError> {
        let path = Path::new(at.as_str());
        match at.integer(object) {
            Err(why) => Some(FieldError::invalid(&path, 0, &why)),
            Ok(Some(replicas)) if replicas < 0 => {
                Some(FieldError::invalid(&path, replicas, "should be a non-negative integer"))
            }
            Ok(Some(replicas)) if replicas > i64::from(i32::MAX) => {
                let why = format!("should be less than or equal to {}", i32::MAX);
                Some(FieldError::invalid(&path, replicas, &why))
            }
            Ok(_) => None,
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
