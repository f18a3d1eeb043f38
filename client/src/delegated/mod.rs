//! Asking the API server who somebody is and what they may do, for servers beside it: upstream's delegated authentication
//! and authorization, by TokenReviews and SubjectAccessReviews.

mod gate;
mod reviews;

pub use gate::{DelegatedError, Door, SecureEndpoint, beside};
pub use reviews::{Deed, Memory, Reviews, User};
