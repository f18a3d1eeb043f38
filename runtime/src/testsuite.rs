//! What every [`Runtime`] must do, as one suite that the fake and the local runtime both pass. Panics where one does not.
//!
//! Containers are real commands with names that say what they do, so that a fake can be told by name: `run` runs until
//! it is stopped, `exit` ends with code 3, `stubborn` ignores the stop signal, `bad` cannot be started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;

use crate::{ContainerConfig, ContainerState, Error, Event, Exit, Resources, Runtime, SandboxConfig};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime to test, with an image that has a shell.
pub struct Subject<'a> {
    pub runtime: &'a dyn Runtime,
    /// Id of an image on the node, with `/bin/sh` and `sleep`.
    pub image: String,
    /// What all sandboxes have in common, such as the directory for logs.
    pub sandbox: SandboxConfig,
}

/// Runs the whole suite.
pub async fn run(subject: &Subject<'_>) {
    a_container_goes_from_created_to_running_to_exited(subject).await;
    an_end_is_an_event_and_a_state(subject).await;
    what_ignores_the_signal_is_killed_after_the_grace(subject).await;
    a_failed_start_is_an_exit_with_code_128(subject).await;
    stopping_a_sandbox_ends_its_containers(subject).await;
    changed_limits_are_remembered(subject).await;
    moves_that_make_no_sense_are_refused(subject).await;
    stopping_and_removing_what_is_gone_succeeds(subject).await;
    images_are_found_by_id_and_removed_once(subject).await;
}

impl Subject<'_> {
    async fn new_sandbox(&self, name: &str) -> String {
        let config = SandboxConfig {
            name: name.to_owned(),
            cgroup_parent: format!("{}/{name}", self.sandbox.cgroup_parent),
            ..self.sandbox.clone()
        };
        self.runtime.run_sandbox(&config).await.expect("a sandbox").id
    }

    fn config(&self, name: &str) -> ContainerConfig {
        let script = match name {
            "run" => "trap 'exit 0' TERM; : > /dev/shm/up; while :; do sleep 1000 & wait $!; done",
            "exit" => "exit 3",
            "stubborn" => "trap '' TERM; : > /dev/shm/up; while :; do sleep 1; done",
            _ => "",
        };
        let command = if name == "bad" {
            vec!["no-such-program".to_owned()]
        } else {
            ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
        };
        let log_path = PathBuf::from(name).join("0.log");
        ContainerConfig { name: name.to_owned(), image: self.image.clone(), command, log_path, ..Default::default() }
    }

    async fn create(&self, sandbox: &str, name: &str) -> String {
        self.runtime.create_container(sandbox, &self.config(name)).await.expect("a container")
    }

    async fn start(&self, sandbox: &str, name: &str) -> String {
        let id = self.create(sandbox, name).await;
        self.runtime.start_container(&id).await.expect("a start");
        id
    }

    /// Waits until the container's shell has said what it does with signals.
    async fn up(&self, id: &str) {
        let command = ["/bin/sh", "-c", "until test -e /dev/shm/up; do sleep 0.01; done"].map(str::to_owned);
        let output = self.runtime.exec_sync(id, &command, PATIENCE).await.expect("an answer");
        assert_eq!(output.exit_code, 0);
    }

    async fn state(&self, id: &str) -> ContainerState {
        self.runtime.container_status(id).await.expect("a status").state
    }

    async fn exit(&self, id: &str) -> Exit {
        match self.state(id).await {
            ContainerState::Exited(exit) => exit,
            other => panic!("{id} is {other:?}, not exited"),
        }
    }

    async fn remove(&self, sandbox: &str) {
        self.runtime.remove_sandbox(sandbox).await.expect("a removal");
        let left = self.runtime.containers(Some(sandbox)).await.expect("a list");
        assert!(left.is_empty(), "containers of a removed sandbox: {left:?}");
    }
}

async fn a_container_goes_from_created_to_running_to_exited(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("lifecycle").await;
    let id = subject.create(&sandbox, "run").await;
    assert_eq!(subject.state(&id).await, ContainerState::Created);
    subject.runtime.start_container(&id).await.expect("a start");
    assert!(matches!(subject.state(&id).await, ContainerState::Running { .. }));
    assert!(matches!(subject.runtime.start_container(&id).await, Err(Error::WrongState { .. })));
    assert!(matches!(subject.runtime.remove_container(&id).await, Err(Error::WrongState { .. })));
    subject.up(&id).await;
    subject.runtime.stop_container(&id, PATIENCE).await.expect("a stop");
    let exit = subject.exit(&id).await;
    assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"));
    assert!(exit.started_at.is_some_and(|started| started <= exit.finished_at));
    subject.runtime.remove_container(&id).await.expect("a removal");
    assert!(matches!(subject.runtime.container_status(&id).await, Err(Error::NotFound { .. })));
    subject.remove(&sandbox).await;
}

