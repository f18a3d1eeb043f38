//! Processes that stand still (SIGSTOP) for longer than their lease lasts, and go on (SIGCONT) as if nothing had been: the
//! cluster goes on without them, and whoever led before does nothing that others have done meanwhile.
//!
//! Two API servers, controller managers and schedulers share the work, as in a highly available cluster. Each process is
//! stopped in turn, while ConfigMaps are written by way of both API servers and a Deployment grows; leaders in the middle of
//! what they do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pods;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::{MEMBERS, SECONDS, SeparateCluster, Writes, can_run_separate, eventually};
use faults::Attack;
use pods::Pods;

const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than the leases of leaders, and their patience with servers.
const HELD: Duration = Duration::from_secs(9);
/// Longer than a node need not be heard of.
const NODE_HELD: Duration = Duration::from_secs(30);
/// For this long after it goes on, a process could do what it was about to.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Acknowledged writes by way of each API server after which it serves again.
const ENOUGH: u64 = 10;
/// Pods of the Deployment at rest, and while it is grown.
const FEW: usize = 2;
const MANY: usize = 8;
/// How many more a rollout of few may have (`maxSurge`).
const SURGE: usize = 1;
const LEASES: [(&str, [&str; 2]); 2] = [
    ("kube-controller-manager", ["controller-manager", "controller-manager-2"]),
    ("kube-scheduler", ["scheduler", "scheduler-2"]),
];

/// Who is stopped, one after the other; those without a lease at once.
const TURNS: [&[&str]; 9] = [
    &["etcd"],
    &["apiserver"],
    &["controller-manager"],
    &["scheduler"],
    &["kubelet"],
    &["proxy", "network-policy", "dns"],
    &["apiserver-2"],
    &["controller-manager-2"],
    &["scheduler-2"],
];

fn workload(image: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: roam}}
spec:
  replicas: {FEW}
  strategy: {{rollingUpdate: {{maxSurge: {SURGE}, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: roam}}}}
  template:
    metadata: {{labels: {{app: roam}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: sleep, image: "{image}", command: [sleep, "100000"]}}]
"#
    )
}

#[test]
fn whichever_process_is_stopped_for_longer_than_its_lease_nothing_is_lost_or_done_twice() {
    if !can_run_separate() {
        return;
    }
    let cluster = SeparateCluster::doubled();
    cluster.apply(&workload(&cluster.image("busybox:1")));
    let users = ["admin", "admin-2"];
    let mut game = Game {
        writes: users.map(|user| Writes::start(&cluster.kubeconfig(user), user)),
        pods: users.map(|user| Pods::watch(&cluster.kubeconfig(user), FEW)),
        stops: 0,
        ended: Vec::new(),
        cluster,
    };
    game.comes_to(FEW);
    for (lease, _) in LEASES {
        game.tell(&format!("the holder of {lease}"), |game| game.a_leader_is_stopped_while_the_deployment_grows(lease));
    }
    game.tell("the controller manager, in a rollout,", Game::the_controller_manager_is_stopped_while_it_rolls_out);
    let all: BTreeSet<&str> = MEMBERS.into_iter().chain(SECONDS).collect();
    assert_eq!(TURNS.concat().into_iter().collect::<BTreeSet<_>>(), all);
    for names in TURNS {
        game.tell(&names.join(", "), |game| game.processes_are_stopped(names));
    }
    game.end();
}

/// The cluster, and what is asked of it all the time.
struct Game {
    // First: they end before the cluster does.
    writes: [Writes; 2],
    pods: [Pods; 2],
    /// How many processes were stopped.
    stops: u64,
    /// The processes that ended because they had lost their lease.
    ended: Vec<&'static str>,
    cluster: SeparateCluster,
}

impl Game {
    /// Tells how long it took.
    fn tell(&mut self, what: &str, play: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        play(self);
        eprintln!("{:5.1} s  {what} stopped", start.elapsed().as_secs_f32());
    }

