//! Profiles in the OCI's JSON format, with containerd's `includes` and `excludes`.

use serde::Deserialize;

use super::bpf::{Action, Condition, Filter, Operator, Rule};
use super::table::number;
use crate::container::capability;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Vec<Argument>,
    #[serde(default)]
    includes: Filtered,
    #[serde(default)]
    excludes: Filtered,
}

#[derive(Default, Deserialize)]
struct Filtered {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Reads a profile for a container with these capabilities. Calls that this kernel interface does not have are skipped.
pub(super) fn parse(text: &[u8], capabilities: u64) -> Result<Filter, String> {
    let profile: Profile = serde_json::from_slice(text).map_err(|err| err.to_string())?;
    let otherwise = action(&profile.default_action, profile.default_errno_ret)?;
    let mut rules = Vec::new();
    for calls in profile.syscalls.iter().filter(|calls| calls.applies(capabilities)) {
        let action = action(&calls.action, calls.errno_ret)?;
        let conditions = calls.args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        let numbers = calls.names.iter().filter_map(|name| number(name));
        rules.extend(numbers.map(|call| Rule { call, conditions: conditions.clone(), action }));
    }
    Ok(Filter { rules, otherwise })
}

impl Calls {
    fn applies(&self, capabilities: u64) -> bool {
        let held = |name: &String| capability::bit(name).is_some_and(|bit| capabilities & bit != 0);
        let native = |name: &String| match name.as_str() {
            "amd64" => cfg!(target_arch = "x86_64"),
            "arm64" => cfg!(target_arch = "aarch64"),
            _ => false,
        };
        let included = self.includes.caps.iter().all(held)
            && (self.includes.arches.is_empty() || self.includes.arches.iter().any(native));
        included && !self.excludes.caps.iter().any(held) && !self.excludes.arches.iter().any(native)
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(errno.unwrap_or(libc::EPERM as u16))),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        _ => Err(format!("action {name:?} is not supported")),
    }
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    if argument.index > 5 {
        return Err(format!("argument index {} is greater than 5", argument.index));
    }
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Operator::Equal, argument.value),
        "SCMP_CMP_NE" => (Operator::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Operator::Less, argument.value),
        "SCMP_CMP_LE" => (Operator::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Operator::Greater, argument.value),
        "SCMP_CMP_GE" => (Operator::GreaterOrEqual, argument.value),
        // The first value is the mask.
        "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual { mask: argument.value }, argument.value_two),
        other => return Err(format!("comparison {other:?} is not supported")),
    };
    Ok(Condition { argument: argument.index, operator, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_becomes_rules() {
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["chmod","fly"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"names":["mount"],"action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let filter = parse(text, 0).unwrap();
        assert_eq!(filter.otherwise, Action::Allow);
        assert_eq!(filter.rules.len(), number("chmod").iter().len());
        assert!(filter.rules.iter().all(|rule| rule.action == Action::Errno(13)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let text = br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#;
        assert_eq!(parse(text, 0).unwrap_err(), "action \"SCMP_ACT_NOTIFY\" is not supported");
        assert!(parse(b"{", 0).is_err());
    }
}
