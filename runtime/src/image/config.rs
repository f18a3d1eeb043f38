//! An image's configuration, and what it means for a container.

use serde::{Deserialize, Serialize};

/// The parts of an OCI or Docker image configuration that are used here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) config: Execution,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Execution {
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) cmd: Vec<String>,
    #[serde(default)]
    pub(crate) working_dir: String,
    #[serde(default)]
    pub(crate) stop_signal: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default)]
    pub(crate) diff_ids: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// Reads a configuration, which must be for this machine and name its layers by digests.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(text).map_err(|err| format!("image configuration: {err}"))?;
        let machine = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if !config.architecture.is_empty() && (config.architecture != machine || config.os != "linux") {
            return Err(format!(
                "no match for platform linux/{machine}: it is for {}/{}",
                config.os, config.architecture
            ));
        }
        // Names of directories are made from them.
        let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_digest = |id: &String| id.strip_prefix("sha256:").is_some_and(is_hex);
        match config.rootfs.diff_ids.iter().find(|id| !is_digest(id)) {
            Some(id) => Err(format!("layer {id:?} is not named by a sha256 digest")),
            None => Ok(config),
        }
    }

    /// The words of the process: `command` replaces entrypoint and cmd, `args` replaces cmd.
    pub(crate) fn arguments(&self, command: &[String], args: &[String]) -> Vec<String> {
        let execution = &self.config;
        match (command, args) {
            ([], []) => [execution.entrypoint.as_slice(), &execution.cmd].concat(),
            ([], args) => [execution.entrypoint.as_slice(), args].concat(),
            (command, args) => [command, args].concat(),
        }
    }

    /// The image's environment, overlaid with `env`, in which the last value of a name wins.
    pub(crate) fn environment(&self, env: &[(String, String)]) -> Vec<(String, String)> {
        let image = self.config.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
        let given = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in image.chain(given) {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => value.clone_into(known),
                None => all.push((name.to_owned(), value.to_owned())),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn layers_are_named_by_digests_and_nothing_else() {
        let config = |id: &str| ImageConfig::parse(format!(r#"{{"rootfs":{{"diff_ids":["{id}"]}}}}"#).as_bytes());
        assert!(config(&format!("sha256:{}", "ab".repeat(32))).is_ok());
        for id in ["", "sha256:ab", &format!("sha256:{}", "../.".repeat(16)), &format!("sha256:{}", "é".repeat(32))] {
            assert!(config(id).unwrap_err().contains("is not named by a sha256 digest"), "{id}");
        }
    }

    #[test]
    fn an_image_for_another_machine_is_refused() {
        let err = ImageConfig::parse(br#"{"architecture":"s390x","os":"linux"}"#).unwrap_err();
        assert!(err.contains("no match for platform"), "{err}");
    }

    #[test]
    fn command_and_args_replace_what_kubernetes_says_they_replace() {
        let text = r#"{"config":{"Entrypoint":["e"],"Cmd":["c","d"],"Env":null}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        let check = |command, args, expected| {
            assert_eq!(config.arguments(&words(command), &words(args)), words(expected));
        };
        check("", "", "e c d");
        check("", "x", "e x");
        check("y", "", "y");
        check("y", "x", "y x");
    }

    #[test]
    fn later_values_of_the_environment_win() {
        let mut config = ImageConfig::default();
        config.config.env = words("PATH=/bin A=1");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let given = [pair("A", "2"), pair("B", "x=y"), pair("A", "3")];
        assert_eq!(config.environment(&given), [pair("PATH", "/bin"), pair("A", "3"), pair("B", "x=y")]);
    }
}
