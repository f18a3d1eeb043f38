//! The webhooks that are configured, read when a configuration changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::expression::admission::Scope;
use api::{ApiError, Object, Resource};
use bytes::Bytes;
use serde_json::Value;

use super::review::{self, ReviewVersion};
use super::{Failure, list, text};
use crate::admission::expression::MatchConditions;
use crate::admission::matching::Criteria;
use crate::admission::{Attributes, Environment, Warnings};
use crate::audit;
use crate::authz::follow::{Change, Follower};
use crate::conversion::Converters;
use crate::outbound::webhooks::{Webhook, Webhooks};
use crate::watch_cache::{Behind, ResourceCache};

/// How long a webhook may take that does not say.
const TIMEOUT: u64 = 10;

/// One entry of `webhooks`.
pub(super) struct Hook {
    /// Different for each entry of all configurations.
    pub(super) id: String,
    pub(super) configuration: String,
    pub(super) name: String,
    /// Whether requests go on when it cannot be asked.
    pub(super) fails_open: bool,
    pub(super) reinvocable: bool,
    criteria: Result<Criteria, ApiError>,
    conditions: MatchConditions,
    /// Whether it may be asked about dry runs.
    takes_dry_runs: bool,
    version: Option<ReviewVersion>,
    timeout: Duration,
    client: Result<Webhook, String>,
}

impl Hook {
    fn read(configuration: &str, tree: &Value, nth: usize, webhooks: &Webhooks) -> Self {
        let name = text(tree, "name").to_owned();
        let versions = list(tree, "admissionReviewVersions");
        let seconds = tree.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT);
        let client = webhooks.webhook(tree.get("clientConfig").unwrap_or(&Value::Null));
        Self {
            id: format!("{configuration}/{name}/{nth}"),
            configuration: configuration.to_owned(),
            name,
            fails_open: text(tree, "failurePolicy") == "Ignore",
            reinvocable: text(tree, "reinvocationPolicy") == "IfNeeded",
            criteria: Criteria::of_webhook(tree),
            conditions: MatchConditions::read(tree, &Scope::default()),
            takes_dry_runs: matches!(text(tree, "sideEffects"), "None" | "NoneOnDryRun"),
            version: versions.filter_map(Value::as_str).find_map(ReviewVersion::from_name),
            timeout: Duration::from_secs(seconds),
            client: client.map_err(|err| err.to_string()),
        }
    }

    /// Whether it is to be asked about a request, and as which version of the resource.
    pub(super) async fn wants<'a>(
        &self,
        attributes: &Attributes<'a>,
        object: Option<&Object>,
        environment: &Environment,
    ) -> Result<Option<&'a Resource>, ApiError> {
        let criteria = self.criteria.as_ref().map_err(ApiError::internal)?;
        let Some(row) = criteria.matches(attributes, object, &environment.namespaces).await? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(row));
        }
        let shown = match object {
            Some(object) => Some(attributes.show(&environment.converters, row, object).await?),
            None => None,
        };
        let old = attributes.show_old(&environment.converters, row).await?;
        let objects = (shown.as_ref(), old.as_ref());
        match self.conditions.hold_for(attributes, row, objects, &environment.authz, &environment.namespaces).await {
            Ok(hold) => Ok(hold.then_some(row)),
            Err(_) if self.fails_open => Ok(None),
            Err(why) => Err(ApiError::forbidden(attributes.requested.qualified(), attributes.name, &why)),
        }
    }

    /// Asks about a request, and returns the patch of the answer: JSON, empty for none.
    pub(super) async fn ask(
        &self,
        attributes: &Attributes<'_>,
        row: &Resource,
        (shown, converters): (Option<&Object>, &Converters),
        mutating: bool,
        warnings: &mut Warnings,
    ) -> Result<Vec<u8>, Failure> {
        if attributes.dry_run && !self.takes_dry_runs {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(ApiError::bad_request(why).into());
        }
        let version = self.version.ok_or_else(|| {
            let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Failure::Calling(format!("could not create admission objects: {why}"))
        })?;
        let client =
            self.client.as_ref().map_err(|why| Failure::Calling(format!("could not get REST client: {why}")))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let old = attributes.show_old(converters, row).await?;
        let request = review::request(version, &uid, attributes, row, (shown, old.as_ref()));
        let answer = client.call(Bytes::from(request.to_string()), self.timeout).await;
        let answer = answer.map_err(|err| Failure::Calling(format!("failed to call webhook: {err}")))?;
        let verdict = review::verdict(version, &uid, &answer, mutating).map_err(Failure::Calling)?;
        warnings.extend(verdict.warnings);
        for (key, value) in verdict.annotations {
            audit::annotate(&format!("{}/{key}", self.name), || value);
        }
        match verdict.allowed {
            true => Ok(verdict.patch),
            false => Err(review::denied(&self.name, verdict.status).into()),
        }
    }
}

/// All webhooks of one kind of configuration.
pub(super) struct Hooks {
    webhooks: Webhooks,
    configurations: Arc<ResourceCache>,
    state: RwLock<State>,
}

struct State {
    follower: Follower,
    configurations: BTreeMap<String, Vec<Arc<Hook>>>,
    /// In the order of calls; `None` when there are none.
    current: Option<Arc<[Arc<Hook>]>>,
}

impl Hooks {
    pub(super) fn new(environment: &Environment, plural: &str) -> Option<Self> {
        let source = environment.cache.resource(plural)?;
        let state = State { follower: Follower::new(source.clone()), configurations: BTreeMap::new(), current: None };
        Some(Self { webhooks: environment.webhooks.clone(), configurations: source, state: RwLock::new(state) })
    }

    /// The webhooks that there are by what this server has acknowledged, if any.
    pub(super) async fn current(&self) -> Result<Option<Arc<[Arc<Hook>]>>, Behind> {
        self.configurations.settle().await?;
        Ok(self.known())
    }

    fn known(&self) -> Option<Arc<[Arc<Hook>]>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !state.follower.is_behind() {
            return state.current.clone();
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut state);
        state.current.clone()
    }

    fn catch_up(&self, state: &mut State) {
        let State { follower, configurations, current } = state;
        // Configurations that did not change keep their connections.
        follower.catch_up(|change| match change {
            Change::Reset => configurations.clear(),
            Change::Gone(cached) => {
                configurations.remove(cached.name());
            }
            Change::Put(cached) => {
                configurations.insert(cached.name().to_owned(), read(&cached.object(), &self.webhooks));
            }
        });
        let all: Vec<Arc<Hook>> = configurations.values().flatten().cloned().collect();
        *current = (!all.is_empty()).then(|| all.into());
    }
}

fn read(configuration: &Object, webhooks: &Webhooks) -> Vec<Arc<Hook>> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let entries = configuration.get(&["webhooks"]).and_then(Value::as_array).into_iter().flatten();
    let hooks = entries.map(|tree| {
        let nth = names.entry(text(tree, "name")).or_default();
        *nth += 1;
        Arc::new(Hook::read(configuration.name(), tree, *nth, webhooks))
    });
    hooks.collect()
}
