//! What a volume shows, read once from its spec: the one place that knows which types this node has (upstream: the
//! plugins that ProbeVolumePlugins of cmd/kubelet/app lists).
use k8s_openapi::api::core::v1::{
    CSIVolumeSource, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use serde::Serialize;

use super::Reason;

const DEFAULT_MODE: i32 = 0o644;

/// What a volume shows.
pub(super) enum Source<'a> {
    Csi(&'a CSIVolumeSource),
    EmptyDir(&'a EmptyDirVolumeSource),
    HostPath(&'a HostPathVolumeSource),
    Image(&'a ImageVolumeSource),
    Claim(Claim<'a>),
    Files(Files<'a>),
}

/// The claim whose volume is shown.
pub(super) enum Claim<'a> {
    Named(&'a PersistentVolumeClaimVolumeSource),
    /// Made for the pod and named after it (generic ephemeral volumes).
    MadeForPod,
}

/// Files that the kubelet writes.
pub(super) struct Files<'a> {
    /// Upstream's name of the plugin, which the volume's directory has.
    pub(super) plugin: &'static str,
    /// Of files that have none of their own.
    pub(super) mode: i32,
    pub(super) origins: Vec<Origin<'a>>,
}

/// Where files come from.
pub(super) enum Origin<'a> {
    ConfigMap(Keys<'a>),
    Secret(Keys<'a>),
    DownwardApi(&'a [DownwardAPIVolumeFile]),
    Token(&'a ServiceAccountTokenProjection),
}

/// Keys of an object.
pub(super) struct Keys<'a> {
    pub(super) object: &'a str,
    /// All of them, if there are none.
    pub(super) items: &'a [KeyToPath],
    pub(super) optional: bool,
}

impl<'a> Source<'a> {
    /// Reads a volume.
    ///
    /// # Errors
    /// When the node does not have its type; they name it.
    pub(super) fn of(volume: &'a Volume) -> Result<Self, Reason> {
        let files = |plugin, mode: Option<i32>, origins| {
            Ok(Self::Files(Files { plugin, mode: mode.unwrap_or(DEFAULT_MODE), origins }))
        };
        if let Some(source) = &volume.config_map {
            let keys = Keys::of(&source.name, source.items.as_deref(), source.optional);
            files(CONFIG_MAP, source.default_mode, vec![Origin::ConfigMap(keys)])
        } else if let Some(source) = &volume.csi {
            Ok(Self::Csi(source))
        } else if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            files("downward-api", source.default_mode, vec![Origin::DownwardApi(items)])
        } else if let Some(source) = &volume.empty_dir {
            Ok(Self::EmptyDir(source))
        } else if volume.ephemeral.is_some() {
            Ok(Self::Claim(Claim::MadeForPod))
        } else if let Some(source) = &volume.host_path {
            Ok(Self::HostPath(source))
        } else if let Some(source) = &volume.image {
            Ok(Self::Image(source))
        } else if let Some(source) = &volume.persistent_volume_claim {
            Ok(Self::Claim(Claim::Named(source)))
        } else if let Some(source) = &volume.projected {
            let origins = source.sources.iter().flatten().map(Origin::of).collect::<Result<_, _>>()?;
            files("projected", source.default_mode, origins)
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let keys = Keys::of(name, source.items.as_deref(), source.optional);
            files("secret", source.default_mode, vec![Origin::Secret(keys)])
        } else {
            Err(format!("volumes of type {} are not supported on this node", kind(volume)).into())
        }
    }
}

/// The plugin of the volumes that are no secret, and stay on disk.
pub(super) const CONFIG_MAP: &str = "configmap";

impl<'a> Origin<'a> {
    fn of(projection: &'a VolumeProjection) -> Result<Self, Reason> {
        if let Some(source) = &projection.config_map {
            Ok(Self::ConfigMap(Keys::of(&source.name, source.items.as_deref(), source.optional)))
        } else if let Some(source) = &projection.downward_api {
            Ok(Self::DownwardApi(source.items.as_deref().unwrap_or_default()))
        } else if let Some(source) = &projection.secret {
            Ok(Self::Secret(Keys::of(&source.name, source.items.as_deref(), source.optional)))
        } else if let Some(source) = &projection.service_account_token {
            Ok(Self::Token(source))
        } else {
            Err(format!("projections of type {} are not supported on this node", kind(projection)).into())
        }
    }
}

impl<'a> Keys<'a> {
    fn of(object: &'a str, items: Option<&'a [KeyToPath]>, optional: Option<bool>) -> Self {
        Self { object, items: items.unwrap_or_default(), optional: optional == Some(true) }
    }
}

/// The name of the field that is set.
fn kind(of: &impl Serialize) -> String {
    let fields = serde_json::to_value(of).unwrap_or_default();
    let mut names = fields.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    names.find(|name| *name != "name").unwrap_or("of no known source").to_owned()
}

#[cfg(test)]
mod tests {
    use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
    use serde_json::json;

    use super::*;

    /// Asks a type for the names of its fields, and gives it nothing.
    struct Fields<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Self::Error::custom("there is nothing here"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    /// Every field of the API's type but the name; and those that `read` takes. Others must be refused by name.
    fn taken<T: Deserialize<'static>>(what: &str, read: impl Fn(T) -> Result<(), Reason>) -> Vec<&'static str> {
        let mut fields = Vec::new();
        assert!(T::deserialize(Fields(&mut fields)).is_err() && !fields.is_empty());
        fields.retain(|field| *field != "name");
        fields.retain(|field| match read(T::deserialize(json!({ *field: {} })).unwrap()) {
            Ok(()) => true,
            Err(why) => {
                assert_eq!(why.to_string(), format!("{what} of type {field} are not supported on this node"));
                false
            }
        });
        fields
    }

    #[test]
    fn every_type_of_volume_of_the_api_is_had_or_refused_by_name() {
        let had = taken::<Volume>("volumes", |volume| Source::of(&volume).map(drop));
        let known = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "hostPath", "image"];
        assert_eq!(had, [&known[..], &["persistentVolumeClaim", "projected", "secret"]].concat());
        let refused = Source::of(&Volume::default()).map(drop).unwrap_err().to_string();
        assert_eq!(refused, "volumes of type of no known source are not supported on this node");
    }

    #[test]
    fn every_type_of_projection_of_the_api_is_had_or_refused_by_name() {
        let had = taken::<VolumeProjection>("projections", |projection| Origin::of(&projection).map(drop));
        assert_eq!(had, ["configMap", "downwardAPI", "secret", "serviceAccountToken"]);
    }

    #[test]
    fn a_projected_volume_is_its_projections_in_order() {
        let projected = json!({"name": "v", "projected": {"defaultMode": 256, "sources": [
            {"secret": {"name": "s", "optional": true}}, {"configMap": {"name": "c"}}]}});
        let volume: Volume = serde_json::from_value(projected).unwrap();
        let Ok(Source::Files(Files { plugin: "projected", mode: 0o400, origins })) = Source::of(&volume) else {
            panic!("it is no projected volume");
        };
        assert!(matches!(&origins[..], [Origin::Secret(secret), Origin::ConfigMap(map)]
            if secret.optional && secret.object == "s" && !map.optional && map.object == "c"));
    }
}
