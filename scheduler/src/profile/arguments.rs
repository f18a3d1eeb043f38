//! Reading the arguments of plugins (`pluginConfig`).

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ConfigError, invalid};
use super::model::PluginConfig;

/// Decodes arguments. They may say of what kind they are.
pub(crate) fn decode<T: DeserializeOwned>(field: &str, config: &PluginConfig) -> Result<T, ConfigError> {
    let mut args = config.args.clone().unwrap_or_default();
    let kind = format!("{}Args", config.name);
    for (name, wanted) in [("apiVersion", "kubescheduler.config.k8s.io/v1"), ("kind", kind.as_str())] {
        if args.remove(name).is_some_and(|given| given != wanted) {
            return Err(invalid(&format!("{field}.{name}"), format!("must be {wanted}")));
        }
    }
    serde_json::from_value(Value::Object(args)).map_err(|err| invalid(field, err.to_string()))
}

/// Reads an object of the API. The types of the API skip what they do not know: that is refused here.
pub(crate) fn typed<T: DeserializeOwned + serde::Serialize>(field: &str, value: Value) -> Result<T, ConfigError> {
    let read: T = serde_json::from_value(value.clone()).map_err(|err| invalid(field, err.to_string()))?;
    let known = serde_json::to_value(&read).map_err(|err| invalid(field, err.to_string()))?;
    if has_all(&known, &value) { Ok(read) } else { Err(invalid(field, "has a field that is not known")) }
}

/// Whether everything of `part` is in `whole`.
fn has_all(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|known| has_all(known, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(known, value)| has_all(known, value))
        }
        (whole, part) => whole == part,
    }
}
