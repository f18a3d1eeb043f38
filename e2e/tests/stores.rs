//! What a cluster stores goes elsewhere: to etcd and back, and into a backup and out of it. The cluster goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Etcd, Output, Run as _, binary, can_run_separate, eventually};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
/// What must be there afterwards as it was; pods are among it.
const KINDS: &str = "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,namespaces,nodes,\
                     clusterroles,clusterrolebindings,roles,rolebindings,priorityclasses,customresourcedefinitions";

fn coracle(arguments: &[&str]) -> Output {
    Command::new(binary("coracle")).args(arguments).run()
}

fn raw(cluster: &Cluster, path: &str) -> Value {
    serde_json::from_str(cluster.kubectl(&["get", "--raw", path]).ok()).unwrap()
}

/// Every object by its kind, namespace and name, with its UID.
fn census(cluster: &Cluster) -> BTreeMap<String, String> {
    let path = "{range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let listed = cluster.kubectl(&["get", KINDS, "-A", "-o", &format!("jsonpath={path}")]);
    let pairs = listed.ok().lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, uid)| (name.to_owned(), uid.to_owned())).collect()
}

fn revision(cluster: &Cluster) -> u64 {
    let list = raw(cluster, "/api/v1/configmaps?limit=1");
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// A cluster in use, and what must not change when its store goes elsewhere.
struct Before {
    census: BTreeMap<String, String>,
    revision: u64,
    /// Of the service account `default`.
    token: String,
}

impl Before {
    fn of(cluster: &Cluster) -> Self {
        let token = cluster.kubectl(&["create", "token", "default", "--duration=2h"]).ok().to_owned();
        Self { census: census(cluster), revision: revision(cluster), token }
    }

    /// What ran runs, what was there is there, and nobody sees a revision twice.
    fn holds(&self, cluster: &Cluster) {
        let now = census(cluster);
        for (name, uid) in &self.census {
            assert_eq!(now.get(name), Some(uid), "{name}");
        }
        assert!(revision(cluster) >= self.revision, "revisions go on");
        let old = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={}", self.revision - 1);
        let watch = cluster.kubectl(&["get", "--raw", &old]);
        let said = format!("{}{}", watch.stdout, watch.stderr);
        assert!(said.contains("too old resource version") || said.contains("Expired"), "{said}");

        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
        eventually("the Service answers", PATIENCE, || serves(cluster).then_some(()));
        let secret = cluster.kubectl(&["exec", "deploy/web", "--", "sh", "-c", "echo $TOKEN"]);
        assert_eq!(secret.ok(), "a-secret-that-only-the-pods-see");
        let server = cluster.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let mut whoami = Command::new("kubectl");
        whoami.env("HOME", cluster.directory()).args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify"]);
        whoami.args([format!("--server={}", server.ok()), format!("--token={}", self.token)]).args(["auth", "whoami"]);
        let whoami = whoami.run();
        assert!(whoami.ok().contains("system:serviceaccount:default:default"), "{}", whoami.stdout);

        cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
        cluster.wait_for(&["deployment", "web"], "{.status.availableReplicas}", "4");
        cluster.kubectl(&["scale", "deployment/web", "--replicas=3"]).ok();
        cluster.wait_for(&["deployment", "web"], "{.status.replicas}", "3");
        // The fourth is counted until it has ended.
        let pods = || cluster.kubectl(&["get", "pods", "-o", "name"]).ok().matches("pod/web-").count();
        eventually("the fourth is gone", PATIENCE, || (pods() == 3).then_some(()));
    }
}

fn serves(cluster: &Cluster) -> bool {
    let page = ["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", "http://web/"];
    cluster.kubectl(&page).stdout.contains("hello from the coracle")
}

fn with_samples() -> Cluster {
    let cluster = Cluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    eventually("the Service answers", PATIENCE, || serves(&cluster).then_some(()));
    cluster
}

#[test]
fn a_cluster_moves_to_etcd_and_back_and_nothing_is_lost() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = with_samples();
    let etcd = Etcd::start(cluster.directory(), "etcd");
    let store = cluster.data().join("store");
    let (store, endpoint) = (store.to_str().unwrap(), etcd.endpoint());
    let on_etcd = format!("--etcd-servers={endpoint}");
    let out = ["migrate", "--from", store, "--to-etcd-servers", &endpoint];
    assert!(coracle(&out).fails().contains("another process uses this store"));

    let before = Before::of(&cluster);
    cluster.stop();
    let moved = coracle(&out);
    assert!(moved.ok().contains("on both sides") && moved.stdout.contains(&on_etcd.replace('=', " ")), "{moved:?}");
    let refused = cluster.another(&cluster.data(), &[]);
    assert!(refused.fails().contains(&format!("was moved to etcd at {endpoint}")), "{}", refused.stderr);
    cluster.start(&[&on_etcd]);
    before.holds(&cluster);

    cluster.kubectl(&["create", "configmap", "made-on-etcd"]).ok();
    let before = Before::of(&cluster);
    let back = ["migrate", "--from-etcd-servers", &endpoint, "--to", store];
    assert!(coracle(&back).fails().contains("API servers at 10.205.0.1"));
    cluster.stop();
    assert!(coracle(&back).fails().contains("nothing is overwritten"));
    std::fs::rename(store, cluster.data().join("store.before")).unwrap();
    coracle(&back).ok();
    let refused = cluster.another(&cluster.data(), &[&on_etcd]);
    assert!(refused.fails().contains(&format!("was moved to {store}")), "{}", refused.stderr);
    cluster.start(&[]);
    before.holds(&cluster);
    cluster.kubectl(&["get", "configmap", "made-on-etcd"]).ok();
}

