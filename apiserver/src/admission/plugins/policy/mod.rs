//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy (upstream's `plugin/policy`): expressions that refuse requests or
//! change them.
//!
//! A policy acts through its bindings, each of which may narrow what it is about and hand it parameters; with several
//! parameter objects it acts once with each.

mod binding;
mod mutating;
mod params;
mod store;
mod validating;

use api::expression::admission::{Scope, Wanted};
use api::status::{Cause, Details};
use api::{ApiError, Object, Resource};
use serde_json::Value;

use self::binding::Binding;
use self::params::ParamKind;
use crate::admission::expression::{Answers, Expression, MatchConditions, Subject, namespace_of, request};
use crate::admission::matching::Criteria;
use crate::admission::{Attributes, Environment, Namespaces, Operation, list, text};

pub(super) use mutating::PLUGIN as MUTATING;
pub(super) use validating::PLUGIN as VALIDATING;

/// What a policy does when it acts.
trait Body: Sized + Send + Sync {
    /// The plural names of policies and bindings.
    const PLURALS: (&'static str, &'static str);

    /// Whether its expressions build objects.
    const PATCHES: bool;

    /// Reads it from a policy's spec.
    fn read(spec: &Value, scope: &Scope) -> Self;
}

/// A policy.
struct Policy<B> {
    name: String,
    /// Whether requests go on when it cannot decide.
    fails_open: bool,
    criteria: Result<Criteria, ApiError>,
    param_kind: Option<ParamKind>,
    conditions: MatchConditions,
    variables: Vec<(String, Expression)>,
    body: B,
}

impl<B> Policy<B> {
    /// The version in which the policy sees a request's objects, if it is about the request.
    async fn wants<'a>(
        &self,
        attributes: &Attributes<'a>,
        object: Option<&Object>,
        namespaces: &Namespaces,
    ) -> Result<Option<&'a Resource>, ApiError> {
        let criteria = self.criteria.as_ref().map_err(Clone::clone)?;
        criteria.matches(attributes, object, namespaces).await
    }

    /// Why the policy cannot act at all, through whatever binding.
    fn misfit(&self, attributes: &Attributes<'_>) -> Option<String> {
        let why = self.param_kind.as_ref()?.row(attributes).err()?;
        Some(format!("failed to configure policy: {why}"))
    }
}

impl<B: Body> Policy<B> {
    fn read(policy: &Object) -> Self {
        let none = Value::Null;
        let spec = policy.get(&["spec"]).unwrap_or(&none);
        let param_kind = ParamKind::read(spec);
        let mut scope = Scope::default();
        scope.params = param_kind.is_some();
        let conditions = MatchConditions::read(spec, &scope);
        scope.patches = B::PATCHES;
        let mut variables = Vec::new();
        for tree in list(spec, "variables") {
            let expression = Expression::new(&scope, text(tree, "expression"), Wanted::Anything);
            scope.declare(text(tree, "name"), &expression.type_());
            variables.push((text(tree, "name").to_owned(), expression));
        }
        Self {
            name: policy.name().to_owned(),
            fails_open: text(spec, "failurePolicy") == "Ignore",
            criteria: Criteria::of_policy(spec.get("matchConstraints").unwrap_or(&none)),
            param_kind,
            conditions,
            variables,
            body: B::read(spec, &scope),
        }
    }
}

/// A policy that acts on a request, with one parameter object or without.
struct Turn<'a, B> {
    policy: &'a Policy<B>,
    params: Option<&'a Object>,
    /// The version in which objects are shown.
    row: &'a Resource,
}

/// What expressions see of a request, apart from its new object.
struct Scene {
    request: Value,
    old: Option<Object>,
    namespace: Option<Object>,
    answers: Answers,
}

impl Scene {
    async fn new(attributes: &Attributes<'_>, row: &Resource, environment: &Environment) -> Result<Self, ApiError> {
        Ok(Self {
            request: request(attributes, row),
            old: attributes.show_old(&environment.converters, row).await?,
            namespace: namespace_of(attributes, &environment.namespaces).await?,
            answers: Answers::new(attributes),
        })
    }

    fn subject<'a>(&'a self, object: Option<&'a Object>, params: Option<&'a Object>) -> Subject<'a> {
        Subject {
            object,
            old: self.old.as_ref(),
            request: &self.request,
            namespace: self.namespace.as_ref(),
            params,
            answers: &self.answers,
        }
    }
}

/// The new object of a request as policies see it: a deletion has none.
async fn shown(
    environment: &Environment,
    attributes: &Attributes<'_>,
    row: &Resource,
    object: Option<&Object>,
) -> Result<Option<Object>, ApiError> {
    match object.filter(|_| attributes.operation != Operation::Delete) {
        Some(object) => attributes.show(&environment.converters, row, object).await.map(Some),
        None => Ok(None),
    }
}

/// The parameters with which a policy acts through a binding, `None` for one that acts without; empty when the binding is
/// not about the request. The inner error is why the policy cannot act.
async fn params_of<B>(
    environment: &Environment,
    (policy, binding): (&Policy<B>, &Binding),
    attributes: &Attributes<'_>,
    object: Option<&Object>,
) -> Result<Result<Vec<Option<Object>>, String>, ApiError> {
    if !binding_matches(binding, attributes, object, &environment.namespaces).await? {
        return Ok(Ok(Vec::new()));
    }
    Ok(match params::find(environment, policy.param_kind.as_ref(), binding.params.as_ref(), attributes).await {
        Err(_) if policy.fails_open => Ok(Vec::new()),
        Err(why) => Err(format!("failed to configure binding: {why}")),
        found => found,
    })
}

/// Whether a binding lets its policy act on a request.
async fn binding_matches(
    binding: &Binding,
    attributes: &Attributes<'_>,
    object: Option<&Object>,
    namespaces: &Namespaces,
) -> Result<bool, ApiError> {
    match &binding.criteria {
        None => Ok(true),
        Some(Ok(criteria)) => Ok(criteria.matches(attributes, object, namespaces).await?.is_some()),
        Some(Err(err)) => Err(err.clone()),
    }
}

/// The error that refuses a request in the name of a policy.
fn denied(attributes: &Attributes<'_>, message: &str, reason: &str) -> ApiError {
    let row = attributes.requested;
    let mut error = ApiError::forbidden(row.qualified(), attributes.name, message);
    let status = error.status_mut();
    let (code, reason) = match reason {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.code = code;
    status.reason = reason.to_owned();
    let details = status.details.get_or_insert_with(Details::default);
    details.causes.push(Cause { message: message.to_owned(), ..Cause::default() });
    error
}
