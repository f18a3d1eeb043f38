//! RBAC: Roles and ClusterRoles say what may be done, their bindings say by whom. Read from the watch cache through an
//! index that takes in changes when it is asked. Upstream: `plugin/pkg/auth/authorizer/rbac`.

mod index;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use api::strategy::User;
use async_trait::async_trait;

use self::index::{Grant, Index, Key, Subject};
use super::follow::{Change, Follower};
use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::watch_cache::{Behind, Cached, ResourceCache, WatchCache, settle};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The authoriser, and who else needs to know what somebody may do.
pub struct Rbac {
    caches: Vec<Arc<ResourceCache>>,
    state: RwLock<State>,
}

struct State {
    index: Index,
    sources: Vec<(Source, Follower)>,
}

/// The four resources behind the index.
#[derive(Clone, Copy)]
enum Source {
    ClusterRoles,
    Roles,
    ClusterRoleBindings,
    RoleBindings,
}

/// The rules of a user in one place, and the roles that bindings name in vain.
#[derive(Debug, Default)]
pub struct Rules {
    pub rules: Vec<Rule>,
    pub errors: Vec<String>,
}

impl Rbac {
    /// Reads roles and bindings from this cache.
    pub fn new(cache: &WatchCache) -> Self {
        let sources = [
            ("clusterroles", Source::ClusterRoles),
            ("roles", Source::Roles),
            ("clusterrolebindings", Source::ClusterRoleBindings),
            ("rolebindings", Source::RoleBindings),
        ];
        let known: Vec<_> =
            sources.into_iter().filter_map(|(plural, source)| Some((source, cache.resource(plural)?))).collect();
        let caches = known.iter().map(|(_, cache)| cache.clone()).collect();
        let followed = known.into_iter().map(|(source, cache)| (source, Follower::new(cache)));
        let state = RwLock::new(State { index: Index::default(), sources: followed.collect() });
        Self { caches, state }
    }

    /// Waits until roles and bindings are as this server has acknowledged them; to be called before each question.
    pub async fn settle(&self) -> Result<(), Behind> {
        settle(&self.caches).await
    }

    /// All that a user may do in a namespace (`""`: everywhere).
    pub fn rules_of(&self, user: &User, namespace: &str) -> Rules {
        let state = self.current();
        let mut found = Rules::default();
        state.visit(user, namespace, |_, role| {
            match role {
                Ok(rules) => found.rules.extend_from_slice(rules),
                Err(missing) => found.errors.push(missing),
            }
            false
        });
        found
    }

    /// The rules of a role: of a ClusterRole if `namespace` is empty.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.current().index.role(&(namespace.into(), name.into())).cloned()
    }

    /// Whether it is allowed, with the reason in upstream's words; else what went wrong on the way.
    pub fn decide(&self, wanted: &Attributes) -> Decision {
        let state = self.current();
        let namespace = if wanted.is_resource { wanted.namespace.as_str() } else { "" };
        let mut allowed = None;
        let mut errors = Vec::new();
        state.visit(&wanted.user, namespace, |grant, role| match role {
            Ok(rules) => {
                let allows = rules.iter().any(|rule| rule.allows(wanted));
                if allows {
                    allowed = Some(describe(grant));
                }
                allows
            }
            Err(missing) => {
                errors.push(missing);
                false
            }
        });
        match (allowed, errors.as_slice()) {
            (Some(how), _) => Decision::Allow(format!("RBAC: allowed by {how}")),
            (None, []) => Decision::NoOpinion(String::new()),
            (None, [one]) => Decision::NoOpinion(format!("RBAC: {one}")),
            (None, many) => Decision::NoOpinion(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// The state with all changes taken in.
    fn current(&self) -> RwLockReadGuard<'_, State> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !state.is_behind() {
            return state;
        }
        drop(state);
        self.state.write().unwrap_or_else(PoisonError::into_inner).catch_up();
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_behind(&self) -> bool {
        self.sources.iter().any(|(_, follower)| follower.is_behind())
    }

    fn catch_up(&mut self) {
        for (source, follower) in &mut self.sources {
            if follower.is_behind() {
                let index = &mut self.index;
                follower.catch_up(|change| source.apply(index, change));
            }
        }
    }

    /// Shows every grant of the user and its role's rules, cluster-wide ones first, until `see` says `true`.
    fn visit(&self, user: &User, namespace: &str, mut see: impl FnMut(&Grant, Result<&[Rule], String>) -> bool) {
        let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name.as_str().into()))
            .chain(user.groups.iter().map(|group| Subject::Group(group.as_str().into())))
            .collect();
        let places = if namespace.is_empty() { &[""][..] } else { &["", namespace][..] };
        for place in places {
            for grant in subjects.iter().flat_map(|subject| self.index.grants(subject, place)) {
                let rules = self.index.role(&grant.role).map(|rules| &**rules).ok_or_else(|| missing(&grant.role));
                if see(grant, rules) {
                    return;
                }
            }
        }
    }
}

impl Source {
    fn apply(self, index: &mut Index, change: Change<'_>) {
        match (self, change) {
            (Self::ClusterRoles, Change::Reset) => index.clear_roles(false),
            (Self::Roles, Change::Reset) => index.clear_roles(true),
            (Self::ClusterRoleBindings, Change::Reset) => index.clear_bindings(false),
            (Self::RoleBindings, Change::Reset) => index.clear_bindings(true),
            (Self::ClusterRoles | Self::Roles, Change::Put(cached)) => index.put_role(key(cached), &cached.object()),
            (Self::ClusterRoles | Self::Roles, Change::Gone(cached)) => index.remove_role(&key(cached)),
            (Self::ClusterRoleBindings | Self::RoleBindings, Change::Put(cached)) => {
                index.put_binding(key(cached), &cached.object())
            }
            (Self::ClusterRoleBindings | Self::RoleBindings, Change::Gone(cached)) => {
                index.remove_binding(&key(cached))
            }
        }
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.settle().await {
            Ok(()) => self.decide(attributes),
            Err(err) => Decision::NoOpinion(format!("RBAC: {err}")),
        }
    }
}

fn key(cached: &Cached) -> Key {
    (cached.namespace().into(), cached.name().into())
}

fn missing((namespace, name): &Key) -> String {
    let kind = if namespace.is_empty() { "clusterrole" } else { "role" };
    format!("{kind}.{GROUP} {name:?} not found")
}

/// `ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`.
fn describe(grant: &Grant) -> String {
    let named = |kind: &str, (namespace, name): &Key| {
        if namespace.is_empty() {
            format!("Cluster{kind} {name:?}")
        } else {
            format!("{kind} {:?}", format!("{name}/{namespace}"))
        }
    };
    let role = if grant.role.0.is_empty() { named("Role", &grant.role) } else { format!("Role {:?}", grant.role.1) };
    format!("{} of {role} to {}", named("RoleBinding", &grant.binding), grant.subject)
}
