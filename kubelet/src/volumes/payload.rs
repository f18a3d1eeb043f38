//! The contents of configMap, secret, downwardAPI and projected volumes.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret, Volume, VolumeProjection};

use super::{CONFIG_MAP, Pass, State};
use crate::containers::environment::fields;
use crate::references::Missing;

const DEFAULT_MODE: i32 = 0o644;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
    /// Owner, where it matters: service account tokens are readable by the user the pod runs as.
    pub(super) owner: Option<u32>,
}

/// Files by path below the volume.
pub(super) type Payload = BTreeMap<String, File>;

type Data = BTreeMap<String, Vec<u8>>;

impl Pass<'_> {
    /// The plugin's name and the files, or `None` when the volume is of another kind.
    pub(super) async fn payload(
        &self,
        volume: &Volume,
        state: &mut State,
    ) -> Result<Option<(&'static str, Payload)>, String> {
        let mut files = Payload::new();
        let plugin = if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let data = self.config_map(&source.name, source.optional).await?;
            select(data, source.items.as_deref(), mode, source.optional, &mut files)?;
            CONFIG_MAP
        } else if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let name = source.secret_name.as_deref().unwrap_or_default();
            let data = self.secret(name, source.optional).await?;
            select(data, source.items.as_deref(), mode, source.optional, &mut files)?;
            "secret"
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(source.items.as_deref(), mode, &mut files)?;
            "downward-api"
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            for (index, projection) in source.sources.iter().flatten().enumerate() {
                let id = format!("{}/{index}", volume.name);
                self.project(&id, projection, mode, state, &mut files).await?;
            }
            "projected"
        } else {
            return Ok(None);
        };
        Ok(Some((plugin, files)))
    }

    async fn project(
        &self,
        id: &str,
        projection: &VolumeProjection,
        mode: i32,
        state: &mut State,
        files: &mut Payload,
    ) -> Result<(), String> {
        if let Some(source) = &projection.config_map {
            let data = self.config_map(&source.name, source.optional).await?;
            select(data, source.items.as_deref(), mode, source.optional, files)?;
        } else if let Some(source) = &projection.secret {
            let data = self.secret(&source.name, source.optional).await?;
            select(data, source.items.as_deref(), mode, source.optional, files)?;
        } else if let Some(source) = &projection.downward_api {
            self.downward(source.items.as_deref(), mode, files)?;
        } else if let Some(source) = &projection.service_account_token {
            let token = self.token(id, source, state).await?;
            insert(files, &source.path, self.token_file(mode, token))?;
        } else {
            let value = serde_json::to_value(projection).unwrap_or_default();
            let kind = value.as_object().and_then(|fields| fields.keys().next().cloned()).unwrap_or_default();
            return Err(format!("projections of type {kind} are not supported on this node"));
        }
        Ok(())
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<Data>, String> {
        match self.references.config_map(name).await {
            Ok(map) => Ok(Some(config_map_data(&map))),
            Err(Missing::NotFound { .. }) if optional == Some(true) => Ok(None),
            Err(err) => Err(err.to_string()),
        }
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<Data>, String> {
        match self.references.secret(name).await {
            Ok(secret) => Ok(Some(secret_data(&secret))),
            Err(Missing::NotFound { .. }) if optional == Some(true) => Ok(None),
            Err(err) => Err(err.to_string()),
        }
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>, mode: i32, files: &mut Payload) -> Result<(), String> {
        let around = self.context.surroundings(self.pod_ips.to_vec());
        for item in items.into_iter().flatten() {
            let value = if let Some(selector) = &item.field_ref {
                fields::field(self.pod, &around, selector)
            } else if let Some(selector) = &item.resource_field_ref {
                fields::resource(self.pod, &around, "", selector)
            } else {
                continue;
            };
            let value = value.map_err(|err| err.to_string())?;
            insert(files, &item.path, file(item.mode.unwrap_or(mode), value.into_bytes()))?;
        }
        Ok(())
    }
}

fn config_map_data(map: &ConfigMap) -> Data {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> Data {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn file(mode: i32, bytes: Vec<u8>) -> File {
    File { mode: u32::try_from(mode).unwrap_or(0) & 0o777, bytes, owner: None }
}

impl Pass<'_> {
    fn token_file(&self, mode: i32, token: String) -> File {
        let spec = crate::pod::spec(self.pod);
        let user = spec.security_context.as_ref().and_then(|context| context.run_as_user);
        let every = spec
            .containers
            .iter()
            .map(|container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(user));
        let users: std::collections::BTreeSet<_> = every.collect();
        let mut file = file(mode, token.into_bytes());
        // As upstream: private to the one user of all containers where there is one, else by mode or fsGroup.
        if let (1, Some(Some(user))) = (users.len(), users.first().copied()) {
            file.owner = u32::try_from(user).ok();
            file.mode = 0o600;
        } else if self.group().is_some() {
            file.mode = 0o600;
        }
        file
    }
}

fn insert(files: &mut Payload, path: &str, file: File) -> Result<(), String> {
    let good = !path.is_empty()
        && !path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.starts_with("..");
    if !good {
        return Err(format!("invalid path {path:?}: it must be relative and may not contain '..'"));
    }
    files.insert(path.to_owned(), file);
    Ok(())
}

fn select(
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
    files: &mut Payload,
) -> Result<(), String> {
    let Some(data) = data else { return Ok(()) };
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, bytes) in &data {
            insert(files, key, file(mode, bytes.clone()))?;
        }
    }
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => insert(files, &item.path, file(item.mode.unwrap_or(mode), bytes.clone()))?,
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let data = Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items = [KeyToPath { key: "a".into(), path: "x/y".into(), mode: Some(0o400) }];
        let mut files = Payload::new();
        select(Some(data), Some(&items), 0o644, None, &mut files).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(files["x/y"].mode, 0o400);
    }

    #[test]
    fn a_missing_key_is_an_error_unless_optional() {
        let items = [KeyToPath { key: "z".into(), path: "z".into(), mode: None }];
        let mut files = Payload::new();
        assert!(select(Some(Data::new()), Some(&items), 0o644, None, &mut files).is_err());
        assert!(select(Some(Data::new()), Some(&items), 0o644, Some(true), &mut files).is_ok());
    }

    #[test]
    fn paths_stay_in_the_volume() {
        for path in ["", "/etc/passwd", "../x", "a/../../b", "..data"] {
            assert!(insert(&mut Payload::new(), path, file(0, vec![])).is_err(), "{path}");
        }
    }
}
