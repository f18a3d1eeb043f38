//! One task per shim: hears of ends, and of the shim's own.

use std::sync::{Arc, Weak};

use super::Shared;
use crate::wire::{self, Reply, Request};
use crate::{Error, Event};

impl Shared {
    /// Begins to listen to a sandbox's shim. Ends that happened before are heard too.
    pub(super) async fn watch(self: &Arc<Self>, sandbox: &str) -> Result<(), Error> {
        let answer = self.shim(sandbox).ask(Request::Subscribe, Vec::new()).await?;
        let stream = answer.into_stream()?;
        let listen = listen(Arc::downgrade(self), sandbox.to_owned(), stream);
        let mut monitors = self.monitors.lock().expect("no panic under this lock");
        while monitors.try_join_next().is_some() {}
        monitors.spawn(listen);
        Ok(())
    }
}

async fn listen(shared: Weak<Shared>, sandbox: String, mut stream: tokio::net::UnixStream) {
    loop {
        let heard = wire::next_frame::<Reply>(&mut stream).await;
        let Some(shared) = shared.upgrade() else { return };
        match heard {
            Ok(Some(Reply::Exited { container, exit })) => shared.end_container(&container, exit),
            Ok(Some(Reply::Watched { container, calls })) => {
                shared.publish(Event::WatchedCalls { sandbox: sandbox.clone(), container, calls });
            }
            Ok(Some(other)) => tracing::warn!(sandbox, ?other, "the shim said something unexpected"),
            Ok(None) => return shared.lose_sandbox(&sandbox),
            Err(err) => {
                tracing::warn!(sandbox, error = &err as &dyn std::error::Error, "lost the shim");
                return shared.lose_sandbox(&sandbox);
            }
        }
    }
}
