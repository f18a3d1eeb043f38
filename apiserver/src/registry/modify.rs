//! Changes that the server itself makes to an object, on behalf of a subresource (binding, eviction).

use api::{ApiError, Object};
use store::Expected;

use super::{Registry, Target, Written, metadata, unavailable};

impl Registry {
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
            if object.is_being_deleted() && metadata::may_vanish(target.row(), &object) {
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
