//! Update: PUT and everything that changes an existing object, `/status` included. Upstream: `Store.Update`,
//! `rest.BeforeUpdate`.

use std::sync::Arc;

use api::catalog::Catalog;
use api::field::{FieldError, Path};
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use jiff::Timestamp;
use store::Expected;

use super::narrow::{narrow, narrows_first, restore};
use super::{Current, Registry, Target, Written, metadata};
use crate::admission::{Attributes, Operation};
use crate::blocking::blocking;
use crate::field_managers::{self, Versions};
use crate::request::options::{Write, WriteOptions};
use crate::store_error::{may_be_written, unavailable};

/// How an update computes what it wants from what there is.
#[async_trait]
pub trait Desired: Send + Sync {
    /// The object that shall replace `current` (absent when nothing has the name). Called again after a lost race.
    /// Field managers have to be accounted for by this.
    async fn desired(
        &self,
        current: Option<&Object>,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Object, ApiError>;

    /// Whether it creates the object when nothing has the name.
    fn may_create(&self) -> bool;

    /// The UID that the current object must have; a patch changes whatever has the name.
    fn required_uid(&self) -> &str {
        ""
    }
}

/// A whole object, as PUT sends it.
pub(crate) struct Replacement {
    pub(crate) object: Object,
    pub(crate) manager: String,
    pub(crate) catalog: Catalog,
    pub(crate) client_row: Arc<Resource>,
    pub(crate) working_row: Arc<Resource>,
    pub(crate) subresource: String,
}

#[async_trait]
impl Desired for Replacement {
    async fn desired(
        &self,
        current: Option<&Object>,
        now: Timestamp,
        _warnings: &mut Vec<String>,
    ) -> Result<Object, ApiError> {
        let mut object = self.object.clone();
        if let Some(current) = current.filter(|_| narrows_first(&self.subresource)) {
            narrow(&self.working_row, &self.subresource, &mut object, current);
        }
        let versions =
            Versions { catalog: &self.catalog, client_row: &self.client_row, working_row: &self.working_row };
        field_managers::track(versions, &self.subresource, current, &mut object, &self.manager, now)?;
        Ok(object)
    }

    fn may_create(&self) -> bool {
        self.working_row.strategy.allow_create_on_update()
    }

