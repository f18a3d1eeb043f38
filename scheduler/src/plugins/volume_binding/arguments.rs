//! `VolumeBindingArgs` of a profile.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, PluginConfig, decode, invalid};

/// How long a pod's volumes are waited for unless a profile says something else.
const BIND_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct VolumeBindingArgs {
    bind_timeout_seconds: Option<i64>,
    shape: Option<Value>,
}

/// How long the volumes of a pod are waited for, at most.
pub(crate) fn bind_timeout(configs: &[PluginConfig]) -> Result<Duration, ConfigError> {
    let Some(at) = configs.iter().position(|config| config.name == "VolumeBinding") else { return Ok(BIND_TIMEOUT) };
    let field = format!("profiles[].pluginConfig[{at}].args");
    let args: VolumeBindingArgs = decode(&field, &configs[at])?;
    if args.shape.is_some() {
        return Err(invalid(&format!("{field}.shape"), "is not supported: volumes are not scored"));
    }
    let Some(seconds) = args.bind_timeout_seconds else { return Ok(BIND_TIMEOUT) };
    let seconds = u64::try_from(seconds)
        .map_err(|_| invalid(&format!("{field}.bindTimeoutSeconds"), "must be greater than or equal to 0"))?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn read(args: Value) -> Result<Duration, String> {
        let config = from_value(json!([{ "name": "Other" }, { "name": "VolumeBinding", "args": args }])).unwrap();
        let configs: Vec<PluginConfig> = config;
        bind_timeout(&configs).map_err(|err| err.to_string())
    }

    #[test]
    fn the_timeout_is_ten_minutes_unless_the_profile_says_otherwise() {
        assert_eq!(bind_timeout(&[]).unwrap(), Duration::from_secs(600));
        assert_eq!(read(json!({})), Ok(Duration::from_secs(600)));
        assert_eq!(read(json!({ "kind": "VolumeBindingArgs", "bindTimeoutSeconds": 30 })), Ok(Duration::from_secs(30)));
        for (args, named) in [
            (json!({ "bindTimeoutSeconds": -1 }), "pluginConfig[1].args.bindTimeoutSeconds"),
            (json!({ "shape": [] }), "pluginConfig[1].args.shape"),
            (json!({ "bindTimeout": 1 }), "bindTimeout"),
        ] {
            let err = read(args).unwrap_err();
            assert!(err.contains(named), "{err}");
        }
    }
}