    fn a_leader_is_stopped_while_the_deployment_grows(&mut self, lease: &str) {
        let leader = self.leader(lease);
        self.scales_to(MANY);
        // In the middle: some pods are made, or placed, and others not.
        let is_scheduler = lease == "kube-scheduler";
        let begun = |pods: &Pods| if is_scheduler { pods.placed() > FEW } else { pods.live() > FEW };
        self.awaits_at_once(begun);
        self.stop(&[leader]);
        self.is_led_by_another(lease, leader);
        self.comes_to(MANY);
        self.go_on(&[leader]);
        self.shrinks();
    }

    fn the_controller_manager_is_stopped_while_it_rolls_out(&mut self) {
        let (lease, _) = LEASES[0];
        let leader = self.leader(lease);
        let before: BTreeSet<String> = self.pods[0].names().into_iter().collect();
        self.pods.iter().for_each(|pods| pods.allow(FEW + SURGE));
        self.kubectl(&["set", "env", "deployment/roam", "ROUND=2"]);
        self.awaits_at_once(|pods| pods.names().iter().any(|name| !before.contains(name)));
        self.stop(&[leader]);
        self.is_led_by_another(lease, leader);
        self.kubectl(&["rollout", "status", "deployment/roam", "--timeout=90s"]);
        self.go_on(&[leader]);
        self.comes_to(FEW);
        assert!(self.pods[0].names().iter().all(|name| !before.contains(name)), "all pods are new");
        self.pods.iter().for_each(|pods| pods.allow(FEW));
    }

