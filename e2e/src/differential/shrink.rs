//! Makes a conversation that is answered differently as small as it can be, with the difference still there.

use kube::Client;
use serde_json::Value;

use super::conversation::{Conversation, Step};
use super::matching::{Difference, differences};
use super::play::{Error, play, remove};
use super::{Finding, expected, run};

/// So often at most is a conversation played to make it smaller.
const TRIES: usize = 80;

/// Two servers.
#[derive(Clone, Copy)]
pub(super) struct Both<'a> {
    pub(super) reference: &'a Client,
    pub(super) server: &'a Client,
}

impl Both<'_> {
    /// What the two answer differently.
    pub(super) async fn differences(self, conversation: &Conversation) -> Result<Vec<Difference>, Error> {
        let run = run();
        let wanted = expected(&play(self.reference, conversation, &run).await?);
        let played = play(self.server, conversation, &run).await?;
        Ok(differences(&wanted.into_iter().map(Some).collect::<Vec<_>>(), &played))
    }

    /// The conversation without what the difference does not need.
    pub(super) async fn shrunk(self, conversation: &Conversation, difference: &Difference) -> Result<Finding, Error> {
        let mut smallest = conversation.clone();
        smallest.steps.truncate(difference.step + 1);
        let mut tries = TRIES;
        let mut at = difference.step;
        while at > 0 && tries > 0 {
            at -= 1;
            let mut smaller = smallest.clone();
            smaller.steps.remove(at);
            tries -= 1;
            if self.still_differs(&smaller, difference).await? {
                smallest = smaller;
            }
        }
        let last = smallest.steps.len() - 1;
        for pointer in pointers(&smallest.steps[last]) {
            let mut smaller = smallest.clone();
            let Some(body) = smaller.steps[last].body.as_mut().filter(|body| body.pointer(&pointer).is_some()) else {
                continue;
            };
            if tries == 0 {
                break;
            }
            remove(body, &pointer);
            tries -= 1;
            if self.still_differs(&smaller, difference).await? {
                smallest = smaller;
            }
        }
        let differences = self.differences(&smallest).await?;
        Ok(Finding { conversation: smallest, differences })
    }

    /// Whether the last step still differs at that place.
    async fn still_differs(self, conversation: &Conversation, difference: &Difference) -> Result<bool, Error> {
        let last = conversation.steps.len() - 1;
        let found = self.differences(conversation).await?;
        Ok(found.iter().any(|one| one.step == last && one.kind() == difference.kind()))
    }
}

/// Where the parts of a body are, the large ones first.
fn pointers(step: &Step) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(body) = &step.body {
        collect(body, "", &mut found);
    }
    // The last elements of a list first: the others keep their places.
    found.reverse();
    found.sort_by_key(|pointer: &String| pointer.matches('/').count());
    found
}

fn collect(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut add = |name: String, inner: &Value| {
        let pointer = format!("{pointer}/{name}");
        found.push(pointer.clone());
        collect(inner, &pointer, found);
    };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, inner)| add(name.replace('~', "~0").replace('/', "~1"), inner))
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(at, inner)| add(at.to_string(), inner)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_parts_are_left_out_before_small_ones_and_late_ones_before_early_ones() {
        let step = Step::new("s", "POST", "/").with("application/json", json!({"a": {"b/c": 1}, "d": [1, 2]}));
        assert_eq!(pointers(&step), ["/d", "/a", "/d/1", "/d/0", "/a/b~1c"]);
    }
}
