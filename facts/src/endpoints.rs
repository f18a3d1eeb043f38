//! Endpoints of Services (upstream: k8s.io/api/discovery/v1, whose conditions mean "yes" where they are not known).

use k8s_openapi::api::discovery::v1::Endpoint;

/// Whether traffic may go to the endpoint.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// Whether it answers, even while it ends.
pub fn is_serving(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.serving).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_not_known_is_yes() {
        let check = |conditions: Value, ready, serving| {
            let endpoint = serde_json::from_value(json!({"addresses": [], "conditions": conditions})).unwrap();
            assert_eq!((is_ready(&endpoint), is_serving(&endpoint)), (ready, serving), "{endpoint:?}");
        };
        check(json!(null), true, true);
        check(json!({"ready": false}), false, true);
        check(json!({"ready": false, "serving": false, "terminating": true}), false, false);
    }
}
