//! What a plugin is before a profile has it (upstream: `frameworkruntime.PluginFactory`).
//!
//! To add a plugin:
//! 1. write a file with a type, the traits of its extension points (see [`crate::framework`]) and `pub(crate) const PLUGIN`;
//!    `node_name.rs` is the smallest, `node_affinity.rs` has arguments;
//! 2. add the `mod` line, and the word in [`crate::plugins::ALL`] where its filter is to run;
//! 3. if what it says of a node depends on nothing but that node and what [`PodInfo::is_alike`] compares, say so
//!    (`is_local`): then it is not asked for each pod. If it would go over all pods, keep a [`Tally`].
//!
//! [`PodInfo::is_alike`]: crate::framework::PodInfo::is_alike
//! [`Tally`]: crate::framework::Tally

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::arguments::decode;
use super::error::{ConfigError, args_field, field_of, invalid};
use super::model::{PluginConfig, PluginSet, Plugins, ProfileConfig};
use crate::framework::{
    Bind, Filter, Gang, PermitPlugin, Plugin, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore, Profile, QueueSort,
    Reserve, Score,
};
use crate::gangs::Gangs;
use crate::volumes::Volumes;
use crate::waiting::WaitingPods;

/// One plugin.
pub(crate) struct PluginSpec {
    /// Upstream's name: in configuration, metrics and texts.
    pub(crate) name: &'static str,
    /// What its scores count unless a profile says otherwise; 0 for a plugin that does not score.
    pub(crate) weight: i64,
    /// Whether a profile has it only if it says so.
    pub(crate) on_request: bool,
    /// Makes it, and puts it where the profile wants it. Fails when its arguments or that cannot work.
    pub(crate) make: fn(Slot<'_>) -> Result<(), ConfigError>,
}

/// What plugins of all profiles share (upstream: `fwk.Handle`).
#[derive(Clone, Debug, Default)]
pub struct Handles {
    pub volumes: Arc<Volumes>,
    pub gangs: Arc<Gangs>,
    /// The pods that Permit plugins hold.
    pub waiting: Arc<WaitingPods>,
}

/// A plugin's place in a profile.
pub(crate) struct Slot<'a> {
    pub(crate) spec: &'a PluginSpec,
    pub(crate) config: &'a ProfileConfig,
    pub(crate) client: &'a kube::Client,
    pub(crate) handles: &'a Handles,
    pub(crate) profile: &'a mut Profile,
}

impl PluginSpec {
    /// A plugin that does not score.
    pub(crate) const fn new(name: &'static str, make: fn(Slot<'_>) -> Result<(), ConfigError>) -> Self {
        Self { name, weight: 0, on_request: false, make }
    }

    /// With the weight that its scores have.
    pub(crate) const fn weighing(self, weight: i64) -> Self {
        Self { weight, ..self }
    }
}

impl PluginSpec {
    /// Off, unless a profile turns it on.
    pub(crate) const fn on_request(self) -> Self {
        Self { on_request: true, ..self }
    }
}

impl<'a> Slot<'a> {
    /// The plugin's arguments, and the field that they are in.
    fn arguments(&self) -> Option<(String, &'a PluginConfig)> {
        let configs = &self.config.plugin_config;
        let at = configs.iter().position(|config| config.name == self.spec.name)?;
        Some((args_field(at), &configs[at]))
    }

    /// Reads the plugin's arguments; `read` is told the field that they are in.
    pub(crate) fn read<A: DeserializeOwned + Default, T>(
        &self,
        read: fn(&str, A) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        match self.arguments() {
            Some((field, config)) => read(&field, decode(&field, config)?),
            None => read("", A::default()),
        }
    }

    /// Says that arguments mean nothing, since the plugin does not look at what they are about.
    pub(crate) fn ignore_arguments(&self) {
        if let Some((field, config)) = self.arguments() {
            tracing::warn!("{field} ({}) means nothing here and is ignored", config.name);
        }
    }

    /// Takes a plugin that has no arguments.
    pub(crate) fn plain<P: Plugin>(self, plugin: P) -> Placed<'a, P> {
        let name = self.spec.name;
        let refused = |(field, _): (String, _)| invalid(&field, format!("plugin {name:?} takes no arguments"));
        let outcome = self.arguments().map_or(Ok(()), |given| Err(refused(given)));
        Placed { outcome, ..self.place(plugin) }
    }

    /// Takes a plugin that is made of its arguments and nothing else.
    pub(crate) fn configured<A: DeserializeOwned + Default, P: Plugin>(
        self,
        read: fn(&str, A) -> Result<P, ConfigError>,
    ) -> Result<Placed<'a, P>, ConfigError> {
        let plugin = self.read(read)?;
        Ok(self.place(plugin))
    }

    /// Takes a plugin that is ready.
    pub(crate) fn place<P: Plugin>(self, plugin: P) -> Placed<'a, P> {
        Placed { slot: self, plugin: Arc::new(plugin), may_reject: false, outcome: Ok(()) }
    }
}

