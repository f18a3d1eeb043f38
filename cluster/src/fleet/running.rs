//! One node's process: started, started again, ended.

use std::io;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use runtime::namespace::NetworkNamespace;
use tokio::process::{Child, ChildStdin, Command};
use tracing::warn;

use super::Member;
use crate::invitation::Invitation;

/// Waits before a node that has ended is started again, doubled each time up to the second value; one that has run for that
/// long begins anew.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the pods of a node whose process did not end them may take to be killed.
const KILL: Duration = Duration::from_secs(30);

/// One that runs, or is to be started again.
pub(super) struct Running {
    member: Member,
    /// Its standard input, which it lives for.
    stdin: Option<ChildStdin>,
    process: Child,
    namespace: NetworkNamespace,
    started: Instant,
    /// One before has ended by itself: what it had may be there still, and this one may not have come so far as to know.
    has_crashed: bool,
}

impl Running {
    pub(super) fn start(
        member: Member,
        namespace: NetworkNamespace,
        router: IpAddr,
        invitation: &Invitation,
    ) -> anyhow::Result<Self> {
        let mut process = spawn(&namespace, command(&member, router, invitation)?)?;
        let (stdin, started) = (process.stdin.take(), Instant::now());
        Ok(Self { member, stdin, process, namespace, started, has_crashed: false })
    }

    /// Starts it again whenever it ends, for as long as this is waited for; `say` gets a line for the user each time.
    pub(super) async fn keep(&mut self, router: IpAddr, invitation: &Invitation, say: &impl Fn(String)) {
        let mut wait = AGAIN.0;
        loop {
            let ended = match self.process.wait().await {
                Ok(status) => status.to_string(),
                Err(err) => err.to_string(),
            };
            self.has_crashed = true;
            // One that ran for long has earned a new beginning.
            wait = if self.started.elapsed() > AGAIN.1 { AGAIN.0 } else { wait };
            let name = self.member.name.clone();
            warn!(node = name, ended, again_in = ?wait, "a node's process has ended");
            say(format!("node {name} has ended ({ended}): it is started again in {} s", wait.as_secs()));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
            if let Err(err) = self.restart(router, invitation) {
                warn!(node = name, error = format!("{err:#}"), "it cannot be started");
            }
        }
    }

    fn restart(&mut self, router: IpAddr, invitation: &Invitation) -> anyhow::Result<()> {
        self.process = spawn(&self.namespace, command(&self.member, router, invitation)?)?;
        (self.stdin, self.started) = (self.process.stdin.take(), Instant::now());
        Ok(())
    }

    /// Asks it to end, and sees that nothing of it goes on.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let ended = tokio::time::timeout(self.member.options.end(), self.process.wait()).await;
        if let Ok(Ok(status)) = &ended
            && status.success()
            && !self.has_crashed
        {
            return Ok(());
        }
        // Fails only when it has ended already.
        let _ended = self.process.kill().await;
        if self.member.options.keep_pods {
            return Ok(());
        }
        let mut command = Command::new(std::env::current_exe()?);
        let data = &self.member.options.data_dir;
        command.args(["stop-pods", "--remove", "--grace-period=1", "--bridge", &self.member.options.bridge]);
        command.arg("--runtime-root").arg(data.join("runtime")).arg("--kubelet-root").arg(data.join("kubelet"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let mut stopping = spawn(&self.namespace, command)?;
        let stopped =
            tokio::time::timeout(KILL, stopping.wait()).await.context("its pods are not stopped in time")??;
        ensure!(stopped.success(), "the pods of node {} are not stopped", self.member.name);
        Ok(())
    }
}

/// Starts a process in a namespace.
fn spawn(namespace: &NetworkNamespace, mut command: Command) -> io::Result<Child> {
    let handle = tokio::runtime::Handle::current();
    namespace.enter(|| {
        let _runtime = handle.enter();
        command.spawn()
    })
}

/// The command of a node. Names that the cluster does not know it asks of the first node, whose own servers may be on its
/// loopback.
fn command(member: &Member, router: IpAddr, invitation: &Invitation) -> io::Result<Command> {
    let options = &member.options;
    let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("join").arg(&invitation.server).args(["--ca-hash", &invitation.hash, "--end-with-stdin"]);
    command.arg("--data-dir").arg(&options.data_dir);
    command.args(["--node-name", &member.name, "--node-ip", &addresses.join(","), "--bridge", &options.bridge]);
    command.args(["--kubelet-port", &options.kubelet_port.to_string()]);
    command.arg(format!("--pod-max-pids={}", options.pod_max_pids));
    command.arg(format!("--syscall-policy={}", options.syscall_policy));
    command.arg(format!("--network-policy={}", options.network_policy));
    command.arg(format!("--dns={}", options.dns)).arg(format!("--dns-upstream={router}"));
    command.args(options.cgroup_root.iter().map(|root| format!("--cgroup-root={root}")));
    for (flag, values) in
        [("allowed-unsafe-sysctls", &options.allowed_unsafe_sysctls), ("insecure-registry", &options.insecure_registry)]
    {
        if !values.is_empty() {
            command.arg(format!("--{flag}={}", values.join(",")));
        }
    }
    for (flag, time) in [
        ("shutdown-grace-period", options.shutdown_grace_period),
        ("shutdown-grace-period-critical-pods", options.shutdown_grace_period_critical_pods),
    ] {
        command.arg(format!("--{flag}={}ms", time.as_millis()));
    }
    if options.keep_pods {
        command.arg("--keep-pods");
    }
    // Arguments can be read by everybody on this machine.
    command.env("CORACLE_JOIN_TOKEN", &invitation.token);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}
