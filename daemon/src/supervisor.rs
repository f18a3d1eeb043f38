//! The owner of a process's long-lived tasks.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Owns every long-lived task of a process: when one ends, for any reason, all end.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
    shutdown: CancellationToken,
    drain: Duration,
}

impl Supervisor {
    /// A supervisor whose tasks end when `shutdown` is cancelled. They get 30 s to drain.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), shutdown, drain: Duration::from_secs(30) }
    }

    /// Sets how long tasks may take to end after shutdown.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Starts a task. It must run until its token is cancelled.
    pub fn add<F, Fut, E>(&mut self, name: &'static str, run: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let task = run(self.shutdown.child_token());
        let handle = self.tasks.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Runs until the token is cancelled or a task ends, then drains the rest.
    /// Returns the first failure; tasks still alive after the drain time are aborted.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut first = Ok(());
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            Some(ended) = self.tasks.join_next_with_id() => first = self.ended_early(ended),
        }
        self.shutdown.cancel();
        let deadline = tokio::time::sleep(self.drain);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(ended) => first = first.and(self.outcome(ended)),
                    None => return first,
                },
                () = &mut deadline => break,
            }
        }
        let alive: Vec<&str> = self.names.values().copied().collect();
        let late = anyhow::anyhow!("{} did not stop within {:?}", alive.join(", "), self.drain);
        self.tasks.shutdown().await;
        first.and(Err(late))
    }

    fn outcome(&mut self, ended: Ended) -> anyhow::Result<()> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(err) => err.id(),
        };
        let name = self.names.remove(&id).unwrap_or("a task");
        match ended {
            Ok((_, result)) => result.context(name),
            Err(err) => Err(err).context(name),
        }
    }

    /// A task that returns before shutdown is a failure, even if it returned `Ok`.
    fn ended_early(&mut self, ended: Ended) -> anyhow::Result<()> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(err) => err.id(),
        };
        let name = self.names.get(&id).copied().unwrap_or("a task");
        self.outcome(ended).and_then(|()| anyhow::bail!("{name} ended before shutdown"))
    }
}

type Ended = Result<(Id, anyhow::Result<()>), JoinError>;

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_shutdown(shutdown: CancellationToken) -> anyhow::Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_others_and_names_its_task() {
        let mut tasks = Supervisor::new(CancellationToken::new());
        tasks.add("steady", until_shutdown);
        tasks.add("broken", |_| async { anyhow::bail!("disk gone") });
        assert_eq!(format!("{:#}", tasks.run().await.unwrap_err()), "broken: disk gone");
    }

    #[tokio::test]
    async fn an_early_clean_end_is_a_failure() {
        let mut tasks = Supervisor::new(CancellationToken::new());
        tasks.add("short", |_| async { anyhow::Ok(()) });
        assert_eq!(tasks.run().await.unwrap_err().to_string(), "short ended before shutdown");
    }

    #[tokio::test]
    async fn a_panic_is_reported_with_its_name() {
        let mut tasks = Supervisor::new(CancellationToken::new());
        tasks.add("shaky", |_| async {
            if true {
                panic!("boom");
            }
            anyhow::Ok(())
        });
        assert!(format!("{:#}", tasks.run().await.unwrap_err()).starts_with("shaky: "));
    }

    #[tokio::test]
    async fn shutdown_lets_tasks_end_cleanly() {
        let token = CancellationToken::new();
        let mut tasks = Supervisor::new(token.clone());
        tasks.add("steady", until_shutdown);
        token.cancel();
        tasks.run().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_do_not_drain_are_named_and_aborted() {
        let token = CancellationToken::new();
        let mut tasks = Supervisor::new(token.clone());
        tasks.add("stuck", |_| std::future::pending::<anyhow::Result<()>>());
        token.cancel();
        assert_eq!(tasks.run().await.unwrap_err().to_string(), "stuck did not stop within 30s");
    }
}
