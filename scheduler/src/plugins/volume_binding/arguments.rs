//! `VolumeBindingArgs` of a profile.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::profile::{ConfigError, invalid};

/// How long a pod's volumes are waited for unless a profile says something else.
const BIND_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct VolumeBindingArgs {
    bind_timeout_seconds: Option<i64>,
    shape: Option<Value>,
}

/// How long the volumes of a pod are waited for, at most.
pub(super) fn bind_timeout(field: &str, args: VolumeBindingArgs) -> Result<Duration, ConfigError> {
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
        bind_timeout("args", from_value(args).unwrap()).map_err(|err| err.to_string())
    }

    #[test]
    fn the_timeout_is_ten_minutes_unless_the_profile_says_otherwise() {
        assert_eq!(read(json!({})), Ok(Duration::from_secs(600)));
        assert_eq!(read(json!({ "bindTimeoutSeconds": 30 })), Ok(Duration::from_secs(30)));
        for (args, named) in
            [(json!({ "bindTimeoutSeconds": -1 }), "args.bindTimeoutSeconds"), (json!({ "shape": [] }), "args.shape")]
        {
            let err = read(args).unwrap_err();
            assert!(err.contains(named), "{err}");
        }
    }
}
