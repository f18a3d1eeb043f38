//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook (upstream's `plugin/webhook`): servers of other people that
//! change requests or refuse them.
//!
//! Mutating webhooks are called one after the other, by name of their configuration and in its order; validating ones
//! at the same time. Without configurations that ask for the request nothing is done and nothing is copied.

mod audit_annotations;
mod hooks;
mod mutating;
mod review;
mod validating;

use api::ApiError;

use self::audit_annotations::Place;
use self::hooks::Hook;
use crate::admission::{list, text};

pub(super) use mutating::PLUGIN as MUTATING;
pub(super) use validating::PLUGIN as VALIDATING;

/// Why a webhook let nothing through.
#[derive(Debug)]
enum Failure {
    /// It could not be asked, or its answer made no sense; its failure policy says what follows.
    Calling(String),
    /// It refused, or must not be asked.
    Refused(ApiError),
}

impl From<ApiError> for Failure {
    fn from(err: ApiError) -> Self {
        Self::Refused(err)
    }
}

/// Whether a call ends the request, for metrics.
fn is_rejected<T>(hook: &Hook, outcome: &Result<T, Failure>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(Failure::Calling(_)) => !hook.fails_open,
        Err(Failure::Refused(_)) => true,
    }
}

/// What decides whether a failure is the end of the request.
fn judge(hook: &Hook, failure: Failure, plugin: &str, place: Place) -> Result<(), ApiError> {
    match failure {
        Failure::Refused(err) => Err(err),
        Failure::Calling(why) if hook.fails_open => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed, and the request goes on without it");
            place.failed_open(plugin, hook);
            Ok(())
        }
        Failure::Calling(why) => Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name))),
    }
}
