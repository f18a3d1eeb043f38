use futures::FutureExt as _;
use http::Method;

use super::config::{LevelSpec, Schema};
use super::*;

/// The default configuration with so many seats.
fn fair(seats: u32) -> Arc<Fair> {
    let fair = Arc::new(Fair::new(seats, TaskTracker::new()));
    let objects = crate::bootstrap::flow_objects();
    let schemas = objects.iter().filter(|object| object.kind() == "FlowSchema").filter_map(Schema::read);
    let levels = objects.iter().filter(|object| object.kind() != "FlowSchema").filter_map(LevelSpec::read);
    fair.configure(schemas.collect(), levels.collect());
    fair
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..User::default() }
}

fn somebody(name: &str) -> User {
    user(name, &["system:authenticated"])
}

fn classify(fair: &Fair, user: &User, method: &Method, path: &str) -> Class {
    let query = Query::parse("");
    fair.classify(user, &RequestInfo::parse(method, path, &query), &query, None)
}

async fn seat(class: &Class) -> Result<level::Seat, level::TurnedAway> {
    class.flow.seat(class.hash, class.work, LONGEST_WAIT).await
}

#[test]
fn requests_are_classified_as_upstream_does() {
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
    const OTHER_LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/a/leases/x";
    let fair = fair(600);
    let all = "system:authenticated";
    let admin = user("admin", &["system:masters", all]);
    let node = user("system:node:n", &["system:nodes", all]);
    let manager = user("system:kube-controller-manager", &[all]);
    let scheduler = user("system:kube-scheduler", &[all]);
    let system = user("system:serviceaccount:kube-system:endpoint-controller", &["system:serviceaccounts", all]);
    let account = user("system:serviceaccount:a:b", &["system:serviceaccounts", all]);
    let nobody = user("system:anonymous", &["system:unauthenticated"]);
    let (get, put) = (Method::GET, Method::PUT);
    for (user, method, path, schema, level) in [
        (&admin, &get, "/api/v1/pods", "exempt", "exempt"),
        (&nobody, &get, "/readyz", "probes", "exempt"),
        (&nobody, &get, "/livez/ping", "probes", "exempt"),
        (&nobody, &get, "/version", "global-default", "global-default"),
        (&manager, &put, LEASE, "system-leader-election", "leader-election"),
        (&scheduler, &get, LEASE, "system-leader-election", "leader-election"),
        (&system, &put, OTHER_LEASE, "workload-leader-election", "leader-election"),
        (&system, &put, "/api/v1/namespaces/a/endpoints/e", "endpoint-controller", "workload-high"),
        (&node, &put, OTHER_LEASE, "system-node-high", "node-high"),
        (&node, &put, "/api/v1/nodes/n/status", "system-node-high", "node-high"),
        (&node, &get, "/api/v1/pods", "system-nodes", "system"),
        (&manager, &get, "/api/v1/pods", "kube-controller-manager", "workload-high"),
        (&scheduler, &get, "/api/v1/pods", "kube-scheduler", "workload-high"),
        (&system, &get, "/api/v1/pods", "kube-system-service-accounts", "workload-high"),
        (&account, &get, "/api/v1/pods", "service-accounts", "workload-low"),
        (&somebody("jane"), &get, "/api/v1/pods", "global-default", "global-default"),
        (&user("odd", &[]), &get, "/api/v1/pods", "catch-all", "catch-all"),
    ] {
        let class = classify(&fair, user, method, path);
        let got = (class.flow.schema.as_str(), class.flow.level.name.as_str());
        assert_eq!(got, (schema, level), "{} {method} {path}", user.name);
    }
}

