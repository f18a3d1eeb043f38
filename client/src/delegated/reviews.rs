//! The questions, and what is remembered of the answers.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// Answers that are remembered of each kind.
const MAX_REMEMBERED: usize = 4096;

/// A client that is who it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The common name is the user, organizations are the groups, as the API server reads them.
    pub fn of_certificate(common: String, organizations: Vec<String>) -> Self {
        let groups = organizations.into_iter().chain(["system:authenticated".to_owned()]).collect();
        Self { name: common, uid: None, groups, extra: BTreeMap::new() }
    }

    /// Whoever shows nothing.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self { name: "system:anonymous".to_owned(), uid: None, groups, extra: BTreeMap::new() }
    }

    /// Whether everything is allowed, in the API too: asking would only cost a round trip.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Something with a node or a subresource of it.
    Node { verb: &'static str, name: String, subresource: &'static str },
    /// A request for a path that is no resource.
    Path { verb: &'static str, path: String },
}

/// How long answers are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whose a token is, or that it is nobody's.
    pub identified: Duration,
    pub allowed: Duration,
    pub denied: Duration,
}

/// What the API server said, and until when that holds.
type Remembered<T> = (T, Instant);

/// Asks the API server and remembers what it said.
pub struct Reviews {
    client: kube::Client,
    memory: Memory,
    users: Mutex<HashMap<Vec<u8>, Remembered<Option<User>>>>,
    answers: Mutex<HashMap<(User, Deed), Remembered<bool>>>,
}

impl Reviews {
    pub fn new(client: kube::Client, memory: Memory) -> Self {
        Self { client, memory, users: Mutex::default(), answers: Mutex::default() }
    }

    /// Whose a token is; `None` when it is nobody's.
    pub async fn identify(&self, token: &str) -> kube::Result<Option<User>> {
        let key = Sha256::digest(token.as_bytes()).to_vec();
        if let Some(user) = remembered(&self.users, &key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        remember(&self.users, key, user.clone(), self.memory.identified);
        Ok(user)
    }

    /// Whether somebody may do it.
    pub async fn is_allowed(&self, user: &User, deed: &Deed) -> kube::Result<bool> {
        if user.is_master() {
            return Ok(true);
        }
        let question = (user.clone(), deed.clone());
        if let Some(answer) = remembered(&self.answers, &question) {
            return Ok(answer);
        }
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review(user, deed)).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let hold = if allowed { self.memory.allowed } else { self.memory.denied };
        remember(&self.answers, question, allowed, hold);
        Ok(allowed)
    }
}

fn review(user: &User, deed: &Deed) -> SubjectAccessReview {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match deed {
        Deed::Node { verb, name, subresource } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some((*subresource).to_owned()),
                name: Some(name.clone()),
                ..ResourceAttributes::default()
            });
        }
        Deed::Path { verb, path } => {
            let attributes = NonResourceAttributes { verb: Some((*verb).to_owned()), path: Some(path.clone()) };
            spec.non_resource_attributes = Some(attributes);
        }
    }
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

fn remembered<K: Hash + Eq, V: Clone>(cache: &Mutex<HashMap<K, Remembered<V>>>, key: &K) -> Option<V> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
}

fn remember<K: Hash + Eq, V>(cache: &Mutex<HashMap<K, Remembered<V>>>, key: K, value: V, hold: Duration) {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MAX_REMEMBERED {
        cache.clear();
    }
    cache.insert(key, (value, Instant::now() + hold));
}
