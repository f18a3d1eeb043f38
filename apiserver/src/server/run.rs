//! The life of the server: the cache is filled, what must be there is made, and followers run until shutdown. Upstream:
//! `PostStartHooks`.

use api::ApiError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ApiServer;
use crate::core::Stage;
use crate::definitions::Definitions;
use crate::error::Error;
use crate::{aggregator, bootstrap, flow_control};

impl ApiServer {
    /// Feeds the watch cache and creates the bootstrap objects, until shutdown. Exactly one caller runs it.
    pub async fn run(&self) -> Result<(), Error> {
        let Some(feed) = self.feed.lock().await.take() else {
            return Err(Error::Bootstrap("the server already runs".into()));
        };
        if let Some(at_rest) = &self.core.at_rest {
            self.core.tasks.spawn(at_rest.clone().run(self.core.shutdown.clone()));
        }
        if let Some(audit) = &self.core.audit {
            audit.start();
        }
        let core = self.core.clone();
        self.core.tasks.spawn(async move {
            core.authorizers.follow(&core.config.authorization, &core.authz, &core.shutdown).await;
        });
        if let Some(jwt) = self.core.jwt.clone() {
            let shutdown = self.core.shutdown.clone();
            self.core.tasks.spawn(async move { jwt.run(&shutdown).await });
        }
        let (filled, is_filled) = oneshot::channel();
        // The cache lives on while this server says good-bye to the others.
        let (shutdown, last) = (&self.core.shutdown, CancellationToken::new());
        let start = async {
            if shutdown.run_until_cancelled(is_filled).await.is_some_and(|filled| filled.is_ok()) {
                // A server that is told to stop while it starts has not failed.
                shutdown.run_until_cancelled(self.begin()).await.unwrap_or(Ok(()))?;
                bootstrap::meet(&self.core, shutdown).await;
            }
            shutdown.cancelled().await;
            last.cancel();
            Ok(())
        };
        let feed = async { feed.run(last.clone(), filled).await.map_err(Error::part("fill the watch cache")) };
        let outcome = tokio::try_join!(feed, start).map(|_| ());
        self.end(outcome.is_ok()).await;
        outcome
    }

    /// Sends the last audit events; after a clean end those of requests that are still answered, too.
    async fn end(&self, is_clean: bool) {
        let Some(audit) = &self.core.audit else { return };
        if is_clean {
            self.core.serving.close();
            self.core.serving.wait().await;
        }
        audit.finish().await;
    }

    /// Makes what must be there, and says that it is.
    async fn begin(&self) -> Result<(), Error> {
        self.serve_custom_resources().await?;
        self.core.stage.send_replace(Stage::Filled);
        self.follow_services()?;
        let made = bootstrap::ensure(&self.core).await?;
        let (core, shutdown) = (&self.core, &self.core.shutdown);
        core.tasks.spawn(bootstrap::keep(core.clone(), made, shutdown.clone()));
        core.tasks.spawn(bootstrap::identify(core.clone(), shutdown.clone()));
        if core.config.shares_store {
            let (registry, shutdown) = (core.registry.clone(), shutdown.clone());
            core.tasks.spawn(async move { registry.allocator().look_after(shutdown).await });
        }
        self.control_flow();
        self.core.stage.send_replace(Stage::Bootstrapped);
        self.process.ready.set();
        Ok(())
    }

    /// Sends on what belongs to other servers, and follows those.
    fn follow_services(&self) -> Result<(), Error> {
        let core = &self.core;
        let services = aggregator::Services::new(
            core.aggregator.clone(),
            core.registry.clone(),
            core.tasks.clone(),
            core.shutdown.clone(),
        );
        let mut services = services.map_err(|err| Error::Bootstrap(format!("aggregate APIs: {err}")))?;
        services.learn();
        services.start();
        Ok(())
    }

    /// Obeys what is configured of flow control, and cuts clients that do not read.
    fn control_flow(&self) {
        let core = &self.core;
        if let Some(follower) = flow_control::Follower::new(&core.flow_control, &core.registry) {
            follower.obey();
            core.tasks.spawn(follower.follow(core.shutdown.clone()));
        }
        core.tasks.spawn(core.sending.clone().watch(core.shutdown.clone()));
    }

    /// Serves what is defined already, and follows the definitions from then on.
    async fn serve_custom_resources(&self) -> Result<(), Error> {
        let core = &self.core;
        let failed = |err: ApiError| Error::Bootstrap(format!("serve custom resources: {err}"));
        let mut definitions =
            Definitions::new(core.registry.clone(), core.tasks.clone(), core.shutdown.clone()).map_err(failed)?;
        definitions.pass().await.map_err(failed)?;
        core.tasks.spawn(definitions.run(core.shutdown.clone()));
        core.tasks.spawn(core.documents.clone().follow(core.registry.clone(), core.shutdown.clone()));
        Ok(())
    }
}