    /// Any processes, leaders or not, for longer than a lease; meanwhile the Deployment is to grow, which may have to wait.
    fn processes_are_stopped(&mut self, names: &[&'static str]) {
        self.stop(names);
        // Without etcd nobody can be asked.
        if names != ["etcd"] {
            self.pods.iter().for_each(|pods| pods.allow(MANY));
            let scale = ["scale", "deployment/roam", &format!("--replicas={MANY}")];
            let by_second = names == ["apiserver"];
            let scaled = if by_second { self.cluster.kubectl_by_second(&scale) } else { self.cluster.kubectl(&scale) };
            scaled.ok();
        }
        if names == ["kubelet"] {
            passes(NODE_HELD);
            self.node_is("Unknown");
            self.go_on(names);
            self.node_is("True");
        } else {
            passes(HELD);
            self.go_on(names);
        }
        self.scales_to(MANY);
        self.comes_to(MANY);
        self.shrinks();
    }

    fn stop(&mut self, names: &[&'static str]) {
        for name in names {
            self.cluster.member(name).stop();
            self.stops += 1;
        }
    }

    /// Processes go on, and have time to do harm. Whoever lost a lease has ended, and is started again.
    fn go_on(&mut self, names: &[&'static str]) {
        names.iter().for_each(|name| self.cluster.member(name).go_on());
        passes(AFTERMATH);
        self.starts_what_ended();
        for writes in &self.writes {
            writes.go_on(ENOUGH);
        }
    }

    fn starts_what_ended(&mut self) {
        for name in self.cluster.start_ended() {
            self.ended.push(name);
            let times = self.ended.iter().filter(|ended| **ended == name).count();
            let member = self.cluster.member(name);
            assert_eq!(
                member.times_said(&["lost the lease"]),
                times,
                "nothing else is a reason to end: {}",
                member.log()
            );
        }
    }

    /// The process that holds a lease.
    fn leader(&mut self, lease: &str) -> &'static str {
        let (_, candidates) = LEASES.iter().find(|(name, _)| *name == lease).unwrap();
        eventually(&format!("somebody holds {lease}"), PATIENCE, || {
            self.starts_what_ended();
            let holder = self.holder(lease)?;
            candidates.iter().find(|name| self.cluster.member(name).times_said(&["leading", &holder]) > 0).copied()
        })
    }

    fn holder(&self, lease: &str) -> Option<String> {
        let holder = ["get", "lease", "-n", "kube-system", lease, "-o", "jsonpath={.spec.holderIdentity}"];
        Some(self.cluster.kubectl(&holder).stdout.trim().to_owned()).filter(|holder| !holder.is_empty())
    }

    fn is_led_by_another(&mut self, lease: &str, than: &str) {
        eventually(&format!("another one than {than} leads"), PATIENCE, || {
            let holder = self.holder(lease)?;
            (self.cluster.member(than).times_said(&["leading", &holder]) == 0).then_some(())
        });
    }

    fn node_is(&self, ready: &str) {
        let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        eventually(&format!("whether the node is ready is {ready}"), PATIENCE, || {
            (self.cluster.kubectl(&["get", "nodes", "-o", path]).stdout.trim() == ready).then_some(())
        });
    }

    /// Asks until there is an answer: a server may just have gone on.
    fn kubectl(&self, arguments: &[&str]) {
        eventually(&arguments.join(" "), PATIENCE, || self.cluster.kubectl(arguments).success.then_some(()));
    }

    fn scales_to(&self, replicas: usize) {
        self.pods.iter().for_each(|pods| pods.allow(MANY));
        self.kubectl(&["scale", "deployment/roam", &format!("--replicas={replicas}")]);
    }

    fn shrinks(&mut self) {
        self.scales_to(FEW);
        self.comes_to(FEW);
        self.pods.iter().for_each(|pods| pods.allow(FEW));
    }

    /// Waits until so many pods are ready, and both watches know of them and no others.
    fn comes_to(&mut self, replicas: usize) {
        let path = "jsonpath={.status.availableReplicas} {.status.replicas}";
        eventually(&format!("there are {replicas} pods"), PATIENCE, || {
            self.starts_what_ended();
            let status = self.cluster.kubectl(&["get", "deployment", "roam", "-o", path]);
            let all_know = self.pods.iter().all(|pods| pods.live() == replicas);
            (all_know && status.stdout.trim() == format!("{replicas} {replicas}")).then_some(())
        });
    }

    /// Waits for what one of the watches tells, without a moment's delay.
    fn awaits_at_once(&self, holds: impl Fn(&Pods) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.pods.iter().any(&holds) {
            assert!(Instant::now() < deadline, "the Deployment does not grow");
            std::thread::yield_now();
        }
    }

    /// Compares what was acknowledged with what is there.
    fn end(self) {
        let Self { writes, pods, stops, ended, cluster } = self;
        let (mut acknowledged, mut unanswered, mut wrong) = (0, 0, Vec::new());
        for (user, writes) in ["admin", "admin-2"].iter().zip(writes) {
            let done = writes.stop();
            acknowledged += done.names.len() as u64 + done.counter;
            unanswered += done.unanswered;
            for kubectl in [SeparateCluster::kubectl, SeparateCluster::kubectl_by_second] {
                let there = kubectl(&cluster, &["get", "configmaps", "-o", "name"]);
                let there: BTreeSet<&str> = there.ok().lines().map(str::trim).collect();
                let lost = done.names.iter().filter(|name| !there.contains(format!("configmap/{name}").as_str()));
                wrong.extend(lost.map(|name| format!("{name} is lost")));
                let counter = ["get", "configmap", &format!("{user}-counter"), "-o", "jsonpath={.data.value}"];
                let counter: u64 = kubectl(&cluster, &counter).ok().parse().unwrap();
                wrong.extend((counter < done.counter).then(|| format!("{counter} is less than {}", done.counter)));
            }
        }
        for pods in pods {
            let (found, listed) = pods.end();
            wrong.extend(found);
            wrong.extend((listed > 1).then(|| format!("a watch had to list {listed} times")));
        }
        wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
        let attack =
            Attack::new("separate processes: each stopped for longer than its lease, and continued, under writes")
                .tried(acknowledged, wrong.len() as u64)
                .figure("processes stopped", stops)
                .figure("leaders that ended after it", ended.len())
                .figure("writes without an answer", unanswered);
        eprintln!("{attack:?}; {ended:?}");
        attack.record();
        assert!(ended.len() >= 3, "three leaders had others take over: {ended:?}");
    }
}

/// Lets time pass.
fn passes(time: Duration) {
    let start = Instant::now();
    eventually("time passes", PATIENCE, || (start.elapsed() >= time).then_some(()));
}
