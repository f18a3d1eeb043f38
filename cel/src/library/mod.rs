//! What expressions can call, in libraries (upstream: `apiserver/pkg/cel/library`).

mod format;
mod lists;
mod net;
mod optional;
mod regex;
mod semver;
mod sets;
mod standard;
mod strings;
mod time;
mod url;

use crate::function::Library;

pub use format::{Format, formats};
pub use semver::SemanticVersion;

pub(crate) use standard::standard;

/// The libraries that Kubernetes adds to the standard functions, apart from those that need a host.
pub(crate) fn kubernetes() -> Vec<Library> {
    vec![
        optional::library(),
        strings::library(),
        lists::library(),
        lists::extended(),
        regex::library(),
        url::library(),
        net::library(),
        semver::library(),
        sets::library(),
    ]
}
