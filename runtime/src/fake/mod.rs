//! A runtime in memory: the whole [`Runtime`](crate::Runtime) trait without a kernel, and knobs for tests.
//!
//! By default every pull succeeds, containers run until they are stopped, and `exec` ends with code 0 and no output.
//! Clones share one state. Delays use tokio's clock, so a paused test needs no real time.
//!
//! Beside tests it stands behind hollow nodes: [`FakeRuntime::scripted`] asks each pod what its containers do, and
//! remembers no more than is there.

mod runtime;
mod state;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::{Error, Event, ExecOutput, Exit, SandboxConfig};
use state::State;

/// Events that a slow reader may fall behind before it gets [`Event::Resync`].
const EVENT_BACKLOG: usize = 1024;

/// What a container does when it is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behavior {
    /// Runs until it is stopped, and ends at the stop signal with code 0.
    #[default]
    Run,
    /// Ends by itself.
    Exit { after: Duration, code: i32 },
    /// Ends by itself, out of memory.
    OutOfMemory { after: Duration },
    /// Runs and ignores the stop signal: only the kill after the grace period ends it, with code 137.
    IgnoreStop,
    /// Cannot be started: `start_container` fails with this text.
    FailStart(String),
}

/// How one start of a container goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// How long the start takes.
    pub delay: Duration,
    /// What the container does then.
    pub behavior: Behavior,
}

/// Reads what a pod's containers do from its sandbox; a text that says what is wrong with that fails their starts.
pub type ScriptOf = dyn Fn(&SandboxConfig) -> Result<Script, String> + Send + Sync;

/// Answers `exec`: gets the container's name and the command.
pub type ExecHandler = dyn Fn(&str, &[String]) -> ExecOutput + Send + Sync;

