//! Changes that the server itself makes to an object, on behalf of a subresource (binding, eviction) (upstream:
//! `storage.GuaranteedUpdate`).

use std::sync::Arc;

use api::strategy::User;
use api::{ApiError, Object};
use jiff::Timestamp;
use store::Expected;

use super::{Registry, Target, Written, metadata};
use crate::field_managers;
use crate::store_error::unavailable;
use crate::watch_cache::ResourceCache;

impl Registry {
    /// Changes the status of a cluster-wide object on behalf of this server. Nothing is written when nothing changes.
    pub(crate) async fn change_status(
        &self,
        cache: &Arc<ResourceCache>,
        name: &str,
        change: impl Fn(&mut Object, Timestamp) + Send + Sync,
    ) -> Result<(), ApiError> {
        let user = User { name: "system:apiserver".to_owned(), ..User::default() };
        let row = cache.row();
        let target = Target { subresource: "status", ..Target::stored(cache, "", name, &user) };
        let written = self.modify(&target, false, |object| {
            let before = object.clone();
            change(object, Timestamp::now());
            if *object != before {
                field_managers::track_own(row, "status", &before, object);
            }
            Ok(())
        });
        written.await.map(|_| ())
    }

    /// Changes the stored object with `change`, repeated when somebody else was faster. The caller has admitted and
    /// validated what it does.
    pub async fn modify(
        &self,
        target: &Target<'_>,
        dry_run: bool,
        change: impl Fn(&mut Object) -> Result<(), ApiError> + Send + Sync,
    ) -> Result<Written, ApiError> {
        loop {
            let current = self.current(target, target.name).await?.ok_or_else(|| target.not_found())?;
            let mut object = current.object.clone();
            change(&mut object)?;
            if dry_run {
                return self.pretended(target, object).await;
            }
            if metadata::same(&object, &current.object) && !self.is_stale(target, &current).await? {
                return Ok(Written::of(&current));
            }
            if object.is_being_deleted() && metadata::may_vanish(target.working_row(), &object) {
                match self.vanish(target, &current, object, dry_run).await? {
                    Some(written) => return Ok(written),
                    None => continue,
                }
            }
            match self.put(target, target.name, object, Expected::Revision(current.revision)).await? {
                Ok(written) => return Ok(written),
                Err(store::Error::Conflict { .. }) => {}
                Err(err) => return Err(unavailable(&err)),
            }
        }
    }
}
