use std::sync::Arc;

use tokio::sync::Notify;

use super::*;
use crate::fake::FakeApi;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/scheduler";

fn election(identity: &str) -> LeaderElection {
    LeaderElection { identity: identity.to_owned(), ..LeaderElection::new("scheduler", "host") }
}

fn holder(fake: &FakeApi) -> String {
    fake.get(PATH).map_or_else(String::new, |lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
}

/// Competes until it leads, then waits to be stopped.
async fn lead(
    fake: &FakeApi,
    identity: &str,
    shutdown: &CancellationToken,
    leading: &Notify,
) -> Result<Option<()>, Lost> {
    let work = |stop: CancellationToken| async move {
        leading.notify_one();
        stop.cancelled().await;
    };
    alone(identity, fake).run(shutdown.clone(), work).await
}

/// A candidate that knows nothing of others on its machine.
fn alone(identity: &str, fake: &FakeApi) -> Candidate {
    LeaderElection { presence: "/dev/null/nowhere".into(), ..election(identity) }.stand(fake.client())
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_passes_on_within_a_retry_period() {
    let fake = FakeApi::new();
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let (a_leads, b_leads) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script = async {
        a_leads.notified().await;
        assert_eq!(holder(&fake), "a");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(holder(&fake), "a", "renewing keeps the lease");
        first.cancel();
        let start = Instant::now();
        b_leads.notified().await;
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(holder(&fake), "b");
        assert_eq!(fake.get(PATH).unwrap()["spec"]["leaseTransitions"], 1);
        second.cancel();
    };
    let later = async {
        a_leads_first(&fake).await;
        lead(&fake, "b", &second, &b_leads).await
    };
    let (a, b, ()) = tokio::join!(lead(&fake, "a", &first, &a_leads), later, script);
    assert!(matches!((a, b), (Ok(Some(())), Ok(Some(())))));
    assert_eq!(holder(&fake), "", "released on shutdown");
}

async fn a_leads_first(fake: &FakeApi) {
    while holder(fake) != "a" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_may_lead() {
    let fake = FakeApi::new();
    let leading = Notify::new();
    let script = async {
        leading.notified().await;
        fake.set_failing(true);
        Instant::now()
    };
    let shutdown = CancellationToken::new();
    let (outcome, since) = tokio::join!(lead(&fake, "a", &shutdown, &leading), script);
    assert!(outcome.is_err());
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_when_its_lease_expires() {
    let fake = FakeApi::new();
    let spec = serde_json::json!({ "holderIdentity": "dead", "leaseDurationSeconds": 15 });
    fake.put(
        PATH,
        serde_json::json!({ "metadata": { "name": "scheduler", "namespace": "kube-system" }, "spec": spec }),
    );
    let (shutdown, leading, start) = (CancellationToken::new(), Notify::new(), Instant::now());
    let script = async {
        leading.notified().await;
        assert!(start.elapsed() >= Duration::from_secs(15) && start.elapsed() < Duration::from_secs(20));
        shutdown.cancel();
    };
    let (outcome, ()) = tokio::join!(lead(&fake, "a", &shutdown, &leading), script);
    assert!(outcome.is_ok());
}

#[test]
fn an_election_is_made_of_flags_and_checked() {
    let default = || LeaderElection::new("kube-controller-manager", "host");
    let flags = LeaderElectionArgs {
        leader_elect_renew_deadline: Some(Duration::from_secs(20)),
        leader_elect_resource_name: Some("mine".to_owned()),
        ..LeaderElectionArgs::default()
    };
    let election = default().with_flags(&flags);
    assert_eq!((election.name.as_str(), election.retry_period), ("mine", default().retry_period));
    assert!(election.check().is_err(), "the leader would go on after the lease ended");
    assert!(default().check().is_ok());
}

fn held_by(fake: &FakeApi, holder: &str) {
    let spec = serde_json::json!({ "holderIdentity": holder, "leaseDurationSeconds": 15 });
    let metadata = serde_json::json!({ "name": "scheduler", "namespace": "kube-system" });
    fake.put(PATH, serde_json::json!({ "metadata": metadata, "spec": spec }));
}

/// How long it takes `candidate` to lead.
async fn waits(candidate: Candidate) -> Duration {
    let (shutdown, start) = (CancellationToken::new(), Instant::now());
    let work = |_stop| async { start.elapsed() };
    candidate.run(shutdown, work).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_on_this_machine_is_replaced_at_the_next_look() {
    let (fake, signs) = (FakeApi::new(), tempfile::tempdir().unwrap());
    let stand =
        |identity: &str| LeaderElection { presence: signs.path().into(), ..election(identity) }.stand(fake.client());
    let lived = stand("lived");
    let sign = signs.path().join(election("lived").sign("lived"));
    held_by(&fake, "lived");
    assert!(waits(stand("b")).await >= Duration::from_secs(15), "it lives: only its lease can end");
    drop(lived);
    // What a process that was killed leaves: its sign, and nobody who holds it.
    std::fs::write(&sign, "").unwrap();
    held_by(&fake, "lived");
    assert!(waits(stand("c")).await < Duration::from_secs(3));
    assert!(!sign.exists(), "the new leader clears up");
    held_by(&fake, "elsewhere");
    assert!(waits(stand("d")).await >= Duration::from_secs(15), "nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_gives_the_lease_back() {
    let fake = FakeApi::new();
    let candidate = alone("a", &fake);
    let running = tokio::spawn(candidate.run(CancellationToken::new(), |_stop| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        panic!("work fails")
    }));
    let ended: Result<Result<Option<()>, Lost>, _> = running.await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(holder(&fake), "");
}

#[tokio::test(start_paused = true)]
async fn only_a_leader_can_write() {
    let fake = FakeApi::new();
    let candidate = alone("a", &fake);
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(candidate.client());
    let map = || k8s_openapi::api::core::v1::ConfigMap {
        metadata: ObjectMeta { name: Some("m".into()), ..ObjectMeta::default() },
        ..Default::default()
    };
    assert!(maps.create(&PostParams::default(), &map()).await.is_err());
    let work = |_stop| async { maps.create(&PostParams::default(), &map()).await.map(drop) };
    candidate.run(CancellationToken::new(), work).await.unwrap().unwrap().unwrap();
    assert!(maps.replace("m", &PostParams::default(), &map()).await.is_err(), "it has given the lease back");
}
