//! `/healthz`, `/livez` and `/readyz`, with their checks one by one; and `/metrics/slis`, which counts what came of them
//! (KEP-3466).

use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use tokio::time;

use crate::core::Core;
use crate::error::with_causes;
use crate::request::query::Query;
use crate::response::{self, Answer};

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];
/// What is checked first everywhere.
const FIRST: [&str; 3] = ["ping", "log", "etcd"];
/// What is checked in addition before a server is ready.
const READY: [&str; 2] = ["etcd-readiness", "informer-sync"];
const HOOK: &str = "poststarthook/";
/// What a server does after it has begun to serve, under upstream's names, which people wait for: done when the watch cache
/// is filled.
const WHEN_FILLED: [&str; 16] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
];
/// Done when the objects that a cluster cannot do without are there.
const WHEN_MADE: [&str; 12] = [
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "start-kubernetes-service-cidr-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "kube-apiserver-autoregistration",
];
const REGISTERED: &str = "autoregister-completion";
const SHUTDOWN: &str = "shutdown";

/// A store that does not answer for so long is not well: upstream's `--etcd-healthcheck-timeout`.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a health path; `None` when it is not one.
pub(crate) async fn answer(core: &Core, path: &str, query: &Query) -> Option<Answer> {
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let (endpoint, one) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, one)) => (endpoint, Some(one)),
        None => (path.trim_start_matches('/'), None),
    };
    let endpoint = ENDPOINTS.into_iter().find(|known| *known == endpoint)?;
    let checks = checks(core, endpoint);
    if let Some(name) = one {
        // The store is checked as a part of the whole only, as upstream's readiness does.
        let known = checks.iter().find(|check| **check == name && !(endpoint == "readyz" && name == "etcd"))?;
        return Some(match check(core, endpoint, known).await {
            Ok(()) => response::text(StatusCode::OK, "ok"),
            Err(why) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    Some(report(core, endpoint, &checks, query).await)
}

/// The paths of everything that can be asked.
pub(crate) fn paths(core: &Core) -> Vec<String> {
    let below = |endpoint: &str| {
        let checks = checks(core, endpoint);
        let own = checks.into_iter().filter(|check| !(endpoint == "readyz" && check == "etcd"));
        own.map(|check| format!("/{endpoint}/{check}")).collect::<Vec<_>>()
    };
    ENDPOINTS.iter().flat_map(|endpoint| std::iter::once(format!("/{endpoint}")).chain(below(endpoint))).collect()
}

/// The checks of an endpoint, in order.
fn checks(core: &Core, endpoint: &str) -> Vec<String> {
    let is_ready = endpoint == "readyz";
    let first = FIRST.into_iter().chain(READY.into_iter().filter(|_| is_ready)).map(str::to_owned);
    let hooks = WHEN_FILLED.into_iter().chain(WHEN_MADE).map(|hook| format!("{HOOK}{hook}"));
    // Services that keep keys are checked everywhere, as upstream does.
    let services = core.at_rest.as_ref().and_then(|at_rest| at_rest.health_check());
    let last = [REGISTERED].into_iter().chain(services).chain(is_ready.then_some(SHUTDOWN));
    first.chain(hooks).chain(last.map(str::to_owned)).collect()
}

async fn report(core: &Core, endpoint: &'static str, checks: &[String], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    // At once: those that ask the store wait for it together.
    let outcomes = checks.iter().map(|name| checked(core, endpoint, name, &excluded));
    for (name, outcome) in checks.iter().zip(join_all(outcomes).await) {
        let line = match outcome {
            Ok(true) => format!("[+]{name} excluded: ok\n"),
            Ok(false) => format!("[+]{name} ok\n"),
            Err(why) => {
                failed = true;
                tracing::warn!(check = name, %why, "health check failed");
                format!("[-]{name} failed: reason withheld\n")
            }
        };
        lines.push_str(&line);
    }
    if failed {
        return response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"));
    }
    if query.get("verbose").is_none() {
        return response::text(StatusCode::OK, "ok");
    }
    response::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
}

/// Checks one thing, unless it is excluded: then the answer is `true`.
async fn checked(core: &Core, endpoint: &'static str, name: &str, excluded: &[&str]) -> Result<bool, String> {
    if excluded.contains(&name) {
        return Ok(true);
    }
    check(core, endpoint, name).await.map(|()| false)
}

/// Checks one thing, and counts what came of it.
async fn check(core: &Core, endpoint: &'static str, name: &str) -> Result<(), String> {
    let outcome = outcome(core, name).await;
    core.slis.count(endpoint, name, outcome.is_ok());
    outcome
}

async fn outcome(core: &Core, name: &str) -> Result<(), String> {
    if let Some(hook) = name.strip_prefix(HOOK) {
        let is_done = if WHEN_MADE.contains(&hook) { core.is_bootstrapped() } else { core.is_filled() };
        return if is_done { Ok(()) } else { Err("not finished".into()) };
    }
    match name {
        "kms-providers" => match &core.at_rest {
            Some(at_rest) => at_rest.check().await,
            None => Ok(()),
        },
        // It fails while writes fail, be it for want of room.
        "etcd" | "etcd-readiness" => match time::timeout(STORE_TIMEOUT, core.registry.store().check()).await {
            Ok(outcome) => outcome.map_err(|err| with_causes(&err)),
            Err(_) => Err(format!("the store did not answer within {STORE_TIMEOUT:?}")),
        },
        "informer-sync" if !core.is_filled() => Err("the watch cache is being filled".into()),
        "informer-sync" if !core.registry.cache().was_whole() => {
            Err(format!("{} values in the store cannot be read", core.registry.cache().unreadable()))
        }
        REGISTERED if !core.is_bootstrapped() => Err("missing APIService".into()),
        SHUTDOWN if core.stopping.is_cancelled() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}
