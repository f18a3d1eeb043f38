//! The names that `--enable-admission-plugins` and `--disable-admission-plugins` may hold.

use crate::admission::Chain;
use crate::config::Config;
use crate::error::Error;

/// Plugins that upstream runs by default and that are not there: asking for them says nothing new.
const DEFAULT: [&str; 4] =
    ["ClusterTrustBundleAttest", "NodeDeclaredFeatureValidator", "PodTopologyLabels", "ResourceQuota"];

/// Plugins that upstream runs on demand and that are not there.
const ON_DEMAND: [&str; 12] = [
    "AlwaysDeny",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
];

/// Checks the names of a configuration against all plugins that there are.
pub(in crate::admission) fn check(config: &Config, chain: &Chain) -> Result<(), Error> {
    let own = chain.mutating.iter().map(|plugin| plugin.name());
    let own: Vec<&str> = own.chain(chain.validating.iter().map(|plugin| plugin.name())).collect();
    let is_here = |name: &str| own.contains(&name) || name == "AlwaysAdmit";
    let (enable, disable) = ("enable-admission-plugins", "disable-admission-plugins");
    let refuse = |flag, why| Err(Error::Flag { flag, why });
    for (flag, names) in [(enable, &config.enable_admission_plugins), (disable, &config.disable_admission_plugins)] {
        for name in names {
            let name = name.as_str();
            if is_here(name) || DEFAULT.contains(&name) {
                continue;
            }
            match ON_DEMAND.contains(&name) {
                true if flag == enable => return refuse(flag, format!("there is no plugin {name:?} here")),
                true => {}
                false => return refuse(flag, format!("admission plugin {name:?} is unknown")),
            }
        }
    }
    let both = config.enable_admission_plugins.iter().find(|name| config.disable_admission_plugins.contains(name));
    both.map_or(Ok(()), |name| refuse(enable, format!("{name:?} is in --{disable}, too")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(enable: &[&str], disable: &[&str]) -> Result<(), String> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let config = Config {
            enable_admission_plugins: names(enable),
            disable_admission_plugins: names(disable),
            ..Config::default()
        };
        let mut chain = Chain::default();
        chain.mutating.push(std::sync::Arc::new(crate::admission::TaintNodesByCondition));
        check(&config, &chain).map_err(|err| err.to_string())
    }

    #[test]
    fn plugins_are_turned_on_and_off_by_names_that_are_known() {
        assert_eq!(checked(&["TaintNodesByCondition", "PodTopologyLabels"], &["AlwaysPullImages"]), Ok(()));
        assert_eq!(checked(&[], &["TaintNodesByCondition"]), Ok(()));
        assert!(checked(&["AlwaysPullImages"], &[]).unwrap_err().contains("there is no plugin"));
        assert!(checked(&[], &["NoSuchPlugin"]).unwrap_err().contains("--disable-admission-plugins"));
        let both = checked(&["TaintNodesByCondition"], &["TaintNodesByCondition"]);
        assert!(both.unwrap_err().contains("--disable-admission-plugins, too"));
    }
}
