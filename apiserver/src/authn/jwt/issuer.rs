//! One issuer: found by its discovery document, asked for keys, and the judge of its tokens.
//!
//! A task of its own fetches documents; requests only look at what is there, and wait when they need newer keys. So a
//! client that goes away breaks nothing off, and any number of tokens makes one fetch at a time, a few at once, and then
//! one now and then. Keys that were good once stay until there are others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::strategy::User;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::Settings;
use super::fetch::{Client, Connections, TIMEOUT};
use super::keys::Keys;
use super::metrics::Metrics;
use super::token::Token;

/// An issuer that could not be found is looked for again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// So many times keys are fetched in a row, and then once in this time: a token can name any key.
const MOST_IN_A_ROW: u32 = 5;
const ONE_IN: Duration = Duration::from_secs(10);

/// An issuer of tokens.
pub(super) struct Issuer {
    settings: Settings,
    client: Client,
    metrics: Metrics,
    /// Counts the requests for newer keys.
    wanted: watch::Sender<u64>,
    known: watch::Sender<Known>,
    pace: Mutex<Pace>,
}

/// What is known of an issuer.
#[derive(Clone)]
struct Known {
    /// Where its keys are, once it has been found.
    keys_at: Option<Arc<str>>,
    keys: Arc<Keys>,
    /// Requests for newer keys up to this one have been answered.
    answered: u64,
    /// Why the last try to find it, or to fetch its keys, failed.
    failed: Option<Arc<str>>,
}

impl Issuer {
    /// An issuer that has not been looked for yet.
    pub(super) fn new(settings: Settings, connections: Connections, metrics: Metrics) -> Result<Self, String> {
        let client = Client::new(settings.authority.as_deref(), connections)?;
        let nothing = Known { keys_at: None, keys: Arc::default(), answered: 0, failed: None };
        // The first request for keys is made here, so that they are there before the first token is.
        let (wanted, known) = (watch::Sender::new(1), watch::Sender::new(nothing));
        Ok(Self { settings, client, metrics, wanted, known, pace: Mutex::new(Pace::new(Instant::now())) })
    }

    pub(super) fn url(&self) -> &str {
        &self.settings.url
    }

