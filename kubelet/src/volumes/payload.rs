//! The contents of configMap, secret, downwardAPI and projected volumes (upstream: pkg/volume/configmap, secret,
//! downwardapi and projected).
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, DownwardAPIVolumeFile, PodSpec, Secret};

use super::source::{Files, Keys, Origin};
use super::{Pass, Reason, State};
use crate::containers::environment::fields;
use crate::pod;
use crate::references::Missing;

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
    /// The files of a volume.
    pub(super) async fn payload(&self, volume: &str, of: &Files<'_>, state: &mut State) -> Result<Payload, Reason> {
        let mut files = Payload::new();
        for (index, origin) in of.origins.iter().enumerate() {
            match origin {
                Origin::ConfigMap(keys) => {
                    let found = keys.found(self.references.config_map(keys.object).await)?;
                    keys.select("config", found.map(|map| config_map_data(&map)), of.mode, &mut files)?;
                }
                Origin::Secret(keys) => {
                    let found = keys.found(self.references.secret(keys.object).await)?;
                    keys.select("secret", found.map(|secret| secret_data(&secret)), of.mode, &mut files)?;
                }
                Origin::DownwardApi(items) => self.downward(items, of.mode, &mut files)?,
                Origin::Token(source) => {
                    let token = self.token(&format!("{volume}/{index}"), source, state).await?;
                    insert(&mut files, &source.path, self.token_file(of.mode, token))?;
                }
            }
        }
        Ok(files)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32, files: &mut Payload) -> Result<(), Reason> {
        let around = self.context.surroundings(self.pod_ips.to_vec());
        for item in items {
            let value = if let Some(selector) = &item.field_ref {
                fields::field(self.pod, &around, selector)
            } else if let Some(selector) = &item.resource_field_ref {
                fields::resource(self.pod, &around, "", selector)
            } else {
                continue;
            };
            insert(files, &item.path, file(item.mode.unwrap_or(mode), value?.into_bytes()))?;
        }
        Ok(())
    }

    fn token_file(&self, mode: i32, token: String) -> File {
        let mut file = file(mode, token.into_bytes());
        // As upstream: private to the one user of all containers where there is one, else by mode or fsGroup.
        if let Some(user) = common_user(pod::spec(self.pod)) {
            file.owner = Some(user);
            file.mode = 0o600;
        } else if self.group().is_some() {
            file.mode = 0o600;
        }
        file
    }
}

/// The user of all containers, those that run before the others included, where it is one (upstream: FsUserFrom of
/// pkg/securitycontext).
fn common_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user =
        |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
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

fn insert(files: &mut Payload, path: &str, file: File) -> Result<(), Reason> {
    let good = !path.is_empty()
        && !path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.starts_with("..");
    if !good {
        return Err(format!("invalid path {path:?}: it must be relative and may not contain '..'").into());
    }
    files.insert(path.to_owned(), file);
    Ok(())
}

impl Keys<'_> {
    /// The object; one that is not there may be optional.
    fn found<T>(&self, looked: Result<T, Missing>) -> Result<Option<T>, Missing> {
        match looked {
            Err(Missing::NotFound { .. }) if self.optional => Ok(None),
            looked => looked.map(Some),
        }
    }

    /// The files that are asked for; `kind` is upstream's word for keys of such objects.
    fn select(&self, kind: &str, data: Option<Data>, mode: i32, files: &mut Payload) -> Result<(), Reason> {
        let Some(data) = data else { return Ok(()) };
        if self.items.is_empty() {
            for (key, bytes) in &data {
                insert(files, key, file(mode, bytes.clone()))?;
            }
        }
        for item in self.items {
            match data.get(&item.key) {
                Some(bytes) => insert(files, &item.path, file(item.mode.unwrap_or(mode), bytes.clone()))?,
                None if self.optional => {}
                None => return Err(format!("references non-existent {kind} key: {}", item.key).into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::KeyToPath;
    use serde_json::json;

    use super::*;

    fn keys(items: &[KeyToPath], optional: bool) -> Keys<'_> {
        Keys { object: "o", items, optional }
    }

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let data = Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items = [KeyToPath { key: "a".into(), path: "x/y".into(), mode: Some(0o400) }];
        let mut files = Payload::new();
        keys(&items, false).select("config", Some(data), 0o644, &mut files).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(files["x/y"].mode, 0o400);
    }

    #[test]
    fn a_missing_key_is_an_error_unless_optional() {
        let items = [KeyToPath { key: "z".into(), path: "z".into(), mode: None }];
        let mut files = Payload::new();
        let missing = keys(&items, false).select("secret", Some(Data::new()), 0o644, &mut files).unwrap_err();
        assert_eq!(missing.to_string(), "references non-existent secret key: z");
        assert!(keys(&items, true).select("config", Some(Data::new()), 0o644, &mut files).is_ok());
    }

    #[test]
    fn a_token_is_for_the_user_of_all_containers_only_where_it_is_one() {
        let check = |pod: Option<i64>, init: Option<i64>, main: Option<i64>, expected: Option<u32>| {
            let spec = json!({"securityContext": {"runAsUser": pod},
                "initContainers": [{"name": "i", "securityContext": {"runAsUser": init}}],
                "containers": [{"name": "c", "securityContext": {"runAsUser": main}}, {"name": "d"}]});
            assert_eq!(common_user(&serde_json::from_value(spec).unwrap()), expected, "{pod:?} {init:?} {main:?}");
        };
        check(Some(1000), None, None, Some(1000));
        check(Some(1000), None, Some(1000), Some(1000));
        check(Some(1000), Some(2000), None, None);
        check(Some(1000), None, Some(0), None);
        check(None, Some(1000), Some(1000), None);
        check(None, None, None, None);
    }

    #[test]
    fn paths_stay_in_the_volume() {
        for path in ["", "/etc/passwd", "../x", "a/../../b", "..data"] {
            assert!(insert(&mut Payload::new(), path, file(0, vec![])).is_err(), "{path}");
        }
    }
}