    fn required_uid(&self) -> &str {
        self.object.uid()
    }
}

/// How one attempt went.
enum Outcome {
    /// The object has been replaced.
    Swapped(Written),
    /// Nothing was to be replaced: it is as it was, has gone, or was only tried.
    Nothing(Written),
    /// Somebody else was faster.
    Raced,
}

impl Outcome {
    fn written(self) -> Option<Written> {
        match self {
            Self::Swapped(written) | Self::Nothing(written) => Some(written),
            Self::Raced => None,
        }
    }
}

/// The outcome of an update.
#[derive(Clone, Debug)]
pub struct Updated {
    pub written: Written,
    /// PUT to a missing name created it.
    pub created: bool,
}

impl Registry {
    /// Replaces an object by a whole one.
    pub async fn update(
        &self,
        target: &Target<'_>,
        object: Object,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Updated, ApiError> {
        let working_row = target.working_row().clone();
        let subresource = target.subresource.to_owned();
        let (catalog, client_row) = (self.catalog(), target.client_row.clone());
        let manager = options.field_manager.clone();
        let replacement = Replacement { object, manager, catalog, client_row, working_row, subresource };
        self.change(target, &replacement, options, Write::Update, warnings).await
    }

    /// Changes an object to what `desired` makes of the current one.
    pub async fn change(
        &self,
        target: &Target<'_>,
        desired: &dyn Desired,
        options: &WriteOptions,
        what: Write,
        warnings: &mut Vec<String>,
    ) -> Result<Updated, ApiError> {
        // What is read is the store's, but somebody may be faster: then the compare-and-swap fails, and a new attempt follows.
        loop {
            let before = warnings.len();
            let now = Timestamp::now();
            let Some(current) = self.current(target, target.name).await? else {
                return self.create_by_update(target, desired, options, what, now, warnings).await;
            };
            match self.replace(target, &current, desired, options, what, now, warnings).await? {
                Some(written) => return Ok(Updated { written, created: false }),
                None => warnings.truncate(before),
            }
        }
    }

    async fn create_by_update(
        &self,
        target: &Target<'_>,
        desired: &dyn Desired,
        options: &WriteOptions,
        what: Write,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Updated, ApiError> {
        if !desired.may_create() || !target.subresource.is_empty() {
            return Err(target.not_found());
        }
        self.permit_creation(target).await?;
        let mut object = desired.desired(None, now, warnings).await?;
        if !object.resource_version().is_empty() && object.resource_version() != "0" {
            return Err(metadata::modified(target.client_row, target.name));
        }
        object.metadata_mut().remove("resourceVersion");
        let written = self.create_tracked(target, object, options, what, warnings).await?;
        Ok(Updated { written, created: true })
    }

    /// One attempt; `None` when somebody else was faster.
    #[expect(clippy::too_many_arguments, reason = "one call, one attempt: the loop's whole state")]
    async fn replace(
        &self,
        target: &Target<'_>,
        current: &Current,
        desired: &dyn Desired,
        options: &WriteOptions,
        what: Write,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Written>, ApiError> {
        let working_row = target.working_row();
        let old = &current.object;
        let mut new = desired.desired(Some(old), now, warnings).await?;
        metadata::check_namespace(working_row, target.namespace, &mut new)?;
        metadata::dedupe_owners(&mut new, warnings);
        let raw = options.to_value(what);
        let catalog = self.catalog();
        let attributes =
            Attributes { old: Some(old), ..target.attributes(Operation::Update, &catalog, (options.dry_run, &raw)) };
        self.check_uid(target, desired.required_uid(), old)?;
        let admission = self.admission_by_all()?;
        admission.mutate(&attributes, Some(&mut new), warnings).await?;
        self.check_version(target, &mut new, current)?;
        self.prepare_update(target, &mut new, old, now);
        // The rules look at what a Service has been given, too.
        let reservation =
            self.allocator.allocate(working_row, target.subresource, &mut new, Some(old), options.dry_run).await?;
        let outcome = async {
            self.check_update(target, &new, old, warnings, now)?;
            admission.validate(&attributes, Some(&new), warnings).await?;
            if metadata::same(&new, old) && !self.is_stale(target, current).await? {
                return Ok(Outcome::Nothing(Written::of(current)));
            }
            if new.is_being_deleted() && metadata::may_vanish(working_row, &new) {
                let written = self.vanish(target, current, new, options.dry_run).await?;
                return Ok(written.map_or(Outcome::Raced, Outcome::Nothing));
            }
            self.swap(target, current, new, options.dry_run).await
        };
        match outcome.await {
            Ok(Outcome::Swapped(written)) => {
                let freed = reservation.commit();
                self.allocator.free(freed).await;
                Ok(Some(written))
            }
            // If it turns out not to be needed, the allocator's repair gives it back.
            Err(err) if may_be_written(&err) => Err(err),
            other => {
                self.allocator.release(reservation).await;
                other.map(Outcome::written)
            }
        }
    }

    async fn swap(
        &self,
        target: &Target<'_>,
        current: &Current,
        new: Object,
        dry_run: bool,
    ) -> Result<Outcome, ApiError> {
        if dry_run {
            return Ok(Outcome::Nothing(self.pretended(target, new).await?));
        }
        match self.put(target, target.name, new, Expected::Revision(current.revision)).await? {
            Ok(written) => Ok(Outcome::Swapped(written)),
            Err(store::Error::Conflict { .. }) => Ok(Outcome::Raced),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// The last finalizer is gone: the update becomes the delete.
    pub(super) async fn vanish(
        &self,
        target: &Target<'_>,
        current: &Current,
        new: Object,
        dry_run: bool,
    ) -> Result<Option<Written>, ApiError> {
        if dry_run {
            return Ok(Some(Written::pretended(new)));
        }
        match self.store.delete(&target.key(target.name), current.revision).await {
            Ok(revision) => {
                target.cache.acknowledge(revision);
                self.allocator.deleted(target.working_row(), &current.object).await;
                Ok(Some(Written::pretended(new)))
            }
            Err(store::Error::Conflict { .. }) => Ok(None),
            Err(err) => Err(unavailable(&err)),
        }
    }

    fn check_uid(&self, target: &Target<'_>, required: &str, old: &Object) -> Result<(), ApiError> {
        if required.is_empty() || required == old.uid() {
            return Ok(());
        }
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
             UID in precondition: {}, UID in object meta: {}",
            target.key(target.name),
            required,
            old.uid()
        );
        Err(ApiError::conflict(target.client_row.qualified(), target.name, &why))
    }

    /// Refuses when the client named a version to replace that is not the current one.
    fn check_version(&self, target: &Target<'_>, new: &mut Object, current: &Current) -> Result<(), ApiError> {
        let working_row = target.working_row();
        let current_version = current.revision.to_string();
        let named = !matches!(new.resource_version(), "" | "0");
        if named && new.resource_version() != current_version {
            return Err(metadata::modified(target.client_row, target.name));
        }
        if !named && !working_row.strategy.allow_unconditional_update() {
            let path = Path::new("metadata").child("resourceVersion");
            let mut error = FieldError::invalid(&path, 0, "must be specified for an update");
            error.message = "Invalid value: 0: must be specified for an update".into();
            return Err(ApiError::invalid(target.client_row.qualified(), target.name, &[error]));
        }
        new.set_metadata("resourceVersion", current_version);
        Ok(())
    }

    fn prepare_update(&self, target: &Target<'_>, new: &mut Object, old: &Object, now: Timestamp) {
        let working_row = target.working_row();
        metadata::keep_system_fields(new, old);
        let context = target.write_context(now);
        narrow(working_row, target.subresource, new, old);
        if matches!(target.subresource, "status" | "approval") {
            working_row.strategy.prepare_status_update(&context, new, old);
            return;
        }
        if working_row.has_subresource("status") {
            restore(new, old, "status");
        }
        working_row.strategy.prepare_update(&context, new, old);
        if working_row.has_generation {
            let generation = old.generation() + i64::from(working_row.strategy.is_new_generation(new, old));
            if generation > 0 {
                new.set_metadata("generation", generation);
            }
        }
    }

    fn check_update(
        &self,
        target: &Target<'_>,
        new: &Object,
        old: &Object,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let working_row = target.working_row();
        let context = target.write_context(now);
        // The rules are those of the API that the client speaks: the newer API of events is stricter.
        let strategy = &target.client_row.strategy;
        let mut errors = metadata::validate_update(working_row, strategy.metadata_rechecks(), new, old);
        let rules = || match target.subresource {
            "status" | "approval" => strategy.validate_status_update(&context, new, old),
            _ => strategy.validate_update(&context, new, old),
        };
        errors.extend(if strategy.validation_may_take_long() { blocking(rules) } else { rules() });
        if !errors.is_empty() {
            return Err(metadata::refused(working_row, new.name(), &errors));
        }
        match target.subresource {
            "" => warnings.extend(working_row.strategy.warnings(new, Some(old))),
            "status" => warnings.extend(working_row.strategy.status_warnings(new)),
            _ => {}
        }
        Ok(())
    }
}
