//! Bindings: which policy acts on what, and with which parameters.

use api::selector::LabelSelector;
use api::{ApiError, Object};
use serde_json::Value;

use super::{list, text};
use crate::admission::matching::Criteria;

/// A binding.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// Narrows what the policy is about.
    pub(super) criteria: Option<Result<Criteria, ApiError>>,
    pub(super) params: Option<ParamRef>,
    /// What happens when a validation fails: `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

/// `paramRef`.
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Result<LabelSelector, ApiError>>,
    /// Whether the policy does not act when there are no parameters.
    pub(super) may_be_missing: bool,
}

impl Binding {
    pub(super) fn acts(&self, action: &str) -> bool {
        self.actions.iter().any(|known| known == action)
    }

    pub(super) fn read(object: &Object) -> Self {
        let none = Value::Null;
        let spec = object.get(&["spec"]).unwrap_or(&none);
        let given = |name: &str| spec.get(name).filter(|tree| !tree.is_null());
        let actions = list(spec, "validationActions").filter_map(Value::as_str);
        Self {
            name: object.name().to_owned(),
            policy: text(spec, "policyName").to_owned(),
            criteria: given("matchResources").map(Criteria::of_policy),
            params: given("paramRef").map(ParamRef::read),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}

impl ParamRef {
    fn read(tree: &Value) -> Self {
        let selector = tree.get("selector").filter(|selector| !selector.is_null());
        Self {
            name: text(tree, "name").to_owned(),
            namespace: text(tree, "namespace").to_owned(),
            selector: selector.map(|selector| LabelSelector::of_value(Some(selector)).map_err(ApiError::internal)),
            may_be_missing: text(tree, "parameterNotFoundAction") == "Allow",
        }
    }
}
