//! How a webhook is reached (upstream: `apiserver/pkg/util/webhook/validation.go`).

use super::tree::{Errors, Node};
use super::{naming, url};

/// How to reach a webhook.
pub(crate) fn client_config(at: &Node<'_, '_>, errors: &mut Errors) {
    let (url, service) = (at.field("url"), at.field("service"));
    match (url.is_set(), service.is_set()) {
        (true, true) | (false, false) => errors.required(at, "exactly one of url or service is required"),
        (true, false) => webhook_url(&url, errors),
        (false, true) => service_reference(&service, errors),
    }
}

fn webhook_url(at: &Node<'_, '_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match url::Url::parse(at.text()) {
        Ok(url) => url,
        Err(why) => {
            errors.required(at, &format!("url must be a valid URL: parse {:?}: {why}{FORM}", at.text()));
            return;
        }
    };
    if url.scheme != "https" {
        errors.invalid_value(at, url.scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        errors.invalid_value(at, "", &format!("host must be provided{FORM}"));
    }
    if let Some(user) = url.user {
        errors.invalid_value(at, user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        errors.invalid_value(at, url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        errors.invalid_value(at, url.query, "query parameters are not permitted in the URL");
    }
}

fn service_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    // The reference takes one for the other here.
    for (key, shown, why) in
        [("namespace", "name", "service name is required"), ("name", "namespace", "service namespace is required")]
    {
        if at.field(key).text().is_empty() {
            errors.required(&at.field(shown), why);
        }
    }
    let port = at.field("port");
    if port.is_set() && !(1..=65535).contains(&port.number()) {
        errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    service_path(&at.field("path"), errors);
}

fn service_path(at: &Node<'_, '_>, errors: &mut Errors) {
    let path = at.text();
    if matches!(path, "" | "/") {
        return;
    }
    if path == "//" {
        errors.invalid(at, "segment[0] may not be empty");
        return;
    }
    if !path.starts_with('/') {
        errors.invalid(at, "must start with a '/'");
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(at, &format!("segment[{index}] may not be empty"));
        } else {
            errors.invalid_all(at, naming::subdomain(step).into_iter().map(|why| format!("segment[{index}]: {why}")));
        }
    }
}
