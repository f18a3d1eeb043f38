//! `--admission-control-config-file`: an `AdmissionConfiguration` with the settings of plugins (upstream's
//! `apiserver/pkg/admission/config.go`).

use std::path::Path;

use daemon::{ConfigFile, ConfigFileError};
use serde::Deserialize;
use serde_json::Value;

use super::plugins::{Exemptions, Settings, Standards};
use crate::error::Error;

const GROUP: &str = "apiserver.config.k8s.io/v1";

/// The settings of all plugins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(super) pod_security: Settings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    plugins: Vec<Plugin>,
}

/// The settings of one plugin: here, or in a file of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PodSecurity {
    defaults: Standards,
    exemptions: Exemptions,
}

/// What webhooks are authenticated with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Webhooks {
    kube_config_file: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Quota {
    limited_resources: Vec<Value>,
}

impl Configuration {
    /// Reads the file, if there is one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |why| Error::Flag { flag: "admission-control-config-file", why };
        Self::from_file(path).map_err(|err| failed(format!("{:#}", anyhow::Error::from(err))))
    }

    fn from_file(path: &Path) -> Result<Self, ConfigFileError> {
        let file = ConfigFile::read(path, GROUP, "AdmissionConfiguration")?;
        let about = file.clone();
        let plugins = file.decode::<File>()?.plugins;
        let mut configuration = Self::default();
        for (at, plugin) in plugins.iter().enumerate() {
            if plugins[..at].iter().any(|other| other.name == plugin.name) {
                return Err(about.refused(&format!("plugins[{at}].name"), format!("{:?} is given twice", plugin.name)));
            }
            configuration.add(plugin, &format!("plugins[{at}]"), &about)?;
        }
        Ok(configuration)
    }

    fn add(&mut self, plugin: &Plugin, at: &str, about: &ConfigFile) -> Result<(), ConfigFileError> {
        let settings = |version, kind| plugin.settings(about.path(), version, kind);
        match plugin.name.as_str() {
            "PodSecurity" => {
                let Some(file) = settings("pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration")?
                else {
                    return Ok(());
                };
                let about = file.clone();
                let read: PodSecurity = file.decode()?;
                let made = Settings::new(&read.defaults, read.exemptions);
                self.pod_security = made.map_err(|(field, why)| about.refused(&format!("defaults.{field}"), why))?;
            }
            "ResourceQuota" => {
                let file = settings(GROUP, "ResourceQuotaConfiguration")?;
                let quota = file.map(ConfigFile::decode::<Quota>).transpose()?.unwrap_or_default();
                if !quota.limited_resources.is_empty() {
                    return Err(about.refused(at, "limitedResources is not supported"));
                }
            }
            "MutatingAdmissionWebhook" | "ValidatingAdmissionWebhook" => {
                let file = settings(GROUP, "WebhookAdmissionConfiguration")?;
                let webhooks = file.map(ConfigFile::decode::<Webhooks>).transpose()?.unwrap_or_default();
                if !webhooks.kube_config_file.is_empty() {
                    return Err(
                        about.refused(at, "kubeConfigFile is not supported: webhooks are not shown credentials")
                    );
                }
            }
            name => return Err(about.refused(at, format!("plugin {name:?} takes no configuration here"))),
        }
        Ok(())
    }
}

impl Plugin {
    /// The settings, wherever they are; a path is relative to the file that names it.
    fn settings(
        &self,
        file: &Path,
        version: &'static str,
        kind: &'static str,
    ) -> Result<Option<ConfigFile>, ConfigFileError> {
        match &self.configuration {
            Some(tree) if !tree.is_null() => ConfigFile::of(file, tree.clone(), version, kind).map(Some),
            _ if self.path.is_empty() => Ok(None),
            _ => ConfigFile::read(&file.parent().unwrap_or(Path::new("")).join(&self.path), version, kind).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";

    fn read(plugins: &str) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admission.yaml");
        let security = "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, \
                        defaults: {warn: baseline}}";
        std::fs::write(directory.path().join("security.yaml"), security).unwrap();
        std::fs::write(&path, format!("{HEAD}plugins: {plugins}")).unwrap();
        Configuration::read(Some(&path)).map_err(|err| err.to_string())
    }

    fn security(fields: &str) -> String {
        let kind = "apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration";
        format!("[{{name: PodSecurity, configuration: {{{kind}, {fields}}}}}]")
    }

    #[test]
    fn pod_security_is_configured_here_or_in_a_file_of_its_own() {
        let here = read(&security("defaults: {enforce: restricted, enforce-version: v1.30}")).unwrap();
        assert_ne!(here.pod_security, Settings::default());
        let elsewhere = read("[{name: PodSecurity, path: security.yaml}]").unwrap();
        assert_ne!(elsewhere.pod_security, Settings::default());
        assert_eq!(read("[{name: ResourceQuota}]").unwrap().pod_security, Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (plugins, named) in [
            (security("defaults: {enforce: strict}"), "defaults.enforce"),
            (security("defaults: {warn: baseline, warn-version: v2}"), "defaults.warn-version"),
            (security("exemption: {}"), "exemption"),
            ("[{name: ImagePolicyWebhook}]".to_owned(), "ImagePolicyWebhook"),
            ("[{name: ResourceQuota}, {name: ResourceQuota}]".to_owned(), "given twice"),
            ("[{nam: x}]".to_owned(), "nam"),
            ("[{name: PodSecurity, path: nowhere.yaml}]".to_owned(), "nowhere.yaml"),
            ("[{name: PodSecurity, configuration: {kind: Other}}]".to_owned(), "PodSecurityConfiguration"),
            (
                "[{name: ValidatingAdmissionWebhook, configuration: {apiVersion: apiserver.config.k8s.io/v1, \
                 kind: WebhookAdmissionConfiguration, kubeConfigFile: /x}}]"
                    .to_owned(),
                "kubeConfigFile",
            ),
        ] {
            let err = read(&plugins).err().unwrap_or_else(|| panic!("{plugins} is taken"));
            assert!(err.contains("--admission-control-config-file") && err.contains(named), "{plugins}: {err}");
        }
    }
}
