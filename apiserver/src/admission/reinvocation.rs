//! The second round of mutating admission: when a webhook or policy has changed an object, the plugins see it once more,
//! and those webhooks and policies that asked for it (upstream's `admission/reinvocation.go`).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::Object;

/// What the plugins of one request remember between the rounds.
#[derive(Debug, Default)]
pub struct Reinvocation(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    second: bool,
    wanted: bool,
    plugins: HashMap<&'static str, Plugin>,
}

/// What one plugin remembers.
#[derive(Debug, Default)]
struct Plugin {
    /// Who was called, and wants to be again when somebody else changes the object.
    called: Vec<String>,
    /// Who is called again.
    due: HashSet<String>,
    /// The object as the plugin left it.
    output: Option<Object>,
}

impl Reinvocation {
    /// Whether the second round has begun.
    pub fn is_second(&self) -> bool {
        self.state().second
    }

    /// A plugin begins its round with this object.
    pub fn begin(&self, plugin: &'static str, object: Option<&Object>) {
        let mut state = self.state();
        let second = state.second;
        let memory = state.plugins.entry(plugin).or_default();
        if second && memory.output.as_ref() != object {
            memory.due.extend(memory.called.drain(..));
        }
    }

    /// Whether a webhook or policy has its turn in this round.
    pub fn is_due(&self, plugin: &'static str, id: &str) -> bool {
        let state = self.state();
        !state.second || state.plugins.get(plugin).is_some_and(|memory| memory.due.contains(id))
    }

    /// A webhook or policy was called; `again` says whether it wants to be when others change the object.
    pub fn called(&self, plugin: &'static str, id: &str, changed: bool, again: bool) {
        let mut state = self.state();
        state.wanted |= changed;
        let memory = state.plugins.entry(plugin).or_default();
        if changed {
            memory.due.extend(memory.called.drain(..));
        }
        if again {
            memory.called.push(id.to_owned());
        }
    }

    /// A plugin ends its round, and leaves the object so.
    pub fn end(&self, plugin: &'static str, object: Option<&Object>) {
        let mut state = self.state();
        let memory = state.plugins.entry(plugin).or_default();
        memory.output = object.filter(|_| !memory.called.is_empty()).cloned();
    }

    /// Begins the second round if the first one changed something.
    pub(super) fn goes_on(&self) -> bool {
        let mut state = self.state();
        state.second = state.wanted;
        state.wanted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = "Webhooks";

    #[test]
    fn only_who_asked_and_came_before_a_change_is_called_again() {
        let rounds = Reinvocation::default();
        rounds.begin(PLUGIN, None);
        rounds.called(PLUGIN, "early", false, true);
        rounds.called(PLUGIN, "indifferent", false, false);
        rounds.called(PLUGIN, "changes", true, true);
        rounds.end(PLUGIN, Some(&Object::default()));
        assert!(rounds.goes_on());
        rounds.begin(PLUGIN, Some(&Object::default()));
        let due = ["early", "indifferent", "changes"].map(|id| rounds.is_due(PLUGIN, id));
        assert_eq!(due, [true, false, false]);
    }

    #[test]
    fn who_asked_is_called_again_when_another_plugin_changed_the_object() {
        let rounds = Reinvocation::default();
        rounds.begin(PLUGIN, None);
        rounds.called(PLUGIN, "changes", true, true);
        rounds.end(PLUGIN, Some(&Object::default()));
        assert!(rounds.goes_on());
        let mut other = Object::default();
        other.set(&["spec"], "changed");
        rounds.begin(PLUGIN, Some(&other));
        assert!(rounds.is_due(PLUGIN, "changes"));
    }

    #[test]
    fn without_a_change_there_is_no_second_round() {
        let rounds = Reinvocation::default();
        rounds.begin(PLUGIN, None);
        rounds.called(PLUGIN, "idle", false, true);
        assert!(!rounds.goes_on());
    }
}