#[tokio::test]
async fn a_full_level_holds_up_no_other_level() {
    let fair = fair(60);
    let flood = classify(&fair, &somebody("flood"), &Method::GET, "/api/v1/pods");
    let mut seats = Vec::new();
    let waiting = loop {
        let mut one = Box::pin(seat(&flood));
        match one.as_mut().now_or_never() {
            Some(taken) => seats.push(taken.unwrap()),
            None => break one,
        }
    };
    let all = "system:authenticated";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
    for (user, path) in [
        (user("system:node:n", &["system:nodes", all]), lease),
        (user("system:node:n", &["system:nodes", all]), "/api/v1/pods"),
        (user("system:kube-controller-manager", &[all]), lease),
        (user("system:kube-scheduler", &[all]), "/api/v1/pods"),
        (user("admin", &["system:masters"]), "/api/v1/pods"),
        (user("system:anonymous", &["system:unauthenticated"]), "/healthz"),
    ] {
        let class = classify(&fair, &user, &Method::GET, path);
        assert!(seat(&class).now_or_never().is_some_and(|taken| taken.is_ok()), "{} {path}", user.name);
    }
    // In the level itself, another flow is next.
    let other = classify(&fair, &somebody("other"), &Method::GET, "/api/v1/pods");
    let mut other = Box::pin(seat(&other));
    assert!(other.as_mut().now_or_never().is_none());
    drop(waiting);
    drop(seats.pop());
    assert!(other.now_or_never().unwrap().is_ok());
    drop(seats);
    assert!(flood.flow.level.is_idle());
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_comes_to_a_full_queue_is_turned_away() {
    let fair = fair(60);
    let class = classify(&fair, &somebody("flood"), &Method::GET, "/api/v1/pods");
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    // A hand of six queues with fifty places each.
    for _ in 0..1000 {
        let mut one = Box::pin(seat(&class));
        match one.as_mut().now_or_never() {
            Some(Ok(seat)) => held.push(seat),
            Some(Err(turned_away)) => assert!(turned_away.retry_after >= 1),
            None => waiting.push(one),
        }
    }
    assert_eq!(waiting.len(), 6 * 50);
    let started = tokio::time::Instant::now();
    assert!(waiting.pop().unwrap().await.is_err());
    assert!((LONGEST_WAIT..2 * LONGEST_WAIT).contains(&started.elapsed()));
    drop((waiting, held));
    let now = class.flow.level.now();
    assert_eq!((now.waiting, now.executing, now.seats_taken), (0, 0, 0));
}

#[tokio::test]
async fn seats_of_those_who_go_at_any_moment_are_given_back() {
    let fair = fair(60);
    let class = classify(&fair, &somebody("flood"), &Method::GET, "/api/v1/pods");
    for round in 0..50 {
        let mut all: Vec<_> = (0..20).map(|_| Box::pin(seat(&class))).collect();
        let mut held: Vec<_> = all.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
        // Some go before they were called, some after it and before they know.
        held.drain(..round % held.len());
        all.truncate(round % 20);
        drop(held);
        drop(all);
        let now = class.flow.level.now();
        assert_eq!((now.waiting, now.executing, now.seats_taken), (0, 0, 0), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_level_with_much_to_do_borrows_what_others_do_not_use() {
    let fair = fair(600);
    let class = classify(&fair, &somebody("jane"), &Method::GET, "/api/v1/pods");
    let limit = || class.flow.level.now().limit;
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut one = Box::pin(seat(&class));
        match one.as_mut().now_or_never() {
            Some(taken) => held.push(taken.unwrap()),
            None => waiting.push(one),
        }
    }
    let before = limit();
    tokio::time::sleep(fair::PERIOD).await;
    assert!(fair.adjust_now());
    let nominal = 49;
    assert!(limit() > before && limit() > 4 * nominal, "{before} -> {}", limit());
    let mut called = 0;
    for one in &mut waiting {
        // A task may do only so much at a time, and what it asks beyond that is not ready.
        tokio::task::consume_budget().await;
        called += usize::from(one.as_mut().now_or_never().is_some());
    }
    assert!(held.len() + called > 4 * nominal as usize, "those who waited are called");
    // When others need theirs, they get them back.
    let scheduler = user("system:kube-scheduler", &["system:authenticated"]);
    let other = classify(&fair, &scheduler, &Method::GET, "/api/v1/pods");
    let mut others: Vec<_> = (0..200).map(|_| Box::pin(seat(&other))).collect();
    let _taken: Vec<_> = others.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
    let borrowed = limit();
    tokio::time::sleep(fair::PERIOD).await;
    fair.adjust_now();
    assert!(limit() < borrowed && other.flow.level.now().limit >= 98, "{borrowed} -> {}", limit());
}

#[tokio::test]
async fn a_level_that_is_taken_away_goes_when_its_requests_have_gone() {
    let fair = fair(60);
    let class = classify(&fair, &somebody("jane"), &Method::GET, "/api/v1/pods");
    let held = seat(&class).await.unwrap();
    fair.configure(Vec::new(), Vec::new());
    let names = || {
        let mut names = Vec::new();
        fair.each_level(|book| names.push((book.spec.name.clone(), book.is_leaving)));
        names
    };
    let leaving = ("global-default".to_owned(), true);
    assert!(names().contains(&leaving) && names().len() == 3);
    assert_eq!(classify(&fair, &somebody("jane"), &Method::GET, "/").flow.level.name, "catch-all");
    drop(held);
    fair.adjust_now();
    assert_eq!(names().len(), 2);
}

#[tokio::test]
async fn reads_and_writes_have_seats_of_their_own_when_nothing_is_classified() {
    let limits = Limits { max_requests_inflight: 1, max_mutating_requests_inflight: 1, fair: false };
    let process = daemon::detached();
    let control = FlowControl::new(&limits, &process.metrics, &TaskTracker::new());
    let take = async |user: &User, method: Method, line: &str| {
        let (path, query) = line.split_once('?').unwrap_or((line, ""));
        let query = Query::parse(query);
        let info = RequestInfo::parse(&method, path, &query);
        let class = control.classify(user, &info, &query, None);
        assert!(class.is_none());
        control.seat(class.as_ref(), user, &info, None).await
    };
    let dev = somebody("dev");
    let seat = take(&dev, Method::GET, "/api/v1/pods").await.unwrap();
    assert_eq!(take(&dev, Method::GET, "/api/v1/pods").await.unwrap_err().code(), 429);
    assert!(take(&dev, Method::POST, "/api/v1/namespaces").await.is_ok(), "writes are counted apart");
    assert!(take(&dev, Method::GET, "/api/v1/pods?watch=1").await.unwrap().is_none(), "watches last");
    assert!(take(&user("a", &[MASTERS]), Method::GET, "/api/v1/pods").await.unwrap().is_none());
    drop(seat);
    assert!(take(&dev, Method::GET, "/api/v1/pods").await.is_ok());
}