/// The extension points at which there is nothing to know but whether the plugin is wanted there.
macro_rules! points {
    ($($how:ident $point:ident: $Trait:ident),*) => { $(
        pub(crate) fn $point(self) -> Self where P: $Trait {
            self.$how(|plugins| &plugins.$point, |profile, plugin| profile.$point.push(plugin))
        }
    )* };
}

/// A plugin that is being put at its extension points, as far as the profile wants it there.
#[must_use]
pub(crate) struct Placed<'a, P> {
    slot: Slot<'a>,
    plugin: Arc<P>,
    may_reject: bool,
    outcome: Result<(), ConfigError>,
}

impl<P: Plugin> Placed<'_, P> {
    fn is_wanted(&self, point: fn(&Plugins) -> &PluginSet) -> bool {
        let plugins = &self.slot.config.plugins;
        plugins.wants(self.slot.spec.name, point(plugins), !self.slot.spec.on_request)
    }

    fn at(self, point: fn(&Plugins) -> &PluginSet, put: fn(&mut Profile, Arc<P>)) -> Self {
        if self.is_wanted(point) {
            put(self.slot.profile, Arc::clone(&self.plugin));
        }
        self
    }

    fn rejecting(self, point: fn(&Plugins) -> &PluginSet, put: fn(&mut Profile, Arc<P>)) -> Self {
        let may_reject = self.may_reject || self.is_wanted(point);
        Self { may_reject, ..self.at(point, put) }
    }

    /// Refuses a profile in which the plugin would look for what it did not prepare.
    fn prepared(
        mut self,
        (first, before): (&str, fn(&Plugins) -> &PluginSet),
        (then, point): (&str, fn(&Plugins) -> &PluginSet),
    ) -> Self {
        if self.outcome.is_ok() && self.is_wanted(point) && !self.is_wanted(before) {
            let why = format!("{} needs what it prepares here: turn it off in {then}, too", self.slot.spec.name);
            self.outcome = Err(invalid(&field_of(first), why));
        }
        self
    }

    points! {
        rejecting pre_enqueue: PreEnqueue, rejecting pre_filter: PreFilter, rejecting filter: Filter,
        rejecting permit: PermitPlugin, at post_filter: PostFilter, at pre_score: PreScore, at bind: Bind
    }

    pub(crate) fn queue_sort(self) -> Self
    where
        P: QueueSort,
    {
        self.at(|plugins| &plugins.queue_sort, |profile, plugin| profile.queue_sort = Some(plugin))
    }

    /// PreFilter, and a Filter that looks for what that prepared.
    pub(crate) fn prepared_filter(self) -> Self
    where
        P: PreFilter + Filter,
    {
        let points = self.prepared(("preFilter", |all| &all.pre_filter), ("filter", |all| &all.filter));
        points.pre_filter().filter()
    }

    /// With the weight that the profile or the plugin gives it.
    pub(crate) fn score(self) -> Self
    where
        P: Score,
    {
        if self.is_wanted(|plugins| &plugins.score) {
            let (plugins, spec) = (&self.slot.config.plugins, self.slot.spec);
            let mut given = [&plugins.score, &plugins.multi_point].into_iter().filter_map(|set| set.weight(spec.name));
            let weight = given.next().unwrap_or(spec.weight);
            self.slot.profile.score.push((Arc::clone(&self.plugin) as _, weight));
        }
        self
    }

    /// PreScore, and a Score that looks for what that prepared.
    pub(crate) fn prepared_score(self) -> Self
    where
        P: PreScore + Score,
    {
        let points = self.prepared(("preScore", |all| &all.pre_score), ("score", |all| &all.score));
        points.pre_score().score()
    }

    /// For a plugin that prepares its scores here, though upstream's does not: both, or neither.
    pub(crate) fn score_with_preparation(self) -> Self
    where
        P: PreScore + Score,
    {
        self.at(|plugins| &plugins.score, |profile, plugin| profile.pre_score.push(plugin)).score()
    }

    /// Both, or neither: what one of them takes, the other gives back.
    pub(crate) fn reserve_and_pre_bind(self) -> Self
    where
        P: Reserve + PreBind,
    {
        if !self.is_wanted(|plugins| &plugins.pre_bind) {
            return self;
        }
        self.rejecting(
            |plugins| &plugins.reserve,
            |profile, plugin| {
                profile.reserve.push(Arc::clone(&plugin) as _);
                profile.pre_bind.push(plugin);
            },
        )
    }

    /// Where a gang is held together: at all of these points, or none.
    pub(crate) fn gang(self) -> Self
    where
        P: Gang + Reserve + PermitPlugin,
    {
        self.rejecting(
            |plugins| &plugins.permit,
            |profile, plugin| {
                profile.gang = Some(Arc::clone(&plugin) as _);
                profile.reserve.push(Arc::clone(&plugin) as _);
                profile.permit.push(plugin);
            },
        )
    }

    /// Lets the queue ask the plugin about pods that it rejected, and tells what was wrong.
    pub(crate) fn end(self) -> Result<(), ConfigError> {
        if self.may_reject {
            self.slot.profile.rejecters.push(self.plugin);
        }
        self.outcome
    }
}
