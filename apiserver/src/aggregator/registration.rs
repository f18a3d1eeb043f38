//! The APIServices of what this server serves itself: those of built-in versions are bootstrap objects, those of custom
//! resources come and go with their definitions (upstream's `crdregistration` and `autoregister`).
//!
//! A label says who looks after an APIService. One without it belongs to whoever made it, whatever it says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::catalog::Catalog;
use api::strategy::User;
use api::{ApiError, Object};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::priorities::{CUSTOM, Priority, built_in};
use super::{GROUP, PLURAL};
use crate::registry::{Registry, Target};
use crate::request::options::{DeleteOptions, WriteOptions};
use crate::watch_cache::{Interest, ResourceCache};

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// After a change, all that has piled up is dealt with in one pass after so long.
const REST: Duration = Duration::from_millis(50);
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A group and a version.
type Named = (String, String);

/// The APIServices of the built-in versions in a catalog.
pub(crate) fn objects(catalog: &Catalog) -> Vec<Object> {
    let groups = catalog.groups();
    let versions = groups.iter().flat_map(|group| group.versions.iter().map(|version| (group.name, *version)));
    let made =
        versions.filter_map(|(group, version)| Some(service(group, version, built_in(group, version)?, ON_START)));
    made.filter_map(Object::from_value).collect()
}

fn service(group: &str, version: &str, priority: Priority, managed: &str) -> Value {
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": priority.group, "versionPriority": priority.version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}}, "spec": spec,
    })
}

/// Puts the spec of a built-in APIService right, as long as it is this server's affair.
pub(crate) fn complete(stored: &mut Object, wanted: &Object) {
    let is_managed = stored.label(MANAGED).is_some_and(|managed| matches!(managed, ON_START | ALWAYS));
    if is_managed && stored.get(&["spec"]) != wanted.get(&["spec"]) {
        stored.set(&["spec"], wanted.get(&["spec"]).cloned().unwrap_or_default());
    }
}

/// Keeps the APIServices of custom resources.
pub(super) struct Registrar {
    registry: Arc<Registry>,
    services: Arc<ResourceCache>,
    definitions: Arc<ResourceCache>,
    user: User,
}

impl Registrar {
    pub(super) fn new(registry: Arc<Registry>) -> Result<Self, ApiError> {
        let services = registry.named(GROUP, PLURAL)?;
        let definitions = registry.named("apiextensions.k8s.io", "customresourcedefinitions")?;
        let user = User {
            name: "system:apiserver".to_owned(),
            groups: vec![crate::authz::MASTERS.to_owned()],
            ..User::default()
        };
        Ok(Self { registry, services, definitions, user })
    }

