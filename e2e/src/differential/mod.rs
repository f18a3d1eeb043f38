//! Two API servers get the same conversations, made by chance of the schemas of the built-in kinds, and must answer the same.
//! What they answer differently is made as small as possible and printed, smallest first. Conversations can be written to a
//! file with one server's answers, and played to another later.

mod conversation;
mod generate;
mod matching;
mod normal;
mod play;
mod random;
mod shrink;
mod values;

use std::collections::BTreeSet;
use std::fmt;

use kube::Client;
use serde_json::Value;

pub use conversation::{Conversation, Step, Unplayable};
pub use generate::{Subject, subjects};
pub use matching::{Difference, differences};
pub use normal::expected;
pub use play::{Answer, Error, Played, play};
pub use random::Random;

/// What to say to the servers.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub conversations: usize,
    /// Steps of a conversation after the first.
    pub steps: usize,
    /// Resources, in the plural; all when empty.
    pub only: Vec<String>,
}

impl Plan {
    /// The conversations of this plan, the same every time.
    pub fn conversations(&self) -> Vec<Conversation> {
        let subjects = subjects(&self.only);
        if subjects.is_empty() {
            return Vec::new();
        }
        let mut random = Random::new(self.seed);
        let offset = random.below(subjects.len());
        (0..self.conversations)
            .map(|at| subjects[(offset + at) % subjects.len()].conversation(random.number(), self.steps))
            .collect()
    }
}

/// A conversation to which two servers answer differently, as small as it could be made.
#[derive(Clone, Debug)]
pub struct Finding {
    pub conversation: Conversation,
    pub differences: Vec<Difference>,
}

impl Finding {
    fn size(&self) -> (usize, usize) {
        let bytes =
            self.conversation.steps.iter().map(|step| step.body.as_ref().map_or(0, |body| body.to_string().len()));
        (self.conversation.steps.len(), bytes.sum())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.conversation.name)?;
        for (at, step) in self.conversation.steps.iter().enumerate() {
            let kind = step.headers.get("Content-Type").map(String::as_str).unwrap_or("");
            let body = step.body.as_ref().map(Value::to_string).unwrap_or_default();
            writeln!(f, "  {at}: {} {} {kind} {body}", step.method, step.path)?;
            for one in self.differences.iter().filter(|one| one.step == at) {
                writeln!(f, "     {}: expected {}, got {}", one.place, one.expected, one.got)?;
            }
        }
        Ok(())
    }
}

/// Compares a server with the reference; the smallest conversation comes first, and each kind of difference once.
///
/// # Errors
/// When a server does not answer.
pub async fn compare(reference: &Client, server: &Client, plan: &Plan) -> Result<Vec<Finding>, Error> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen = BTreeSet::new();
    for conversation in plan.conversations() {
        let both = shrink::Both { reference, server };
        let found = both.differences(&conversation).await?;
        let new: Vec<Difference> = found.into_iter().filter(|one| seen.insert(kind(&conversation, one))).collect();
        if let Some(first) = new.first() {
            findings.push(both.shrunk(&conversation, first).await?);
        }
    }
    findings.sort_by_key(Finding::size);
    Ok(findings)
}

/// What tells a difference from others: the resource, the kind of step and the place.
fn kind(conversation: &Conversation, one: &Difference) -> String {
    let resource = conversation.name.split('-').next().unwrap_or("");
    let step = conversation.steps.get(one.step).map_or("", |step| step.name.as_str());
    format!("{resource}/{step}{}", one.kind())
}

/// Plays recorded conversations to a server and compares its answers with the recorded ones.
///
/// # Errors
/// When the server does not answer.
pub async fn replay(server: &Client, conversations: &[Conversation]) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for conversation in conversations {
        let played = play(server, conversation, &run()).await?;
        let expected: Vec<Option<Value>> = conversation.steps.iter().map(|step| step.expect.clone()).collect();
        let differences = differences(&expected, &played);
        if !differences.is_empty() {
            findings.push(Finding { conversation: conversation.clone(), differences });
        }
    }
    Ok(findings)
}

/// Plays conversations to a server and notes in them what it answered.
///
/// # Errors
/// When the server does not answer.
pub async fn record(server: &Client, mut conversations: Vec<Conversation>) -> Result<Vec<Conversation>, Error> {
    for conversation in &mut conversations {
        let played = play(server, conversation, &run()).await?;
        for ((step, answer), expect) in conversation.steps.iter_mut().zip(&played.answers).zip(expected(&played)) {
            // Whoever plays it must not keep a refusal for the object.
            if !(200..300).contains(&answer.status) {
                step.capture.clear();
            }
            step.expect = Some(expect);
        }
    }
    Ok(conversations)
}

/// What names of one run end with, different in every run.
fn run() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(now.as_nanos() as u64);
    (0..8)
        .map(|_| *random.pick(&['b', 'c', 'd', 'f', 'g', 'h', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't', 'v']))
        .collect()
}