#[test]
fn a_cluster_that_lost_its_store_goes_on_from_a_backup() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = with_samples();
    let (data, backup) = (cluster.data().join("store"), cluster.directory().join("backup"));
    let (store, file) = (data.to_str().unwrap(), backup.to_str().unwrap());
    let before = Before::of(&cluster);
    // While it runs.
    coracle(&["backup", "--data-dir", store, "--to", file]).ok();
    cluster.kubectl(&["create", "configmap", "after-the-backup"]).ok();
    let seen = revision(&cluster);
    cluster.stop();
    std::fs::remove_dir_all(&data).unwrap();
    coracle(&["restore", "--from", file, "--data-dir", store]).ok();
    cluster.start(&[]);
    before.holds(&cluster);
    assert!(revision(&cluster) > seen, "no revision comes again");
    cluster.kubectl(&["get", "configmap", "after-the-backup"]).fails();

    // From here on with etcd, the first of which is lost.
    let (first, second) = (Etcd::start(cluster.directory(), "first"), Etcd::start(cluster.directory(), "second"));
    let of_etcd = cluster.directory().join("backup-of-etcd");
    let of_etcd = of_etcd.to_str().unwrap();
    cluster.stop();
    coracle(&["restore", "--from", file, "--etcd-servers", &first.endpoint()]).ok();
    cluster.start(&[&format!("--etcd-servers={}", first.endpoint())]);
    eventually("the Service answers", PATIENCE, || serves(&cluster).then_some(()));
    let before = census(&cluster);
    coracle(&["backup", "--etcd-servers", &first.endpoint(), "--to", of_etcd]).ok();
    let seen = revision(&cluster);
    cluster.stop();
    drop(first);
    coracle(&["restore", "--from", of_etcd, "--etcd-servers", &second.endpoint()]).ok();
    cluster.start(&[&format!("--etcd-servers={}", second.endpoint())]);
    assert!(revision(&cluster) > seen, "no revision comes again");
    let now = census(&cluster);
    let lost: Vec<_> = before.iter().filter(|(name, uid)| now.get(*name) != Some(uid)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    eventually("the Service answers", PATIENCE, || serves(&cluster).then_some(()));
}
