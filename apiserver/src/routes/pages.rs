//! Pages for people: `/statusz` (KEP-4827), how the process is, and `/flagz` (KEP-4828), what it was told. Upstream says
//! that no program shall read them.

use std::fmt::Write as _;

use api::ApiError;
use http::{Method, StatusCode};
use jiff::Timestamp;

use crate::call::{Call, method_not_allowed};
use crate::request::info::Deed;
use crate::response::{self, Answer};
use crate::routes::health;

const NAME: &str = "kube-apiserver";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";

/// Answers one of these paths; `None` if it is another.
pub(crate) fn answer(call: &Call<'_>) -> Option<Result<Answer, ApiError>> {
    let page = match call.info.path.as_str() {
        "/statusz" => status,
        "/flagz" => flags,
        _ => return None,
    };
    if call.info.deed != Deed::Visit(Method::GET) {
        return Some(Err(method_not_allowed()));
    }
    Some(Ok(response::text(StatusCode::OK, page(call))))
}

fn status(call: &Call<'_>) -> String {
    let started = call.core.started;
    let up = Timestamp::now().duration_since(started).as_secs().max(0);
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let paths: Vec<String> = health::paths(call.core).into_iter().filter(|path| !path[1..].contains('/')).collect();
    format!(
        "\n{NAME} statusz\n{WARNING}\n\nStarted: {}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Go version: none (rust{})\nBinary version: {}\nEmulation version: 1.36\nPaths: {} /metrics /version\n",
        started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        env!("CARGO_PKG_RUST_VERSION"),
        daemon::reported_version(),
        paths.join(" "),
    )
}

fn flags(call: &Call<'_>) -> String {
    let mut page = format!("\n{NAME} flagz\n{WARNING}\n\n");
    for (name, value) in &call.core.config.flags {
        // Writing into a string cannot fail.
        let _ = writeln!(page, "{name}={value}");
    }
    page
}