async fn an_end_is_an_event_and_a_state(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("events").await;
    let mut events = subject.runtime.events();
    let id = subject.start(&sandbox, "exit").await;
    let ended = async {
        loop {
            match events.next().await.expect("events go on") {
                Event::ContainerExited { container, exit, .. } if container == id => return exit,
                _ => {}
            }
        }
    };
    let exit = tokio::time::timeout(PATIENCE, ended).await.expect("the event in time");
    assert_eq!((exit.code, exit.reason.as_str()), (3, "Error"));
    assert_eq!(subject.exit(&id).await, exit);
    subject.remove(&sandbox).await;
}

async fn what_ignores_the_signal_is_killed_after_the_grace(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("stubborn").await;
    let id = subject.start(&sandbox, "stubborn").await;
    subject.up(&id).await;
    subject.runtime.stop_container(&id, Duration::from_millis(200)).await.expect("a stop");
    let exit = subject.exit(&id).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    subject.remove(&sandbox).await;
}

async fn a_failed_start_is_an_exit_with_code_128(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("bad").await;
    let id = subject.create(&sandbox, "bad").await;
    let err = subject.runtime.start_container(&id).await.expect_err("no program");
    assert!(matches!(err, Error::Start { .. }), "{err}");
    let exit = subject.exit(&id).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
    subject.remove(&sandbox).await;
}

async fn stopping_a_sandbox_ends_its_containers(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("stop").await;
    let (running, created) = (subject.start(&sandbox, "run").await, subject.create(&sandbox, "exit").await);
    subject.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    assert_eq!(subject.exit(&running).await.code, 137);
    assert!(!matches!(subject.state(&created).await, ContainerState::Running { .. }));
    let all = subject.runtime.sandboxes().await.expect("a list");
    let stopped = all.iter().find(|status| status.id == sandbox && !status.ready).expect("its record stays");
    let own = subject.runtime.sandboxes_of(&stopped.config.uid).await.expect("a list");
    assert!(own.contains(stopped) && own.iter().all(|other| other.config.uid == stopped.config.uid));
    assert!(subject.runtime.sandboxes_of("nobody").await.expect("a list").is_empty());
    let refused = subject.runtime.create_container(&sandbox, &subject.config("run")).await;
    assert!(matches!(refused, Err(Error::WrongState { .. })));
    subject.remove(&sandbox).await;
}

async fn changed_limits_are_remembered(subject: &Subject<'_>) {
    let runtime = subject.runtime;
    let sandbox = subject.new_sandbox("limits").await;
    let id = subject.start(&sandbox, "run").await;
    let change = Resources { cpu_shares: 512, ..Resources::default() };
    runtime.update_sandbox(&sandbox, &change).await.expect("a change");
    let noted = BTreeMap::from([("note".to_owned(), "half a core".to_owned())]);
    runtime.update_container(&id, &change, &noted).await.expect("a change");
    let all = runtime.sandboxes().await.expect("a list");
    let pod = all.iter().find(|status| status.id == sandbox).expect("the sandbox");
    let expected = {
        let mut before = subject.sandbox.resources.clone();
        before.update(&change);
        before
    };
    assert_eq!(pod.config.resources, expected);
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(status.annotations["note"], "half a core");
    assert!(matches!(runtime.update_sandbox("nobody", &change).await, Err(Error::NotFound { .. })));
    assert!(matches!(runtime.update_container("nobody", &change, &noted).await, Err(Error::NotFound { .. })));
    subject.remove(&sandbox).await;
}

async fn moves_that_make_no_sense_are_refused(subject: &Subject<'_>) {
    let runtime = subject.runtime;
    assert!(matches!(runtime.start_container("nobody").await, Err(Error::NotFound { .. })));
    assert!(matches!(runtime.container_status("nobody").await, Err(Error::NotFound { .. })));
    let refused = runtime.create_container("nobody", &subject.config("run")).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    let sandbox = subject.new_sandbox("refused").await;
    let id = subject.create(&sandbox, "run").await;
    let refused = runtime.exec_sync(&id, &["true".to_owned()], PATIENCE).await;
    assert!(matches!(refused, Err(Error::WrongState { .. })));
    assert!(matches!(runtime.attach(&id).await.err(), Some(Error::WrongState { .. })));
    subject.remove(&sandbox).await;
}

async fn stopping_and_removing_what_is_gone_succeeds(subject: &Subject<'_>) {
    let sandbox = subject.new_sandbox("again").await;
    let id = subject.start(&sandbox, "run").await;
    subject.up(&id).await;
    for _ in 0..2 {
        subject.runtime.stop_container(&id, PATIENCE).await.expect("a stop");
    }
    for _ in 0..2 {
        subject.runtime.remove_container(&id).await.expect("a removal");
        subject.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    }
    for _ in 0..2 {
        subject.remove(&sandbox).await;
    }
}

async fn images_are_found_by_id_and_removed_once(subject: &Subject<'_>) {
    let runtime = subject.runtime;
    let image = runtime.image_status(&subject.image).await.expect("an answer").expect("the image");
    assert_eq!(image.id, subject.image);
    assert!(runtime.image_status("no-such-image").await.expect("an answer").is_none());
    runtime.remove_image("no-such-image").await.expect("nothing to do");
    for _ in 0..2 {
        runtime.remove_image(&image.id).await.expect("a removal");
    }
    assert!(runtime.image_status(&image.id).await.expect("an answer").is_none());
}
