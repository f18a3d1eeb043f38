//! Rules for what only pods on Windows, or only those on Linux, can have.

use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

/// The longest credential specification, name of a domain and name of a user.
const LONGEST: (usize, usize, usize) = (64 * 1024, 256, 104);

/// `windowsOptions` of a pod or container.
pub(crate) fn options(at: &Node<'_, '_>, errors: &mut Errors) {
    let (name, content) = (at.field("gmsaCredentialSpecName"), at.field("gmsaCredentialSpec"));
    if name.is_set() {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
    if content.is_set() && content.text().is_empty() {
        errors.invalid(&content, "gmsaCredentialSpec cannot be an empty string");
    } else if content.text().len() > LONGEST.0 {
        errors.invalid(&content, "gmsaCredentialSpec size must be under 64 KiB");
    }
    let user = at.field("runAsUserName");
    if user.is_set() {
        for why in user_name(user.text()) {
            errors.invalid(&user, &format!("runAsUserName{why}"));
        }
    }
}

/// What is wrong with `DOMAIN\\USER` or `USER`.
fn user_name(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('\\').collect();
    if name.is_empty() {
        return vec![" cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec![" cannot contain control characters".to_owned()];
    }
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec![" cannot contain more than one backslash".to_owned()],
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= LONGEST.1) {
        wrong.push(format!("'s Domain length must be under {} characters", LONGEST.1));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_domain(domain)) {
        wrong.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        wrong.push("'s User cannot be empty".to_owned());
    } else if user.len() > LONGEST.2 {
        wrong.push(format!("'s User length must not be longer than {} characters", LONGEST.2));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c: char| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        wrong.push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c: char| "\\/:*?\"<>|".contains(c))
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| naming::label(&label.to_ascii_lowercase()).is_empty())
}

/// Every container of a pod, of whatever kind.
fn containers<'q, 'v>(lists: &'q [Node<'q, 'v>; 3]) -> impl Iterator<Item = Node<'q, 'v>> + use<'q, 'v> {
    lists.iter().flat_map(Node::items)
}

/// A container that is a process of the node makes all of its pod such processes, on the node's network.
pub(crate) fn host_process(spec: &Node<'_, '_>, errors: &mut Errors) {
    let context = spec.field("securityContext");
    let options = context.field("windowsOptions");
    let of_pod = options.field("hostProcess").value().and_then(serde_json::Value::as_bool);
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.field(list));
    let (mut all, mut processes) = (0, 0);
    for container in containers(&lists) {
        let context = container.field("securityContext");
        let options = context.field("windowsOptions");
        let at = options.field("hostProcess");
        let own = at.value().and_then(serde_json::Value::as_bool);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid(&at, &why);
        }
        all += 1;
        processes += usize::from(own.or(of_pod).unwrap_or(false));
    }
    if processes == 0 {
        return;
    }
    if processes != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid_value(spec, "", why);
    }
    if !spec.field("hostNetwork").is_true() {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid_value(&spec.field("hostNetwork"), false, why);
    }
}

/// What the operating system that a pod names rules out.
pub(crate) fn operating_system(spec: &Node<'_, '_>, errors: &mut Errors) {
    let os = spec.field("os");
    if os.is_unset() {
        return;
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.field(list));
    match os.field("name").text() {
        "" => errors.required(&os.field("name"), "cannot be empty"),
        "linux" => {
            let context = spec.field("securityContext");
            forbid(&context, &["windowsOptions"], LINUX, errors);
            for container in containers(&lists) {
                forbid(&container.field("securityContext"), &["windowsOptions"], LINUX, errors);
            }
        }
        "windows" => {
            forbid(&spec.field("securityContext"), &NOT_FOR_WINDOWS_PODS, WINDOWS, errors);
            forbid(spec, &["hostUsers", "shareProcessNamespace"], WINDOWS, errors);
            for key in ["hostPID", "hostIPC"] {
                if spec.field(key).is_true() {
                    errors.forbidden(&spec.field(key), WINDOWS);
                }
            }
            for container in containers(&lists) {
                forbid(&container.field("securityContext"), &NOT_FOR_WINDOWS_CONTAINERS, WINDOWS, errors);
            }
        }
        other => errors.push(crate::FieldError::not_supported(&os.path(), other, &["linux", "windows"])),
    }
}

const LINUX: &str = "windows options cannot be set for a linux pod";
const WINDOWS: &str = "cannot be set for a windows pod";

const NOT_FOR_WINDOWS_PODS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];

const NOT_FOR_WINDOWS_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn forbid(at: &Node<'_, '_>, keys: &[&str], why: &str, errors: &mut Errors) {
    for field in keys.iter().map(|key| at.field(key)) {
        if field.is_set() {
            errors.forbidden(&field, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn an_operating_system_rules_the_other_ones_fields_out() {
        let spec = json!({
            "os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1},
            "containers": [{"securityContext": {"privileged": false}}],
        });
        let want = [
            "securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            "hostPID: Forbidden: cannot be set for a windows pod",
            "containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
        ];
        check_rule(operating_system, &spec, &want);
        let spec = json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}});
        check_rule(
            operating_system,
            &spec,
            &["securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"],
        );
        let spec = json!({"os": {"name": "plan9"}});
        check_rule(
            operating_system,
            &spec,
            &["os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        );
    }

    #[test]
    fn one_process_of_the_node_makes_the_pod_such() {
        let process = json!({"securityContext": {"windowsOptions": {"hostProcess": true}}});
        check_rule(host_process, json!({"hostNetwork": true, "containers": [process]}), &[]);
        let spec = json!({"containers": [process, {}]});
        let mut errors = Errors::default();
        host_process(&Node::root(spec.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.len(), 2);
    }

    #[test]
    fn users_of_windows_may_have_a_domain() {
        for (name, wrong) in [("user", 0), ("D\\user", 0), ("a\\b\\c", 1), ("", 1), ("D\\..", 1), (".d\\u:s", 2)] {
            assert_eq!(user_name(name).len(), wrong, "{name}");
        }
    }
}
