//! Many short stories on one cluster, some at a time, each in a namespace of its own.
//!
//! A story that fails does not stop the others: all that failed are named at the end. `CASES=part-of-a-name` plays only some.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::command::{Output, Run as _, eventually};

/// How many are played at a time.
const AT_ONCE: usize = 6;
/// How long one waits for what it expects: far more than it takes, for slow machines.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one waits between two looks: each is a process, and there are many stories.
const PAUSE: Duration = Duration::from_millis(200);

/// A story: its name, which becomes its namespace's, and what happens in it.
#[derive(Clone, Copy)]
pub struct Case {
    /// Lower-case words with dashes between them.
    pub name: &'static str,
    /// Panics when something is not as it should be.
    pub play: fn(&Ground<'_>),
}

/// Where a story takes place.
pub struct Ground<'a> {
    /// The whole cluster, for what has no namespace.
    pub cluster: &'a Cluster,
    /// The namespace of this story alone.
    pub namespace: &'static str,
}

impl Ground<'_> {
    /// Runs kubectl in the story's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    /// A kubectl command in the story's namespace, to run in another way.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let arguments = [&["--namespace", self.namespace], arguments].concat();
        self.cluster.kubectl_command(&arguments)
    }

    /// Applies a manifest, in which `IMAGE` stands for the image with busybox.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let manifest = manifest.replace("IMAGE", &self.cluster.image("busybox:1"));
        self.command(&["apply", "-f", "-"]).output_with(&manifest).ok();
    }

    /// What a shell command prints in a pod's first container, without surrounding space.
    #[track_caller]
    pub fn exec(&self, pod: &str, script: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script]).ok().to_owned()
    }

    /// The value of a JSONPath of an object, such as `pod/p`; empty where there is none.
    #[track_caller]
    pub fn value(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")]).ok().to_owned()
    }

    /// Waits until the value of a JSONPath is `wanted`.
    #[track_caller]
    pub fn wait_for(&self, object: &str, path: &str, wanted: &str) {
        let mut last = String::new();
        let output = format!("jsonpath={path}");
        let within = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < within {
            let found = self.kubectl(&["get", object, "-o", &output]);
            last = format!("{}{}", found.stdout.trim(), found.stderr);
            if found.success && last == wanted {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("{object} {path} is not {wanted:?} within {PATIENCE:?}; last: {last:?}\n{}", self.told());
    }

    /// Waits until `holds` says so.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        eventually(what, PATIENCE, || {
            let found = holds().then_some(());
            if found.is_none() {
                std::thread::sleep(PAUSE);
            }
            found
        });
    }

    /// Pods and events of the namespace, for messages.
    fn told(&self) -> String {
        self.kubectl(&["get", "pods,events", "-o", "wide"]).stdout
    }
}

/// Plays all of them, and panics with the names of those that failed.
pub fn play(cluster: &Cluster, cases: &[Case]) {
    let wanted = std::env::var("CASES").unwrap_or_default();
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two stories have the same name");
    let left = Mutex::new(cases.iter().filter(|case| case.name.contains(&wanted)));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = { left.lock().expect("nobody panics with it").next() } {
                    if !play_one(cluster, case) {
                        failed.lock().expect("nobody panics with it").push(case.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("all threads have ended");
    assert!(failed.is_empty(), "{} of {} failed: {}", failed.len(), cases.len(), failed.join(", "));
}

fn play_one(cluster: &Cluster, case: &Case) -> bool {
    let ground = Ground { cluster, namespace: case.name };
    let began = std::time::Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| {
        cluster.kubectl(&["create", "namespace", case.name]).ok();
        let account = || ground.kubectl(&["get", "serviceaccount", "default"]).success;
        ground.wait_until("the namespace has its account", account);
        (case.play)(&ground);
    }));
    let is_fine = result.is_ok();
    eprintln!("{} {} in {:.1?}", if is_fine { "played" } else { "FAILED" }, case.name, began.elapsed());
    // Failed or not, nothing of it stays in the way of the others.
    cluster.kubectl(&["delete", "namespace", case.name, "--wait=false"]);
    is_fine
}
