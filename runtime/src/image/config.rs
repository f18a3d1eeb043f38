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
