//! The worker's part in the pod's sandbox: when it is made, and what comes of it.
use std::sync::Arc;
use std::time::Duration;

use runtime::SandboxStatus;

use super::{Done, RETRY, SANDBOX, Worker};
use crate::failure::Failure;
use crate::files::blocking;
use crate::pod;
use crate::pods::actions::Actions;
use crate::sandbox::{self, runtime_class};

impl Worker {
    pub(super) fn sync_sandbox(&mut self, actions: &Actions) {
        let Some(attempt) = actions.create_sandbox else { return };
        if !self.flight.is_empty() || self.must_wait(SANDBOX) {
            return;
        }
        let host_network = pod::is_host_network(&self.pod);
        if !host_network && !*self.context.network.borrow() {
            let message = "network is not ready: the node has no pod CIDR yet".to_owned();
            self.context.event(&self.pod, "Warning", "NetworkNotReady", message);
            self.retry_later(SANDBOX, Duration::from_secs(1));
            return;
        }
        self.flight.sandbox = true;
        let config = sandbox::config(&self.context, &self.pod, attempt);
        let own_users = pod::spec(&self.pod).host_users == Some(false);
        let user_ids = Arc::clone(&self.context.user_ids);
        let old: Vec<String> = self.seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        let runtime = Arc::clone(&self.context.runtime);
        let (client, pod) = (self.context.client.clone(), Arc::clone(&self.pod));
        self.tasks.spawn(async move {
            if let Err(failure) = runtime_class::check(client, &pod).await {
                return Done::Sandbox(Err(failure));
            }
            let mut config = match config {
                Ok(config) => config,
                Err(why) => return Done::Sandbox(Err(Failure::new("FailedCreatePodSandBox", why))),
            };
            for id in old {
                if let Err(err) = runtime.stop_sandbox(&id).await {
                    return Done::Sandbox(Err(Failure::by("FailedKillPod", &err)));
                }
            }
            if own_users {
                let uid = config.uid.clone();
                match blocking(move || user_ids.allocate(&uid)).await {
                    Ok(map) => config.namespaces.users = Some(map),
                    Err(err) => return Done::Sandbox(Err(Failure::by("FailedCreatePodSandBox", &err))),
                }
            }
            let made = runtime.run_sandbox(&config).await;
            Done::Sandbox(made.map_err(|err| Failure::by("FailedCreatePodSandBox", &err)))
        });
    }

    pub(super) fn sandbox_done(&mut self, result: Result<SandboxStatus, Failure>) {
        self.flight.sandbox = false;
        if let Err(failure) = result {
            let message = format!("Failed to create pod sandbox: {}", failure.message);
            self.context.event(&self.pod, "Warning", failure.reason, message);
            self.retry_later(SANDBOX, RETRY);
        } else if !self.seen.sandboxes.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.context.event(&self.pod, "Normal", "SandboxChanged", message);
        }
    }
}