    /// The user of a token that says to be of this issuer.
    pub(super) async fn user(&self, token: &Token<'_>) -> Result<User, String> {
        let known = self.known.borrow().clone();
        if known.keys_at.is_none() {
            return Err("authenticator not initialized".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let verify = |why: String| format!("verify token: {why}");
        let Settings { audiences, algorithms, mapping, .. } = &self.settings;
        let seal = token.check(audiences, algorithms, now).map_err(verify)?;
        if !seal.is_of(&known.keys) {
            let (keys, failed) = self.newer_keys().await;
            // Another request may have brought newer ones even if this one did not.
            if !seal.is_of(&keys) {
                let why = failed.map(|why| format!("fetching keys: {why}"));
                return Err(verify(why.unwrap_or_else(|| "failed to verify id token signature".to_owned())));
            }
        }
        mapping.user(&token.claims)
    }

    /// The keys once they have been fetched anew, and why they could not be, if so.
    async fn newer_keys(&self) -> (Arc<Keys>, Option<Arc<str>>) {
        let mut mine = 0;
        self.wanted.send_modify(|count| {
            *count += 1;
            mine = *count;
        });
        let mut known = self.known.subscribe();
        // A fetch that runs already is waited for, too.
        let answer = tokio::time::timeout(2 * TIMEOUT, known.wait_for(|known| known.answered >= mine)).await;
        if let Ok(Ok(known)) = answer {
            return (known.keys.clone(), known.failed.clone());
        }
        (self.known.borrow().keys.clone(), Some("there was no answer in time".into()))
    }

    /// Waits until the issuer has been found.
    pub(super) async fn found(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let mut known = self.known.subscribe();
        let _found = known.wait_for(|known| known.keys_at.is_some()).await;
    }

    /// Why it has not been found, if it has not.
    pub(super) fn missing(&self) -> Option<String> {
        let known = self.known.borrow();
        let why = known.failed.as_deref().unwrap_or("it has not answered yet");
        known.keys_at.is_none().then(|| format!("authenticator for issuer {:?} is not healthy: {why}", self.url()))
    }

    /// Finds the issuer, and fetches its keys whenever newer ones are wanted. Never ends; what was found out is kept when
    /// it is dropped.
    pub(super) async fn drive(&self) {
        let keys_at = loop {
            let known = self.known.borrow().keys_at.clone();
            if let Some(known) = known {
                break known;
            }
            match self.discover().await {
                Ok(found) => self.known.send_modify(|known| {
                    (known.keys_at, known.failed) = (Some(found.into()), None);
                }),
                Err(why) => {
                    tracing::error!(issuer = self.url(), %why, "initializing the authenticator of an issuer");
                    self.known.send_modify(|known| known.failed = Some(why.into()));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let mut wanted = self.wanted.subscribe();
        loop {
            let answered = self.known.borrow().answered;
            let Ok(count) = wanted.wait_for(|count| *count > answered).await.map(|count| *count) else { return };
            self.fetch(&keys_at, count).await;
        }
    }

    /// Where the keys are, as the issuer says itself.
    async fn discover(&self) -> Result<String, String> {
        let document = self.client.get(&self.settings.discovery).await?;
        keys_at(&document, self.url())
    }

    /// Fetches the keys, if it is not too soon, and answers all requests up to `count`.
    async fn fetch(&self, url: &str, count: u64) {
        let may = self.pace.lock().unwrap_or_else(PoisonError::into_inner).may(Instant::now());
        if !may {
            let why = Some("newer keys were asked for too often".into());
            self.known.send_modify(|known| (known.answered, known.failed) = (count, why));
            return;
        }
        let fetched = self.client.get(url).await;
        let fetched = fetched.and_then(|document| Keys::parse(&document).map_err(|why| format!("read {url}: {why}")));
        self.metrics.fetched(self.url(), fetched.is_ok());
        match fetched {
            Ok(keys) => self.known.send_modify(|known| {
                *known = Known { keys: Arc::new(keys), answered: count, failed: None, ..known.clone() };
            }),
            Err(why) => {
                tracing::warn!(issuer = self.url(), %why, "fetching the keys of an issuer, those before go on");
                self.known.send_modify(|known| (known.answered, known.failed) = (count, Some(why.into())));
            }
        }
    }
}

/// Reads a discovery document (OpenID Connect Discovery 1.0), which must be the issuer's own.
fn keys_at(document: &[u8], issuer: &str) -> Result<String, String> {
    let tree: Value = serde_json::from_slice(document).map_err(|err| format!("failed to decode provider: {err}"))?;
    let text = |field: &str| tree.get(field).and_then(Value::as_str).unwrap_or("");
    if text("issuer") != issuer {
        let given = text("issuer");
        return Err(format!("issuer did not match the issuer returned by provider, expected {issuer:?} got {given:?}"));
    }
    match text("jwks_uri") {
        "" => Err("the discovery document has no jwks_uri".to_owned()),
        keys if keys.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https")) => Ok(keys.to_owned()),
        keys => Err(format!("jwks_uri {keys:?} is no URL with https")),
    }
}

/// How often something may be done: a few times in a row, then once in a while.
struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { left: MOST_IN_A_ROW, since: now }
    }

    /// Whether it may be done now, which counts.
    fn may(&mut self, now: Instant) -> bool {
        while self.left < MOST_IN_A_ROW && now.duration_since(self.since) >= ONE_IN {
            self.left += 1;
            self.since += ONE_IN;
        }
        if self.left == MOST_IN_A_ROW {
            self.since = now;
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_a_few_times_and_then_now_and_then() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut fetched = |after: Duration, tries: u32| (0..tries).filter(|_| pace.may(start + after)).count();
        assert_eq!(fetched(Duration::ZERO, 1000), 5);
        assert_eq!(fetched(Duration::from_millis(9_999), 1000), 0);
        assert_eq!(fetched(Duration::from_secs(10), 1000), 1);
        assert_eq!(fetched(Duration::from_secs(35), 1000), 2);
        assert_eq!(fetched(Duration::from_secs(3600), 1000), 5);
    }

    #[test]
    fn a_discovery_document_speaks_of_its_own_issuer() {
        let read = |text: &str| keys_at(text.as_bytes(), "https://a");
        assert_eq!(read(r#"{"issuer": "https://a", "jwks_uri": "https://b/keys"}"#).as_deref(), Ok("https://b/keys"));
        for (bad, wanted) in [
            ("", "failed to decode provider"),
            ("[]", "issuer did not match"),
            (r#"{"issuer": "https://a/", "jwks_uri": "https://b/keys"}"#, "issuer did not match"),
            (r#"{"issuer": "https://a"}"#, "no jwks_uri"),
            (r#"{"issuer": "https://a", "jwks_uri": "http://b/keys"}"#, "is no URL with https"),
            (r#"{"issuer": "https://a", "jwks_uri": "file:///keys"}"#, "is no URL with https"),
        ] {
            assert!(read(bad).unwrap_err().contains(wanted), "{bad}");
        }
    }
}
