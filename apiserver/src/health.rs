//! `/healthz`, `/livez` and `/readyz`, with their checks one by one.

use std::time::Duration;

use http::StatusCode;
use tokio::time;

use crate::error::with_causes;
use crate::query::Query;
use crate::response::{self, Answer};
use crate::server::Core;

/// The checks of each endpoint, in order.
const LIVE: [&str; 3] = ["ping", "log", "etcd"];
const READY: [&str; 7] = ["ping", "log", "etcd", "informer-sync", "watch-cache", "poststarthook/bootstrap", "shutdown"];

/// A store that does not answer for so long is not well: upstream's `--etcd-healthcheck-timeout`.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a health path; `None` when it is not one.
pub(crate) async fn answer(core: &Core, path: &str, query: &Query) -> Option<Answer> {
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let (endpoint, one) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, one)) => (endpoint, Some(one)),
        None => (path.trim_start_matches('/'), None),
    };
    let checks: &[&str] = match endpoint {
        "healthz" | "livez" => &LIVE,
        "readyz" => &READY,
        _ => return None,
    };
    // Services that keep keys are checked everywhere, as upstream does.
    let services = core.at_rest.as_ref().and_then(|at_rest| at_rest.health_check());
    let checks: &[&str] = &checks.iter().copied().chain(services).collect::<Vec<_>>();
    if let Some(name) = one {
        // The store is checked as a part of the whole only, as upstream's readiness does.
        let known = checks.iter().find(|check| **check == name && !(endpoint == "readyz" && name == "etcd"))?;
        return Some(match check(core, known).await {
            Ok(()) => response::text(StatusCode::OK, "ok"),
            Err(why) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    Some(report(core, endpoint, checks, query).await)
}

async fn report(core: &Core, endpoint: &str, checks: &[&str], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for name in checks {
        let outcome = if excluded.contains(name) { Ok(true) } else { check(core, name).await.map(|()| false) };
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

async fn check(core: &Core, name: &str) -> Result<(), String> {
    match name {
        "kms-providers" => match &core.at_rest {
            Some(at_rest) => at_rest.check().await,
            None => Ok(()),
        },
        // It fails while writes fail, be it for want of room.
        "etcd" => match time::timeout(STORE_TIMEOUT, core.registry.store().check()).await {
            Ok(outcome) => outcome.map_err(|err| with_causes(&err)),
            Err(_) => Err(format!("the store did not answer within {STORE_TIMEOUT:?}")),
        },
        "informer-sync" | "watch-cache" if !core.is_filled() => Err("the watch cache is being filled".into()),
        "informer-sync" if !core.registry.cache().was_whole() => {
            Err(format!("{} values in the store cannot be read", core.registry.cache().unreadable()))
        }
        "poststarthook/bootstrap" if !core.is_bootstrapped() => Err("bootstrap objects are being created".into()),
        "shutdown" if core.stopping.is_cancelled() => Err("shutting down".into()),
        _ => Ok(()),
    }
}
