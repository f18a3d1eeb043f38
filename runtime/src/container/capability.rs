//! Capabilities by name, and the set that a container gets (upstream: libcontainer/capabilities of runc).

use crate::{Error, Security};

/// In the order of their numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives to every container.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability that has a name here.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

/// The bit of a capability named with or without `CAP_`, in any case.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == short).map(|number| 1 << number)
}

/// The capabilities of a container: the default, plus `add`, minus `drop`; `ALL` first, single names after it.
pub(crate) fn resolve(security: &Security) -> Result<u64, Error> {
    if security.privileged {
        return Ok(ALL);
    }
    let mut set = DEFAULT.iter().filter_map(|name| bit(name)).fold(0, |set, bit| set | bit);
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    if security.drop_capabilities.iter().any(is_all) {
        set = 0;
    }
    if security.add_capabilities.iter().any(is_all) {
        set = ALL;
    }
    for name in security.add_capabilities.iter().filter(|name| !is_all(name)) {
        set |= known(name, "securityContext.capabilities.add")?;
    }
    for name in security.drop_capabilities.iter().filter(|name| !is_all(name)) {
        set &= !known(name, "securityContext.capabilities.drop")?;
    }
    Ok(set)
}

fn known(name: &str, field: &'static str) -> Result<u64, Error> {
    bit(name).ok_or_else(|| Error::Invalid { field, reason: format!("unknown capability {name:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        Security {
            add_capabilities: add.iter().map(|name| (*name).to_owned()).collect(),
            drop_capabilities: drop.iter().map(|name| (*name).to_owned()).collect(),
            ..Security::default()
        }
    }

    #[test]
    fn the_default_set_is_containerds() {
        assert_eq!(resolve(&security(&[], &[])).unwrap(), 0xa804_25fb);
    }

    #[test]
    fn drop_all_and_add_one_leaves_one() {
        assert_eq!(resolve(&security(&["NET_ADMIN"], &["ALL"])).unwrap(), 1 << 12);
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_field() {
        let err = resolve(&security(&["FLY"], &[])).unwrap_err();
        assert_eq!(err.to_string(), "invalid securityContext.capabilities.add: unknown capability \"FLY\"");
    }
}
