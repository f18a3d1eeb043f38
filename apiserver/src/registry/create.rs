//! Create (upstream: `Store.Create`, `rest.BeforeCreate`).

use api::status::Details;
use api::{ApiError, Object};
use jiff::Timestamp;
use store::Expected;
use tokio::sync::OwnedRwLockReadGuard;

use super::{Registry, Target, Written, metadata};
use crate::admission::{Attributes, Operation};
use crate::blocking::blocking;
use crate::field_managers::{self, Versions};
use crate::request::options::{Write, WriteOptions};
use crate::service_addresses::Reservation;
use crate::stamps::{generated_name, timestamp};
use crate::store_error::{may_be_written, unavailable};

/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 8;

impl Registry {
    /// Creates a decoded and defaulted object.
    pub async fn create(
        &self,
        target: &Target<'_>,
        mut object: Object,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        for decided_by_server in
            ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            object.metadata_mut().remove(decided_by_server);
        }
        let catalog = self.catalog();
        let versions = Versions { catalog: &catalog, client_row: target.client_row, working_row: target.working_row() };
        field_managers::track(
            versions,
            target.subresource,
            None,
            &mut object,
            &options.field_manager,
            Timestamp::now(),
        )?;
        self.create_tracked(target, object, options, Write::Create, warnings).await
    }

    /// Creates an object whose field owners are known already.
    pub(super) async fn create_tracked(
        &self,
        target: &Target<'_>,
        mut object: Object,
        options: &WriteOptions,
        what: Write,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        let working_row = target.working_row();
        let _entered = if working_row.is_custom() { Some(self.enter(target).await?) } else { None };
        metadata::check_namespace(working_row, target.namespace, &mut object)?;
        metadata::dedupe_owners(&mut object, warnings);
        let now = Timestamp::now();
        let raw = options.to_value(what);
        let name = object.name().to_owned();
        let catalog = self.catalog();
        let attributes =
            Attributes { name: &name, ..target.attributes(Operation::Create, &catalog, (options.dry_run, &raw)) };
        let admission = self.admission_by_all()?;
        admission.mutate(&attributes, Some(&mut object), warnings).await?;
        metadata::dedupe_owners(&mut object, warnings);
        let generated = object.name().is_empty() && !object.text(&["metadata", "generateName"]).is_empty();
        for attempt in 1.. {
            // Only a generated name is tried again.
            let mut candidate = if generated { object.clone() } else { std::mem::take(&mut object) };
            self.prepare_create(target, &mut candidate, now, generated);
            // The rules look at what a Service has been given, too.
            let reservation =
                self.allocator.allocate(working_row, target.subresource, &mut candidate, None, options.dry_run).await?;
            let created = async {
                self.check_new(target, &candidate, warnings, now)?;
                admission.validate(&attributes, Some(&candidate), warnings).await?;
                self.insert(target, candidate, options.dry_run).await
            };
            match self.keep_if_written(reservation, created.await).await {
                Err(err) if generated && attempt < NAME_ATTEMPTS && err.status().reason == "AlreadyExists" => {}
                done => return done,
            }
        }
        unreachable!("the loop returns on its last attempt")
    }

    /// Begins to create a custom object: its definition does not go before that is done, and must not be going already.
    async fn enter(&self, target: &Target<'_>) -> Result<OwnedRwLockReadGuard<()>, ApiError> {
        let working_row = target.working_row();
        let entered = self.gates.enter(&working_row.storage_prefix).await;
        let catalog = self.catalog();
        let now = catalog
            .resource(&working_row.group, &working_row.version, &working_row.plural)
            .and_then(|row| row.custom.as_ref());
        match now {
            Some(custom) if custom.terminating => Err(definition_goes(target)),
            Some(_) => Ok(entered),
            None => Err(ApiError::unknown_resource()),
        }
    }

    fn prepare_create(&self, target: &Target<'_>, object: &mut Object, now: Timestamp, generated: bool) {
        let working_row = target.working_row();
        if generated {
            let name = generated_name(object.text(&["metadata", "generateName"]));
            object.set_metadata("name", name);
        }
        for dropped in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object.metadata_mut().remove(dropped);
        }
        object.set_metadata("uid", uuid::Uuid::new_v4().to_string());
        object.set_metadata("creationTimestamp", timestamp(now));
        if working_row.has_generation {
            object.set_metadata("generation", 1);
        }
        if working_row.has_subresource("status") && !working_row.strategy.keeps_status_on_create() {
            object.root_mut().remove("status");
        }
        working_row.strategy.prepare_create(&target.write_context(now), object);
    }

    fn check_new(
        &self,
        target: &Target<'_>,
        object: &Object,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let working_row = target.working_row();
        let strategy = &target.client_row.strategy;
        warnings.extend(working_row.strategy.preparation_warnings(object));
        let mut errors = metadata::validate(working_row, object);
        let rules = || strategy.validate_create(&target.write_context(now), object);
        errors.extend(if strategy.validation_may_take_long() { blocking(rules) } else { rules() });
        if !errors.is_empty() {
            return Err(metadata::refused(working_row, object.name(), &errors));
        }
        warnings.extend(working_row.strategy.warnings(object, None));
        Ok(())
    }

    async fn insert(&self, target: &Target<'_>, object: Object, dry_run: bool) -> Result<Written, ApiError> {
        let name = object.name().to_owned();
        if dry_run {
            let there = self.store.get(&target.key(&name)).await.map_err(|err| unavailable(&err))?;
            return if there.is_some() {
                Err(self.exists(target, &name).await)
            } else {
                self.pretended(target, object).await
            };
        }
        // Only what writes minds.
        if !object.resource_version().is_empty() {
            return Err(ApiError::unclassified("resourceVersion should not be set on objects to be created"));
        }
        match self.put(target, &name, object, Expected::Absent).await? {
            Ok(written) => Ok(written),
            Err(store::Error::Conflict { .. }) => Err(self.exists(target, &name).await),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// A write that did not happen gives back what it had been given.
    async fn keep_if_written(
        &self,
        reservation: Reservation,
        written: Result<Written, ApiError>,
    ) -> Result<Written, ApiError> {
        match &written {
            Ok(_) => drop(reservation.commit()),
            // If it turns out not to be needed, the allocator's repair gives it back.
            Err(err) if may_be_written(err) => drop(reservation),
            Err(_) => self.allocator.release(reservation).await,
        }
        written
    }

    /// The error for a name that is taken, which says whether it will be free again.
    async fn exists(&self, target: &Target<'_>, name: &str) -> ApiError {
        let mut err = ApiError::already_exists(target.client_row.qualified(), name);
        if let Ok(Some(current)) = self.current(target, name).await
            && current.object.is_being_deleted()
        {
            let status = err.status_mut();
            status.message = format!("object is being deleted: {}", status.message);
        }
        err
    }
}

/// What a definition that is being deleted says to new objects.
fn definition_goes(target: &Target<'_>) -> ApiError {
    let what = target.client_row.qualified();
    let text = "create not allowed while custom resource definition is terminating";
    ApiError::method_not_allowed(text).with_details(Details {
        group: what.group.to_owned(),
        kind: what.resource.to_owned(),
        ..Details::default()
    })
}
