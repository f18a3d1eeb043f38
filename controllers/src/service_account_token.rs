//! Fills Secrets of the type `kubernetes.io/service-account-token` with a token of the ServiceAccount that they name, and
//! removes those whose account has gone (upstream: `TokensController` of `pkg/controller/serviceaccount`).

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Event, Informer, ObjectKey, WorkQueue, write};
use daemon::TokenKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "serviceaccount-token-controller",
    aliases: &["serviceaccount-token"],
    start: |start| {
        let Some(key) = start.config.token_key.clone() else { return Ok(()) };
        let root_ca = start.config.root_ca.clone().unwrap_or_default();
        let workers = start.config.tuning.concurrent_serviceaccount_token_syncs;
        start.drive("serviceaccount_tokens_secret", Tokens::new(start.context, key, root_ca), workers)
    },
};

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Secrets by `namespace/name` of the account that they name.
const BY_ACCOUNT: &str = "service account";

struct Tokens {
    client: kube::Client,
    secrets: Informer<Secret>,
    key: Arc<TokenKey>,
    root_ca: String,
}

impl Tokens {
    fn new(context: &Context, key: Arc<TokenKey>, root_ca: String) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let secrets = context.informers.with_fields::<Secret>("type=kubernetes.io/service-account-token");
        secrets.add_index(BY_ACCOUNT, |secret| account(secret).map(|key| key.to_string()).into_iter().collect());
        let changed = queue.clone();
        secrets.on_event(move |event| {
            if let Event::Applied { .. } = event {
                changed.add(event.key());
            }
        });
        let accounts = context.informers.of::<ServiceAccount>();
        let (changed, known) = (queue.clone(), secrets.clone());
        accounts.on_event(move |event| {
            for secret in known.by_index(BY_ACCOUNT, &event.key().to_string()) {
                changed.add(ObjectKey::of(&*secret));
            }
        });
        (Self { client: context.client.clone(), secrets, key, root_ca }, queue)
    }

    /// The account that a Secret names, as it is now: a Secret may come before the news of its account.
    async fn account(&self, key: &ObjectKey, uid: &str) -> Result<Option<ServiceAccount>, Failure> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await?;
        let is_it = |account: &ServiceAccount| uid.is_empty() || meta::uid(&account.metadata) == uid;
        Ok(found.filter(is_it))
    }

    async fn delete(&self, key: &ObjectKey, secret: &Secret) -> Result<(), Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let preconditions = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await {
            Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => Ok(()),
            outcome => outcome.map(drop).map_err(Into::into),
        }
    }

    /// What the Secret lacks, filled in; `None` when it lacks nothing.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>, Failure> {
        let mut filled = secret.clone();
        let data = filled.data.get_or_insert_default();
        let namespace = meta::namespace(&secret.metadata);
        if !self.root_ca.is_empty() {
            data.insert("ca.crt".to_owned(), ByteString(self.root_ca.clone().into_bytes()));
        }
        let is_there =
            |data: &BTreeMap<String, ByteString>, key: &str| data.get(key).is_some_and(|it| !it.0.is_empty());
        if !is_there(data, "namespace") {
            data.insert("namespace".to_owned(), ByteString(namespace.as_bytes().to_vec()));
        }
        if !is_there(data, "token") {
            let token = self.key.sign(&claims(secret, account)).map_err(|err| Failure::Sign(Box::new(err)))?;
            data.insert("token".to_owned(), ByteString(token.into_bytes()));
        }
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT.to_owned(), meta::name(&account.metadata).to_owned());
        annotations.insert(ACCOUNT_UID.to_owned(), meta::uid(&account.metadata).to_owned());
        let is_same = filled.data == secret.data && filled.metadata.annotations == secret.metadata.annotations;
        Ok((!is_same).then_some(filled))
    }
}

impl Controller for Tokens {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(secret) = self.secrets.get(&key) else { return Ok(None) };
        let Some(named) = account(&secret) else { return Ok(None) };
        let Some(account) = self.account(&named, annotation(&secret, ACCOUNT_UID)).await? else {
            self.delete(&key, &secret).await?;
            return Ok(None);
        };
        if let Some(filled) = self.filled(&secret, &account)? {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
            write::ignore_not_found(api.replace(&key.name, &PostParams::default(), &filled).await)?;
        }
        Ok(None)
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> &'a str {
    secret.metadata.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
}

/// The account that a Secret names.
fn account(secret: &Secret) -> Option<ObjectKey> {
    let name = annotation(secret, ACCOUNT);
    (!name.is_empty()).then(|| ObjectKey::new(meta::namespace(&secret.metadata).to_owned(), name.to_owned()))
}

/// What the token says: it never ends, but with its Secret or its account.
fn claims(secret: &Secret, account: &ServiceAccount) -> Value {
    let (namespace, name) = (meta::namespace(&account.metadata), meta::name(&account.metadata));
    json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": meta::name(&secret.metadata),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": meta::uid(&account.metadata),
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}