/// The fake. See the module.
#[derive(Clone)]
pub struct FakeRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Grows with every change, for those who wait.
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    tasks: Mutex<JoinSet<()>>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeRuntime {
    /// An empty node with the pod CIDR `10.244.0.0/24`.
    pub fn new() -> Self {
        Self::with(State::default())
    }

    /// The same, whose pods say what their containers do. It may run for long: no calls are recorded.
    pub fn scripted(of: impl Fn(&SandboxConfig) -> Result<Script, String> + Send + Sync + 'static) -> Self {
        Self::with(State::scripted(Arc::new(of)))
    }

    fn with(state: State) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: watch::Sender::new(0),
                events: broadcast::Sender::new(EVENT_BACKLOG),
                tasks: Mutex::new(JoinSet::new()),
            }),
        }
    }

    /// Says what containers of this name do at their next starts; the last entry repeats.
    pub fn behave(&self, container: &str, behaviors: impl IntoIterator<Item = Behavior>) {
        self.state().behaviors.insert(container.to_owned(), behaviors.into_iter().collect());
    }

    /// Makes pulls of `image` fail with the registry's words `reason`, until [`Self::allow_pull`].
    pub fn fail_pull(&self, image: &str, reason: &str) {
        self.state().pull_failures.insert(image.to_owned(), reason.to_owned());
    }

    /// Makes pulls of `image` succeed again.
    pub fn allow_pull(&self, image: &str) {
        self.state().pull_failures.remove(image);
    }

    /// Makes every pull take this long.
    pub fn delay_pulls(&self, delay: Duration) {
        self.state().pull_delay = delay;
    }

    /// Puts an image on the node, running as `user` (`USER` of its configuration).
    pub fn add_image(&self, image: &str, user: &str) {
        self.state().add_image(image, user);
    }

    /// Makes `run_sandbox` fail with `reason`, or succeed again.
    pub fn fail_sandboxes(&self, reason: Option<&str>) {
        self.state().sandbox_failure = reason.map(str::to_owned);
    }

    /// Makes `check` fail with `reason`, or succeed again.
    pub fn fail_check(&self, reason: Option<&str>) {
        self.state().check_failure = reason.map(str::to_owned);
    }

    /// Sets what `exec` and `exec_sync` do, in all containers.
    pub fn on_exec(&self, handler: impl Fn(&str, &[String]) -> ExecOutput + Send + Sync + 'static) {
        self.state().exec = Arc::new(handler);
    }

    /// Makes every `exec` take this long; one longer than its time limit fails with [`Error::Timeout`].
    pub fn delay_exec(&self, delay: Duration) {
        self.state().exec_delay = delay;
    }

    /// Leads `port_forward` to `port` of any sandbox to a real listener.
    pub fn forward_port(&self, port: u16, to: SocketAddr) {
        self.state().ports.insert(port, to);
    }

    /// Sets what `container_stats` answers for containers of this name, and `sandbox_stats` for such pods.
    pub fn set_stats(&self, container: &str, stats: crate::Stats) {
        self.state().stats.insert(container.to_owned(), stats);
    }

    /// Ends a running container with an exit code, as its process would.
    pub fn exit_container(&self, id: &str, code: i32) -> Result<(), Error> {
        self.end(id, exit(code))
    }

    /// Ends a running container as the kernel's out-of-memory killer would.
    pub fn oom_kill_container(&self, id: &str) -> Result<(), Error> {
        self.end(id, out_of_memory())
    }

    /// Ends a sandbox and what runs in it, as if its shim had died.
    pub fn kill_sandbox(&self, id: &str) -> Result<(), Error> {
        let ended = self.state().end_sandbox(id)?;
        self.publish(ended);
        Ok(())
    }

    /// Tells of system calls of a running container, as its watchman would.
    pub fn tell_calls(&self, id: &str, calls: crate::WatchedCalls) -> Result<(), Error> {
        let sandbox = self.state().running(id)?.status.sandbox.clone();
        self.publish(vec![Event::WatchedCalls { sandbox, container: id.to_owned(), calls }]);
        Ok(())
    }

    /// Writes a line to the container's log file and to whoever is attached.
    pub fn print(&self, id: &str, line: &str) -> Result<(), Error> {
        self.state().print(id, line)
    }

    /// Every trait call that changes something, in order: `run_sandbox <namespace>/<name>`, `start_container <name>`, ...
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Waits until `condition` holds for the calls made so far.
    pub async fn wait_for_calls(&self, condition: impl Fn(&[String]) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !condition(&self.state().calls) {
            changed.changed().await.expect("the sender lives as long as self");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic under this lock")
    }

    fn record(&self, call: String) {
        let mut state = self.state();
        if state.script.is_none() {
            state.calls.push(call);
        }
        drop(state);
        self.touch();
    }

    fn touch(&self) {
        self.shared.changed.send_modify(|version| *version += 1);
    }

    fn publish(&self, events: Vec<Event>) {
        for event in events {
            // No subscriber is fine.
            let _ = self.shared.events.send(event);
        }
        self.touch();
    }

    fn end(&self, id: &str, exit: Exit) -> Result<(), Error> {
        let ended = self.state().end_container(id, exit)?;
        self.publish(ended);
        Ok(())
    }

    /// Runs `task` beside the test, without keeping the fake alive.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.shared.tasks.lock().expect("no panic under this lock");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends a container after a while, unless it has ended by then or the fake is gone.
    fn end_later(&self, id: &str, after: Duration, exit: impl FnOnce() -> Exit + Send + 'static) {
        let (shared, id) = (Arc::downgrade(&self.shared), id.to_owned());
        self.spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(shared) = shared.upgrade() {
                // The container may be gone or have ended already.
                let _ = FakeRuntime { shared }.end(&id, exit());
            }
        });
    }
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        signal: (code > 128).then(|| code - 128),
        started_at: None,
        finished_at: SystemTime::now(),
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
    }
}

fn out_of_memory() -> Exit {
    Exit { reason: "OOMKilled".to_owned(), ..exit(137) }
}

fn no_output() -> ExecOutput {
    ExecOutput { stdout: Vec::new(), stderr: Vec::new(), exit_code: 0 }
}

type Named<T> = BTreeMap<String, T>;
