//! What there is to know of one controller before it runs (upstream: `ControllerDescriptor`).
//!
//! To add a controller:
//! 1. write a file, or a folder once it has a `plan`: a struct with its caches, `impl Controller` (read from caches, decide
//!    in a pure function, then write) and `pub(crate) const DESCRIPTOR`; `aggregation.rs` is the smallest;
//! 2. add the `mod` line to `lib.rs` and the descriptor to `all::ALL`, and take its names out of `all::ELSEWHERE`;
//! 3. allow what it reads and writes (`apiserver/src/authz/bootstrap_policy.txt`).
//!
//! A flag of its own is a field of [`Config`], with the default in its `#[arg]`; `upstream_flags.txt` loses the flag then.

use client::{ObjectKey, WorkQueue};
use daemon::Supervisor;

use crate::context::{Context, Controller};
use crate::{Config, Error};

/// One controller.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// Upstream's name.
    pub(crate) name: &'static str,
    /// Older names, which tools still use.
    pub(crate) aliases: &'static [&'static str],
    /// Starts it, if it has what it needs. Fails when what it was given cannot be used.
    pub(crate) start: fn(&mut Start<'_>) -> Result<(), Error>,
}

impl Descriptor {
    /// Whether `--controllers` means this one by `name`.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// What controllers start with, and the tasks that they become.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) context: &'a Context,
    pub(crate) tasks: &'a mut Supervisor,
}

impl Start<'_> {
    /// Lets this many workers drive a controller by its queue, which metrics call `name`. Never fails: a start ends in it.
    pub(crate) fn drive<C: Controller>(
        &mut self,
        name: &'static str,
        (controller, queue): (C, WorkQueue<ObjectKey>),
        workers: usize,
    ) -> Result<(), Error> {
        let context = self.context.clone();
        self.tasks.add(name, move |shutdown| context.drive(name, controller, queue, workers, shutdown));
        Ok(())
    }

    /// The same for a controller of a resource that the API server may not have: a group's version and a plural. Without
    /// it, nothing is watched.
    pub(crate) fn drive_if_served<C: Controller>(
        &mut self,
        name: &'static str,
        (version, plural): (&'static str, &'static str),
        make: fn(&Context) -> (C, WorkQueue<ObjectKey>),
        workers: usize,
    ) -> Result<(), Error> {
        let context = self.context.clone();
        self.tasks.add(name, move |shutdown| async move {
            let asked = client::is_served(&context.client, version, plural);
            if shutdown.run_until_cancelled(asked).await != Some(true) {
                shutdown.cancelled().await;
                return Ok(());
            }
            let (controller, queue) = make(&context);
            context.drive(name, controller, queue, workers, shutdown).await
        });
        Ok(())
    }
}
