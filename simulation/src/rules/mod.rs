//! What must hold at every revision of the store. Controllers act on what they have seen, which may be old: where upstream
//! promises no more, a rule asks whether what was done fits anything that was true lately.
//!
//! To add a rule: a file with a type that is a [`Rule`], and its line in [`all`].

mod banker;
mod binding;
pub(crate) mod gangs;
mod identity;
mod lately;
mod quotas;
mod replicas;
mod rollout;
mod stateful;
#[cfg(test)]
mod tests;

use crate::objects::Change;
use crate::plan::Plan;

/// Looks at every change, and says what is wrong.
pub(crate) trait Rule: Send {
    /// In a word.
    fn name(&self) -> &'static str;

    /// Fails when this change must not be.
    fn see(&mut self, change: &Change<'_>) -> Result<(), String>;
}

/// All rules that hold in a plan.
pub(crate) fn all(plan: &Plan) -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(identity::Identity),
        Box::new(binding::Binding::default()),
        Box::new(rollout::Rollout::default()),
        Box::new(stateful::Ordinals::default()),
        Box::new(replicas::Replicas::new(plan)),
        Box::new(quotas::Quotas::default()),
        Box::new(gangs::Gangs::default()),
        Box::new(banker::Banker),
    ]
}
