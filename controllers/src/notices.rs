//! Says of objects that nothing in this cluster acts on that it is so: whoever made one would wait for ever. What says so
//! is one event, a while after the object was made, if nobody has taken it up by then.

use std::marker::PhantomData;
use std::time::Duration;

use client::{Event, Informer, ObjectKey, Recorder, Watchable, WorkQueue, clock, events};
use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};

use crate::Error;
use crate::context::{Context, Controller, Outcome};
use crate::descriptor::{Descriptor, Start};

/// The controller; what others may run here, such as an ingress controller, has a while to take an object up.
pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "stored-only-notice-controller",
    aliases: &[],
    start: |start| {
        follow::<Ingress>(start)?;
        // With a pool, the controller of load balancers tells of those that get no address.
        if start.config.load_balancer_pool.is_empty() {
            follow::<Service>(start)?;
        }
        if !start.config.enforced.network_policy {
            follow::<NetworkPolicy>(start)?;
        }
        Ok(())
    },
};

fn follow<K: StoredOnly>(start: &mut Start<'_>) -> Result<(), Error> {
    start.drive("stored-only-notice", Notices::<K>::new(start.context, start.config.notice_patience), 1)
}

const REASON: &str = "NotActedOn";
/// Of older objects it was said already: a controller that starts anew does not repeat it.
const NEWS: Duration = Duration::from_secs(300);

/// A kind whose objects are stored, and no more.
pub(crate) trait StoredOnly: Watchable {
    /// What the user is told; `None` when it does not hold for this object, or somebody has taken it up.
    fn notice(&self) -> Option<String>;
}

impl StoredOnly for Ingress {
    fn notice(&self) -> Option<String> {
        let status = self.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let taken = status.is_some_and(|balancer| balancer.ingress.as_ref().is_some_and(|points| !points.is_empty()));
        let words = "no ingress controller has taken this Ingress up, and there is none in this cluster unless you run one; \
                     Services of type NodePort are reached without one";
        (!taken).then(|| words.to_owned())
    }
}

impl StoredOnly for Service {
    fn notice(&self) -> Option<String> {
        let spec = self.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"))?;
        if has_address(self.status.as_ref()?.load_balancer.as_ref()) {
            return None;
        }
        let ports: Vec<String> = spec.ports.iter().flatten().filter_map(|port| port.node_port).map(port_text).collect();
        let way = if ports.is_empty() {
            String::new()
        } else {
            format!("; it is reached by port {} of the node", ports.join(", "))
        };
        Some(format!(
            "no load balancer has taken this Service up, and there is none in this cluster unless you run one{way}"
        ))
    }
}

fn has_address(balancer: Option<&LoadBalancerStatus>) -> bool {
    balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|points| !points.is_empty())
}

fn port_text(port: i32) -> String {
    port.to_string()
}

impl StoredOnly for NetworkPolicy {
    fn notice(&self) -> Option<String> {
        let words = "network policies are not enforced in this cluster: pods reach each other whatever this one says";
        Some(words.to_owned())
    }
}

/// Tells of one kind.
struct Notices<K: StoredOnly> {
    objects: Informer<K>,
    recorder: Recorder,
    patience: Duration,
    kind: PhantomData<fn() -> K>,
}

impl<K: StoredOnly> Notices<K> {
    fn new(context: &Context, patience: Duration) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let objects = context.informers.of::<K>();
        let changed = queue.clone();
        objects.on_event(move |event| {
            if let Event::Applied { old: None, new } = event
                && due(new.meta().creation_timestamp.as_ref().map(|time| time.0), patience, clock::now()).is_some()
            {
                changed.add(event.key());
            }
        });
        let recorder = context.recorder.for_component("coracle");
        (Self { objects, recorder, patience, kind: PhantomData }, queue)
    }
}

impl<K: StoredOnly> Controller for Notices<K> {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(object) = self.objects.get(&key).filter(|object| object.meta().deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let made = object.meta().creation_timestamp.as_ref().map(|time| time.0);
        let Some(due) = due(made, self.patience, clock::now()) else { return Ok(None) };
        let left = pods::until(due, clock::now());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        if let Some(words) = object.notice() {
            self.recorder.warning(events::about(&*object), REASON, words);
        }
        Ok(None)
    }
}

/// When an object is to be told of; `None` for one that is no news.
fn due(made: Option<Timestamp>, patience: Duration, now: Timestamp) -> Option<Timestamp> {
    let made = made?;
    let fresh = now.duration_since(made) < SignedDuration::try_from(NEWS).ok()?;
    fresh.then(|| made.checked_add(SignedDuration::try_from(patience).ok()?).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn notice<K: StoredOnly + serde::de::DeserializeOwned>(object: Value) -> Option<String> {
        from_value::<K>(object).unwrap().notice()
    }

    #[test]
    fn what_somebody_has_taken_up_is_not_told_of() {
        let address = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        let none = json!({"loadBalancer": {}});
        assert!(notice::<Ingress>(json!({"metadata": {}, "status": none})).is_some());
        assert!(notice::<Ingress>(json!({"metadata": {}, "status": address})).is_none());
        let service = |kind: &str, status: &Value| {
            let spec = json!({"type": kind, "ports": [{"port": 80, "nodePort": 30080}]});
            notice::<Service>(json!({"metadata": {}, "spec": spec, "status": status}))
        };
        assert!(service("LoadBalancer", &none).unwrap().contains("port 30080"));
        assert!(service("LoadBalancer", &address).is_none());
        assert!(service("NodePort", &none).is_none());
    }

    #[test]
    fn an_object_is_told_of_once_when_it_has_waited() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let check = |made: &str, expected: Option<&str>| {
            let expected = expected.map(|time| time.parse().unwrap());
            assert_eq!(due(Some(made.parse().unwrap()), Duration::from_secs(30), now), expected, "{made}");
        };
        check("2026-01-01T00:10:00Z", Some("2026-01-01T00:10:30Z"));
        check("2026-01-01T00:05:01Z", Some("2026-01-01T00:05:31Z"));
        check("2026-01-01T00:05:00Z", None);
        assert_eq!(due(None, Duration::ZERO, now), None);
    }
}
