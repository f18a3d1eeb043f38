//! Watches of pods: the crowd of the fan-out, which counts, and one that follows what happens to each pod.

use std::time::Instant;

use serde::Deserialize;

use crate::Error;
use crate::client::{Call, Client, Lane, Lines};
use crate::objects::number_of;

/// The call that watches the pods of a namespace from now on.
pub async fn pods_call(client: &Client, namespace: &str) -> Result<Call, Error> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let list = client.json(&Call::get(format!("{path}?limit=1"))).await?;
    let missing = || Error::Answer { method: "GET", path: path.clone(), field: "metadata.resourceVersion" };
    let version = list["metadata"]["resourceVersion"].as_str().ok_or_else(missing)?;
    Ok(Call::get(format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600")))
}

/// One of the crowd: counts events by their line ends.
pub async fn count(
    mut lane: Lane,
    call: Call,
    events: usize,
    opened: tokio::sync::oneshot::Sender<()>,
) -> Result<Instant, Error> {
    use http_body_util::BodyExt as _;
    let mut body = lane.open(&call).await?.into_body();
    // Nobody waits any more when the run has failed.
    let _nobody = opened.send(());
    let mut seen = 0;
    while seen < events {
        match body.frame().await {
            Some(Ok(frame)) => seen += frame.data_ref().map_or(0, |data| line_ends(data)),
            Some(Err(err)) => return Err(ended(&call, &err.to_string())),
            None => return Err(ended(&call, &format!("after {seen} of {events} events"))),
        }
    }
    Ok(Instant::now())
}

/// How many lines end in `data`; counted in bytes, for what a crowd costs is taken from the server it measures.
fn line_ends(data: &[u8]) -> usize {
    let few = |part: &[u8]| part.iter().fold(0_u8, |ends, byte| ends + u8::from(*byte == b'\n'));
    data.chunks(usize::from(u8::MAX)).map(|part| usize::from(few(part))).sum()
}

/// One of the few that note when each numbered write arrived.
pub async fn note(
    mut lane: Lane,
    call: Call,
    events: usize,
    opened: tokio::sync::oneshot::Sender<()>,
) -> Result<Vec<(usize, Instant)>, Error> {
    let mut lines = Lines::of(lane.open(&call).await?.into_body());
    let _nobody = opened.send(());
    let mut noted = Vec::with_capacity(events);
    while noted.len() < events {
        let line = lines.next().await.map_err(|err| ended(&call, &err.to_string()))?;
        let Some(line) = line else { return Err(ended(&call, &format!("after {} of {events} events", noted.len()))) };
        let number =
            number_of(&line).ok_or_else(|| ended(&call, &String::from_utf8_lossy(&line[..line.len().min(200)])))?;
        noted.push((number, Instant::now()));
    }
    Ok(noted)
}

/// What happened to a pod.
#[derive(Debug, Deserialize)]
pub struct PodEvent {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub object: PodState,
}

/// The part of a pod that the run looks at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodState {
    pub metadata: PodName,
    pub spec: PodPlace,
    pub status: PodStatus,
    /// Of the `Status` in an ERROR event.
    pub message: Option<String>,
}

/// The name of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodName {
    pub name: String,
}

/// The node of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodPlace {
    pub node_name: Option<String>,
}

/// The conditions and containers of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    pub conditions: Vec<PodCondition>,
    pub container_statuses: Vec<ContainerStatus>,
}

/// One container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    pub restart_count: u32,
}

/// One condition.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

impl PodState {
    /// Whether a container has ended and been started again.
    pub fn was_restarted(&self) -> bool {
        self.status.container_statuses.iter().any(|container| container.restart_count > 0)
    }

    /// Whether a condition is there at all; `Some(true)` if it is true.
    pub fn condition(&self, kind: &str) -> Option<bool> {
        self.status
            .conditions
            .iter()
            .find(|condition| condition.kind == kind)
            .map(|condition| condition.status == "True")
    }
}

/// A watch that follows each pod of a namespace.
#[derive(Debug)]
pub struct Follower {
    lines: Lines,
    call: Call,
    /// Keeps the connection.
    _lane: Lane,
}

impl Follower {
    /// Follows what happens from now on.
    pub async fn start(client: &Client, namespace: &str) -> Result<Self, Error> {
        let call = pods_call(client, namespace).await?;
        let mut lane = client.lane().await?;
        let lines = Lines::of(lane.open(&call).await?.into_body());
        Ok(Self { lines, call, _lane: lane })
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<PodState, Error> {
        let line = self.lines.next().await.map_err(|err| ended(&self.call, &err.to_string()))?;
        let line = line.ok_or_else(|| ended(&self.call, "the server closed it"))?;
        let event: PodEvent = serde_json::from_slice(&line).map_err(|err| ended(&self.call, &err.to_string()))?;
        match event.kind.as_str() {
            "ERROR" => Err(ended(&self.call, event.object.message.as_deref().unwrap_or("ERROR event"))),
            _ => Ok(event.object),
        }
    }
}

fn ended(call: &Call, why: &str) -> Error {
    Error::WatchEnded { path: call.path.clone(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_pods_are_read_whatever_else_they_hold() {
        let event = r#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"a","labels":{}},"spec":{"nodeName":"n","containers":[]},
            "status":{"conditions":[{"type":"Ready","status":"True","reason":"x"},{"type":"PodScheduled","status":"False"}]}}}"#;
        let event: PodEvent = serde_json::from_str(event).unwrap();
        assert_eq!((event.object.metadata.name.as_str(), event.object.spec.node_name.as_deref()), ("a", Some("n")));
        assert_eq!(
            ["Ready", "PodScheduled", "Other"].map(|kind| event.object.condition(kind)),
            [Some(true), Some(false), None]
        );
    }

    #[test]
    fn line_ends_are_counted_in_pieces_of_any_length() {
        let data: Vec<u8> = (0..2000).map(|at| if at % 3 == 0 { b'\n' } else { b'x' }).collect();
        assert_eq!([0, 1, 254, 255, 256, 2000].map(|length| line_ends(&data[..length])), [0, 1, 85, 85, 86, 667]);
    }

    #[test]
    fn an_error_event_is_read() {
        let event: PodEvent =
            serde_json::from_str(r#"{"type":"ERROR","object":{"kind":"Status","message":"too old","code":410}}"#)
                .unwrap();
        assert_eq!((event.kind.as_str(), event.object.message.as_deref()), ("ERROR", Some("too old")));
    }
}
