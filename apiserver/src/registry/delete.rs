//! Delete: preconditions, graceful deletion, finalizers and what happens to dependents. Upstream: `Store.Delete`,
//! `rest.BeforeDelete`.

use api::status::Qualified;
use api::strategy::DefaultDeletion;
use api::{ApiError, Object};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::Expected;

use super::{Current, Items, List, Registry, Target, Written, metadata};
use crate::admission::{Attributes, Operation};
use crate::request::options::{DeleteOptions, Propagation};
use crate::stamps::timestamp;
use crate::store_error::unavailable;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// The outcome of a delete.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; this was its last state.
    Gone(Object),
    /// Its deletion has begun: somebody must let go of it first, or its grace period runs.
    Pending(Written),
}

/// What one attempt came to.
enum Step {
    Done(Deleted),
    /// Somebody else was faster.
    Again,
}

impl Registry {
    /// Deletes an object, or begins to.
    pub async fn delete(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, ApiError> {
        self.delete_with(target, options, Some(warnings)).await
    }

    /// Deletes an object on behalf of a request that has been admitted as what it is (an eviction).
    pub async fn delete_admitted(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        self.delete_with(target, options, None).await
    }

    async fn delete_with(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        mut to_admit: Option<&mut Vec<String>>,
    ) -> Result<Deleted, ApiError> {
        loop {
            let current = self.current(target, target.name).await?.ok_or_else(|| target.not_found())?;
            check_preconditions(target, options, &current)?;
            if let Some(warnings) = to_admit.take() {
                self.admit_delete(target, options, &current, warnings).await?;
            }
            match self.delete_once(target, options, &current).await? {
                Step::Done(deleted) => return Ok(deleted),
                Step::Again => {}
            }
        }
    }

    /// Deletes the objects of a list, which may be a page of a longer one, and returns their last states.
    pub async fn delete_collection(
        &self,
        target: &Target<'_>,
        list: List,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<List, ApiError> {
        let mut items = Vec::new();
        for item in list.items.iter() {
            let one = Target { namespace: item.namespace(), name: item.name(), ..*target };
            match self.delete(&one, options, warnings).await {
                Ok(_) => items.push(item.clone()),
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(List { items: Items::Gathered(items), ..list })
    }

    async fn admit_delete(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        current: &Current,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let catalog = self.catalog();
        let attributes = Attributes {
            old: Some(&current.object),
            ..target.attributes(Operation::Delete, &catalog, (options.dry_run, &options.raw))
        };
        let admission = self.admission_by_all()?;
        admission.mutate(&attributes, None, warnings).await?;
        admission.validate(&attributes, None, warnings).await
    }

    async fn delete_once(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        current: &Current,
    ) -> Result<Step, ApiError> {
        let working_row = target.working_row();
        let now = Timestamp::now();
        let mut object = current.object.clone();
        let graceful = begin_graceful(target, options, &mut object, now);
        if graceful == Graceful::Pending {
            return Ok(Step::Done(Deleted::Pending(Written::of(current))));
        }
        let holds_itself = working_row.strategy.holds_deletion(&object);
        if !holds_itself {
            set_dependents_finalizer(target, options, &mut object);
        }
        let held = !object.finalizers().is_empty() || holds_itself;
        if graceful == Graceful::Now && !held {
            return self.remove(target, options, current, object).await;
        }
        if graceful == Graceful::Now {
            if holds_itself {
                begin_own_deletion(&mut object, now);
            } else {
                mark_deleting(&mut object, now);
            }
        }
        working_row.strategy.begin_deletion(&target.write_context(now), &mut object);
        if options.dry_run {
            return Ok(Step::Done(Deleted::Pending(Written::pretended(object))));
        }
        if metadata::same(&object, &current.object) {
            return Ok(Step::Done(Deleted::Pending(Written::of(current))));
        }
        match self.put(target, target.name, object, Expected::Revision(current.revision)).await? {
            Ok(written) => Ok(Step::Done(Deleted::Pending(written))),
            Err(store::Error::Conflict { .. }) => Ok(Step::Again),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// `last` is what the client sees of an object that is gone.
    async fn remove(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        current: &Current,
        mut last: Object,
    ) -> Result<Step, ApiError> {
        if options.dry_run {
            return Ok(Step::Done(Deleted::Gone(last)));
        }
        match self.store.delete(&target.key(target.name), current.revision).await {
            Ok(revision) => {
                target.cache.acknowledge(revision);
                self.allocator.deleted(target.working_row(), &current.object).await;
                last.set_metadata("resourceVersion", revision.to_string());
                Ok(Step::Done(Deleted::Gone(last)))
            }
            Err(store::Error::Conflict { .. }) => Ok(Step::Again),
            Err(err) => Err(unavailable(&err)),
        }
    }
}

fn check_preconditions(target: &Target<'_>, options: &DeleteOptions, current: &Current) -> Result<(), ApiError> {
    let working_row = target.working_row();
    let what = working_row.qualified_kind();
    let conflict = |why: String| Err(ApiError::conflict(Qualified { ..what }, target.name, &why));
    let found = current.object.uid();
    let own_words = working_row.strategy.has_own_delete();
    let failed = |field: &str, asked: &str, found: &str| {
        let why = format!("Precondition failed: {field} in precondition: {asked}, {field} in object meta: {found}");
        Err(ApiError::conflict(working_row.qualified(), target.name, &why))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != found) {
        if own_words {
            return failed("UID", uid, found);
        }
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). \
             The object might have been deleted and then recreated"
        ));
    }
    let found = current.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != found) {
        if own_words {
            return failed("ResourceVersion", version, &found);
        }
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({found}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Graceful {
    /// Nothing waits for a grace period.
    Now,
    /// The object now carries when it has to be gone.
    Begun,
    /// It already carries that, and this delete does not shorten it.
    Pending,
}

/// Sets when the object has to be gone, for kinds that are deleted gracefully.
fn begin_graceful(target: &Target<'_>, options: &DeleteOptions, object: &mut Object, now: Timestamp) -> Graceful {
    let asked = options.grace_period_seconds.map(|seconds| seconds.max(if seconds < 0 { 1 } else { 0 }));
    let Some(seconds) = target.working_row().strategy.grace_period(object, asked) else { return Graceful::Now };
    if object.is_being_deleted() {
        let Some(running) = object.integer(&["metadata", "deletionGracePeriodSeconds"]) else { return Graceful::Now };
        let Some(asked) = asked.filter(|asked| *asked < running) else { return Graceful::Pending };
        let deadline = object.text(&["metadata", "deletionTimestamp"]).parse::<Timestamp>().unwrap_or(now);
        let sooner = deadline.saturating_sub(SignedDuration::from_secs(running - asked)).unwrap_or(now);
        object.set_metadata("deletionTimestamp", timestamp(sooner));
        object.set_metadata("deletionGracePeriodSeconds", asked);
        return if asked == 0 { Graceful::Now } else { Graceful::Begun };
    }
    if seconds == 0 {
        mark_deleting(object, now);
        return Graceful::Now;
    }
    let deadline = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    object.set_metadata("deletionTimestamp", timestamp(deadline));
    object.set_metadata("deletionGracePeriodSeconds", seconds);
    bump_generation(object);
    Graceful::Begun
}

/// The object is only kept by those who must let go of it. One whose deletion began without a grace period gets none.
fn mark_deleting(object: &mut Object, now: Timestamp) {
    if !object.is_being_deleted() {
        object.set_metadata("deletionTimestamp", timestamp(now));
        bump_generation(object);
    } else if object.integer(&["metadata", "deletionGracePeriodSeconds"]).is_none() {
        return;
    }
    object.set_metadata("deletionGracePeriodSeconds", 0);
}

/// What holds itself (a namespace, a definition) has no grace period, and its deletion is no change of its spec.
fn begin_own_deletion(object: &mut Object, now: Timestamp) {
    if !object.is_being_deleted() {
        object.set_metadata("deletionTimestamp", timestamp(now));
    }
}

/// Controllers must notice that the deletion has begun.
fn bump_generation(object: &mut Object) {
    if object.generation() > 0 {
        object.set_metadata("generation", object.generation() + 1);
    }
}

/// Dependents are orphaned or deleted first by a finalizer that the garbage collector removes.
fn set_dependents_finalizer(target: &Target<'_>, options: &DeleteOptions, object: &mut Object) {
    if target.working_row().strategy.expires() {
        return;
    }
    let present = object.finalizers();
    let (orphans, foreground) = (present.contains(&ORPHAN), present.contains(&FOREGROUND));
    let default_orphans = target.working_row().strategy.default_deletion() == DefaultDeletion::Orphan;
    let (want_orphan, want_foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(Propagation::Orphan)) => (true, false),
        (None, Some(Propagation::Foreground)) => (false, true),
        (None, Some(Propagation::Background)) => (false, false),
        // What an earlier delete or the creator asked for stands.
        (None, None) if orphans || foreground => (orphans, foreground),
        (None, None) => (default_orphans, false),
    };
    if (want_orphan, want_foreground) == (orphans, foreground) {
        return;
    }
    let mut kept: Vec<Value> =
        present.iter().filter(|name| ![ORPHAN, FOREGROUND].contains(name)).map(|name| json!(name)).collect();
    if want_orphan {
        kept.push(ORPHAN.into());
    }
    if want_foreground {
        kept.push(FOREGROUND.into());
    }
    if kept.is_empty() {
        object.metadata_mut().remove("finalizers");
    } else {
        object.set_metadata("finalizers", kept);
    }
}
