use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;

use super::{Behavior, FakeRuntime, Script};
use crate::{
    ContainerConfig, ContainerState, Error, Event, ExecOutput, ExecRequest, NamespaceOptions, Runtime as _,
    SandboxConfig,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn started(runtime: &FakeRuntime, name: &str) -> (String, String) {
    let image = runtime.pull_image("busybox", None).await.unwrap();
    let sandbox = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap();
    let config = ContainerConfig { name: name.into(), image: image.id, ..Default::default() };
    let id = runtime.create_container(&sandbox.id, &config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    (sandbox.id, id)
}

#[tokio::test(start_paused = true)]
async fn a_scripted_exit_happens_after_its_delay_and_is_an_event() {
    let runtime = FakeRuntime::new();
    runtime.behave("job", [Behavior::Exit { after: Duration::from_secs(5), code: 3 }]);
    let mut events = runtime.events();
    let (_, id) = started(&runtime, "job").await;
    assert!(matches!(events.next().await, Some(Event::ContainerStarted { .. })));
    let Some(Event::ContainerExited { exit, .. }) = events.next().await else { panic!("no exit") };
    assert_eq!((exit.code, exit.reason.as_str()), (3, "Error"));
    let status = runtime.container_status(&id).await.unwrap();
    assert!(matches!(status.state, ContainerState::Exited(_)));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ignores_the_signal_is_killed_after_the_grace() {
    let runtime = FakeRuntime::new();
    runtime.behave("stubborn", [Behavior::IgnoreStop]);
    let (_, id) = started(&runtime, "stubborn").await;
    let before = tokio::time::Instant::now();
    runtime.stop_container(&id, Duration::from_secs(30)).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(30));
    let ContainerState::Exited(exit) = runtime.container_status(&id).await.unwrap().state else { panic!() };
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

#[tokio::test]
async fn pulls_fail_with_the_registrys_words_until_allowed() {
    let runtime = FakeRuntime::new();
    runtime.fail_pull("nope", "manifest unknown");
    let err = runtime.pull_image("nope", None).await.unwrap_err();
    assert_eq!(err.to_string(), "failed to pull image \"nope\": manifest unknown");
    runtime.allow_pull("nope");
    assert_eq!(runtime.pull_image("nope", None).await.unwrap().tags, ["nope"]);
}

#[tokio::test]
async fn exec_answers_by_the_handler_and_echoes_stdin() {
    let runtime = FakeRuntime::new();
    runtime.on_exec(|name, command| ExecOutput {
        stdout: format!("{name}: {}\n", command.join(" ")).into_bytes(),
        stderr: Vec::new(),
        exit_code: 7,
    });
    let (_, id) = started(&runtime, "main").await;
    let request = ExecRequest { command: vec!["cat".into()], stdin: true, stdout: true, ..Default::default() };
    let mut session = runtime.exec(&id, &request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "main: cat\nhello");
    assert_eq!(session.exit.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_failed_start_is_an_error_and_an_exit_with_code_128() {
    let runtime = FakeRuntime::new();
    runtime.behave("bad", [Behavior::FailStart("exec: \"foo\": executable file not found in $PATH".into())]);
    let image = runtime.pull_image("busybox", None).await.unwrap();
    let sandbox = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap();
    let config = ContainerConfig { name: "bad".into(), image: image.id, ..Default::default() };
    let id = runtime.create_container(&sandbox.id, &config).await.unwrap();
    assert!(matches!(runtime.start_container(&id).await, Err(Error::Start { .. })));
    let ContainerState::Exited(exit) = runtime.container_status(&id).await.unwrap().state else { panic!() };
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
}

#[tokio::test]
async fn a_killed_sandbox_ends_its_containers_first() {
    let runtime = FakeRuntime::new();
    let (sandbox, _) = started(&runtime, "main").await;
    let mut events = runtime.events();
    runtime.kill_sandbox(&sandbox).unwrap();
    assert!(matches!(events.next().await, Some(Event::ContainerExited { .. })));
    assert_eq!(events.next().await, Some(Event::SandboxExited { sandbox }));
}

#[tokio::test(start_paused = true)]
async fn the_fake_passes_the_suite() {
    let runtime = FakeRuntime::new();
    runtime.behave("exit", [Behavior::Exit { after: Duration::from_secs(1), code: 3 }]);
    runtime.behave("stubborn", [Behavior::IgnoreStop]);
    runtime.behave("bad", [Behavior::FailStart("no such program".into())]);
    let image = runtime.pull_image("busybox", None).await.unwrap().id;
    crate::testsuite::run(&crate::testsuite::Subject { runtime: &runtime, image, sandbox: SandboxConfig::default() })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_scripted_fake_asks_the_pod_and_remembers_no_calls() {
    let runtime = FakeRuntime::scripted(|pod| match pod.annotations.get("how").map(String::as_str) {
        Some("slowly") => Ok(Script { delay: Duration::from_secs(2), behavior: Behavior::Run }),
        Some(other) => Err(format!("{other} is no way")),
        None => Ok(Script::default()),
    });
    let image = runtime.pull_image("busybox", None).await.unwrap().id;
    let start = async |how: Option<&str>| {
        let annotations = how.map(|how| ("how".to_owned(), how.to_owned())).into_iter().collect();
        let config = SandboxConfig { annotations, ..SandboxConfig::default() };
        let sandbox = runtime.run_sandbox(&config).await.unwrap();
        let config = ContainerConfig { name: "main".into(), image: image.clone(), ..Default::default() };
        let id = runtime.create_container(&sandbox.id, &config).await.unwrap();
        let before = tokio::time::Instant::now();
        runtime.start_container(&id).await.map(|()| before.elapsed()).map_err(|err| err.to_string())
    };
    assert_eq!(start(None).await, Ok(Duration::ZERO));
    assert_eq!(start(Some("slowly")).await, Ok(Duration::from_secs(2)));
    let err = start(Some("backwards")).await.unwrap_err();
    assert!(err.contains("backwards is no way"), "{err}");
    assert_eq!(runtime.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn no_two_sandboxes_have_one_address_and_those_of_stopped_ones_are_used_again() {
    let runtime = FakeRuntime::new();
    let mut ids = Vec::new();
    let mut addresses = BTreeSet::new();
    for _ in 2..=254 {
        let sandbox = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap();
        assert!(addresses.insert(sandbox.ips[0]), "{} twice", sandbox.ips[0]);
        ids.push(sandbox.id);
    }
    let full = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap_err();
    assert!(matches!(full, Error::Network { .. }), "{full}");
    let host = SandboxConfig {
        namespaces: NamespaceOptions { host_network: true, ..NamespaceOptions::default() },
        ..SandboxConfig::default()
    };
    assert!(runtime.run_sandbox(&host).await.unwrap().ips.is_empty());
    runtime.stop_sandbox(&ids[7]).await.unwrap();
    let again = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap();
    assert_eq!(again.ips[0].to_string(), "10.244.0.9");
}