    /// Works until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut catalogs = self.registry.catalogs();
        self.until_done(ON_START).await;
        loop {
            catalogs.mark_unchanged();
            let (_, mut changes) = self.services.watch_from_now(Interest::Everything);
            self.until_done(ALWAYS).await;
            tokio::select! {
                changed = catalogs.changed() => if changed.is_err() {
                    return;
                },
                _ = changes.next() => {}
            }
            sleep(REST).await;
        }
    }

    /// Makes and removes the APIServices with this mark, as often as it takes.
    async fn until_done(&self, managed: &str) {
        while let Err(err) = self.pass(managed).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "APIServices are not settled");
            sleep(RETRY).await;
        }
    }

    async fn pass(&self, managed: &str) -> Result<(), ApiError> {
        let catalog = self.registry.catalog();
        let custom: BTreeSet<Named> =
            catalog.iter().filter(|row| row.is_custom()).map(|row| named(&row.group, &row.version)).collect();
        if managed == ALWAYS {
            for (group, version) in &custom {
                self.ensure(group, version).await?;
            }
        }
        let spurious: Vec<Object> =
            self.marked(managed).into_iter().filter(|stored| !is_served(&catalog, stored)).collect();
        if spurious.is_empty() {
            return Ok(());
        }
        // What is defined but not served yet is about to be.
        let defined = self.defined();
        for stored in spurious {
            let (group, version) = (stored.text(&["spec", "group"]), stored.text(&["spec", "version"]));
            if managed != ALWAYS || !defined.contains(&named(group, version)) {
                self.remove(&stored).await?;
            }
        }
        Ok(())
    }

    /// The stored APIServices with a mark.
    fn marked(&self, managed: &str) -> Vec<Object> {
        let all = self.services.snapshot();
        let marked = all.objects.values().filter(|cached| cached.labels.get(MANAGED) == Some(managed));
        marked.map(|cached| cached.object()).filter(|stored| !stored.is_being_deleted()).collect()
    }

    /// The versions that definitions say are served.
    fn defined(&self) -> BTreeSet<Named> {
        let mut defined = BTreeSet::new();
        for cached in self.definitions.snapshot().objects.values() {
            let definition = cached.object();
            let versions = definition.get(&["spec", "versions"]).and_then(Value::as_array).into_iter().flatten();
            let served = versions.filter(|version| version["served"] == true);
            let group = definition.text(&["spec", "group"]);
            defined.extend(served.filter_map(|version| version["name"].as_str()).map(|version| named(group, version)));
        }
        defined
    }

    async fn ensure(&self, group: &str, version: &str) -> Result<(), ApiError> {
        let Some(wanted) = Object::from_value(service(group, version, CUSTOM, ALWAYS)) else { return Ok(()) };
        let name = wanted.name().to_owned();
        let Some(cached) = self.services.get(&self.services.key("", &name)) else {
            return self.create(wanted).await;
        };
        let stored = cached.object();
        let mut completed = stored.clone();
        complete(&mut completed, &wanted);
        if completed == stored {
            return Ok(());
        }
        self.registry.update(&self.target(&name), completed, &options(), &mut Vec::new()).await.map(|_| ())
    }

    async fn create(&self, wanted: Object) -> Result<(), ApiError> {
        let mut wanted = wanted;
        self.services.row().strategy.default(&mut wanted);
        match self.registry.create(&self.target(""), wanted, &options(), &mut Vec::new()).await {
            // Another server of the cluster was faster.
            Err(err) if err.status().reason == "AlreadyExists" => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    async fn remove(&self, stored: &Object) -> Result<(), ApiError> {
        let options = DeleteOptions { uid: Some(stored.uid().to_owned()), ..DeleteOptions::default() };
        match self.registry.delete(&self.target(stored.name()), &options, &mut Vec::new()).await {
            Err(err) if err.is_not_found() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    fn target<'a>(&'a self, name: &'a str) -> Target<'a> {
        Target::stored(&self.services, "", name, &self.user)
    }
}

fn named(group: &str, version: &str) -> Named {
    (group.to_owned(), version.to_owned())
}

fn is_served(catalog: &Catalog, stored: &Object) -> bool {
    let (group, version) = (stored.text(&["spec", "group"]), stored.text(&["spec", "version"]));
    catalog.group_version(group, version).next().is_some()
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_version_but_that_of_apiservices_has_one() {
        let all = objects(&Catalog::builtin());
        assert_eq!(all.len(), 21, "as many as the reference has");
        let core = all.iter().find(|object| object.name() == "v1.").unwrap();
        let expected = json!({"version": "v1", "groupPriorityMinimum": 18_000, "versionPriority": 1});
        assert_eq!(core.get(&["spec"]), Some(&expected));
        assert_eq!(core.label(MANAGED), Some(ON_START));
    }

    #[test]
    fn whoever_takes_the_label_away_has_the_spec() {
        let wanted = objects(&Catalog::builtin()).remove(1);
        let check = |managed: Option<&str>, is_ours: bool| {
            let mut stored = wanted.clone();
            stored.set(&["spec", "versionPriority"], 7);
            match managed {
                Some(managed) => stored.set(&["metadata", "labels", MANAGED], managed),
                None => drop(stored.remove(&["metadata", "labels"])),
            }
            complete(&mut stored, &wanted);
            assert_eq!(stored.get(&["spec"]) == wanted.get(&["spec"]), is_ours, "{managed:?}");
        };
        check(Some(ON_START), true);
        check(Some(ALWAYS), true);
        check(Some("no"), false);
        check(None, false);
    }
}
