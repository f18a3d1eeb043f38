//! Profiles, as a configuration file has them (upstream: `KubeSchedulerProfile`).

use serde::Deserialize;

/// One profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileConfig {
    #[serde(default = "default_scheduler")]
    pub scheduler_name: String,
    #[serde(default)]
    pub percentage_of_nodes_to_score: Option<u32>,
    #[serde(default)]
    pub plugins: Plugins,
    #[serde(default)]
    pub plugin_config: Vec<PluginConfig>,
}

pub(crate) fn default_scheduler() -> String {
    "default-scheduler".to_owned()
}

/// Which plugins run where. `multiPoint` speaks of all extension points, the others of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plugins {
    pub multi_point: PluginSet,
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
}

impl Plugins {
    /// Whether a plugin is wanted at `point`, which is one of these sets; `default` unless they say something of it.
    pub(crate) fn wants(&self, name: &str, point: &PluginSet, default: bool) -> bool {
        point.decide(name, self.multi_point.decide(name, default))
    }

    /// Every extension point, by the name of its field.
    pub(crate) fn all(&self) -> [(&'static str, &PluginSet); 13] {
        [
            ("multiPoint", &self.multi_point),
            ("preEnqueue", &self.pre_enqueue),
            ("queueSort", &self.queue_sort),
            ("preFilter", &self.pre_filter),
            ("filter", &self.filter),
            ("postFilter", &self.post_filter),
            ("preScore", &self.pre_score),
            ("score", &self.score),
            ("reserve", &self.reserve),
            ("permit", &self.permit),
            ("preBind", &self.pre_bind),
            ("bind", &self.bind),
            ("postBind", &self.post_bind),
        ]
    }
}

/// Plugins to turn on and off; `*` turns all off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginSet {
    #[serde(default)]
    pub enabled: Vec<PluginRef>,
    #[serde(default)]
    pub disabled: Vec<PluginRef>,
}

impl PluginSet {
    /// Whether a plugin is wanted that was wanted, or not, `before` this set had its say.
    fn decide(&self, name: &str, before: bool) -> bool {
        let has = |set: &[PluginRef], name: &str| set.iter().any(|plugin| plugin.name == name);
        has(&self.enabled, name) || (before && !has(&self.disabled, name) && !has(&self.disabled, "*"))
    }

    /// The weight that a plugin is given. As upstream, a weight of zero is none.
    pub(crate) fn weight(&self, name: &str) -> Option<i64> {
        self.enabled.iter().find(|plugin| plugin.name == name)?.weight.filter(|weight| *weight > 0)
    }
}

/// A plugin by name, with a weight where it scores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginRef {
    pub name: String,
    #[serde(default)]
    pub weight: Option<i64>,
}

/// Arguments of one plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    pub name: String,
    #[serde(default)]
    pub args: Option<serde_json::Map<String, serde_json::Value>>,
}
