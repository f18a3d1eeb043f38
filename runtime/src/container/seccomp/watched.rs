//! The calls that the watchman hears of, and the filter that tells him.
//!
//! It stands before the profile's filter and refuses nothing of its own in an audit: of all filters' answers the kernel
//! takes the strictest, so what the profile refuses stays refused, and nobody is asked. Every other call is allowed by the
//! filter whatever its arguments, which the kernel remembers for each call (since 5.11): those cost next to nothing.

use libc::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS};

use super::bpf::{self, Action, Condition, Filter, Operator, Rule};
use super::table;
use crate::SyscallPolicy;
use crate::container::capability;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another root, other namespaces, other mounts.
    Confinement,
    /// Another process's memory.
    Tracing,
    /// The kernel itself.
    Kernel,
}

/// A call that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One of these makes the kernel listen; none are needed where there are none.
    capabilities: &'static [&'static str],
    narrow: Narrow,
}

/// Which uses of a call are watched. Only registers can be looked at.
#[derive(Clone, Copy, Debug)]
enum Narrow {
    All,
    /// With a new namespace among the flags in this argument.
    Namespaces(u8),
    /// With one of these values in this argument.
    Values(u8, &'static [u64]),
    /// Without any of these values in this argument.
    NotValues(u8, &'static [u64]),
    /// By those who may not do it: for the others it is their work, and may be frequent.
    WithoutRight,
}

use Kind::{Confinement, Kernel, Tracing};
use Narrow::{All, Namespaces, NotValues, Values, WithoutRight};

const ADMIN: &[&str] = &["SYS_ADMIN"];

const fn call(name: &'static str, kind: Kind, capabilities: &'static [&'static str], narrow: Narrow) -> Watched {
    Watched { name, kind, capabilities, narrow }
}

/// Every call that is watched.
static WATCHED: [Watched; 27] = [
    call("pivot_root", Confinement, ADMIN, All),
    call("chroot", Confinement, &["SYS_CHROOT"], All),
    call("setns", Confinement, ADMIN, All),
    // A new user namespace takes no capability.
    call("unshare", Confinement, &[], Namespaces(0)),
    call("clone", Confinement, &[], Namespaces(0)),
    call("mount", Confinement, ADMIN, All),
    call("umount2", Confinement, ADMIN, All),
    call("move_mount", Confinement, ADMIN, All),
    call("open_tree", Confinement, ADMIN, All),
    call("fsopen", Confinement, ADMIN, All),
    call("fsmount", Confinement, ADMIN, All),
    call("fspick", Confinement, ADMIN, All),
    call("mount_setattr", Confinement, ADMIN, All),
    // To begin, that is: PTRACE_ATTACH and PTRACE_SEIZE.
    call("ptrace", Tracing, &[], Values(0, &[16, 0x4206])),
    // To bring code into the kernel: BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_RAW_TRACEPOINT_OPEN, BPF_LINK_CREATE.
    call("bpf", Kernel, &["SYS_ADMIN", "BPF"], Values(0, &[5, 8, 17, 28])),
    call("init_module", Kernel, &["SYS_MODULE"], All),
    call("finit_module", Kernel, &["SYS_MODULE"], All),
    call("delete_module", Kernel, &["SYS_MODULE"], All),
    call("kexec_load", Kernel, &["SYS_BOOT"], All),
    call("kexec_file_load", Kernel, &["SYS_BOOT"], All),
    // An init of its own says at its start what Ctrl-Alt-Del does.
    call("reboot", Kernel, &["SYS_BOOT"], NotValues(2, &[0, 0x89AB_CDEF])),
    call("swapon", Kernel, ADMIN, All),
    call("swapoff", Kernel, ADMIN, All),
    call("acct", Kernel, &["SYS_PACCT"], All),
    call("iopl", Kernel, &["SYS_RAWIO"], All),
    call("ioperm", Kernel, &["SYS_RAWIO"], All),
    // Files by their numbers, past every mount.
    call("open_by_handle_at", Kernel, &["DAC_READ_SEARCH"], WithoutRight),
];

impl Watched {
    /// Whether one who holds these capabilities may do it at all.
    pub(crate) fn is_permitted(&self, capabilities: u64) -> bool {
        let held = |name: &&str| capability::bit(name).is_some_and(|bit| capabilities & bit != 0);
        self.capabilities.is_empty() || self.capabilities.iter().any(held)
    }
}

/// The watched call with this number.
pub(crate) fn find(number: u32) -> Option<&'static Watched> {
    WATCHED.iter().find(|watched| table::number(watched.name) == Some(number))
}

/// The watched call of this name.
#[cfg(test)]
pub(crate) fn named(name: &str) -> Option<&'static Watched> {
    WATCHED.iter().find(|watched| watched.name == name)
}

/// The watchman's filter, packed for the spec; empty for none.
pub(crate) fn program(policy: SyscallPolicy, capabilities: u64) -> Vec<u64> {
    let mut rules = Vec::new();
    for watched in &WATCHED {
        // Another architecture's.
        let Some(call) = table::number(watched.name) else { continue };
        rules.extend(watched.rules(call, capabilities));
    }
    let absent = Action::Errno(libc::ENOSYS as u16);
    let foreign = match policy {
        SyscallPolicy::Off => return Vec::new(),
        SyscallPolicy::Audit => Action::Allow,
        SyscallPolicy::Enforce => {
            // What the watchman cannot see does not exist: flags behind a pointer, other architectures' calls.
            rules.extend(table::number("clone3").map(|call| rule(call, Vec::new(), absent)));
            absent
        }
    };
    let filter = Filter { rules, otherwise: Action::Allow };
    bpf::compile_with(&filter, foreign).expect("a fixed table makes a short program")
}

impl Watched {
    fn rules(&self, call: u32, capabilities: u64) -> Vec<Rule> {
        let equal = |argument, value| vec![Condition { argument, operator: Operator::Equal, value }];
        let rest = |action| rule(call, Vec::new(), action);
        let some = |argument, values: &[u64], action| -> Vec<Rule> {
            values.iter().map(|value| rule(call, equal(argument, *value), action)).collect()
        };
        match self.narrow {
            All => vec![rest(Action::Notify)],
            Namespaces(argument) => {
                let operator = Operator::MaskedEqual { mask: NAMESPACES };
                vec![rule(call, vec![Condition { argument, operator, value: 0 }], Action::Allow), rest(Action::Notify)]
            }
            Values(argument, values) => some(argument, values, Action::Notify),
            NotValues(argument, values) => {
                some(argument, values, Action::Allow).into_iter().chain([rest(Action::Notify)]).collect()
            }
            WithoutRight if self.is_permitted(capabilities) => Vec::new(),
            WithoutRight => vec![rest(Action::Notify)],
        }
    }
}

fn rule(call: u32, conditions: Vec<Condition>, action: Action) -> Rule {
    Rule { call, conditions, action }
}

const NAMESPACES: u64 =
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::seccomp::bpf::tests::run;

    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn check(policy: SyscallPolicy, name: &str, arguments: [u64; 6], expected: u32) {
        let number = table::number(name).unwrap();
        assert_eq!(run(&program(policy, 0), number, arguments), expected, "{name} {arguments:?} under {policy:?}");
    }

    #[test]
    fn only_watched_uses_of_watched_calls_are_told() {
        let audit = |name, arguments, expected| check(SyscallPolicy::Audit, name, arguments, expected);
        audit("mount", [0; 6], NOTIFY);
        audit("chroot", [0; 6], NOTIFY);
        audit("unshare", [CLONE_NEWUSER as u64, 0, 0, 0, 0, 0], NOTIFY);
        audit("unshare", [libc::CLONE_FS as u64, 0, 0, 0, 0, 0], ALLOW);
        audit("clone", [0x11, 0, 0, 0, 0, 0], ALLOW);
        audit("clone", [CLONE_NEWNET as u64 | 0x11, 0, 0, 0, 0, 0], NOTIFY);
        audit("ptrace", [16, 0, 0, 0, 0, 0], NOTIFY);
        audit("ptrace", [1, 0, 0, 0, 0, 0], ALLOW);
        audit("bpf", [1, 0, 0, 0, 0, 0], ALLOW);
        audit("bpf", [5, 0, 0, 0, 0, 0], NOTIFY);
        audit("reboot", [0, 0, 0x89AB_CDEF, 0, 0, 0], ALLOW);
        audit("reboot", [0, 0, 0x0123_4567, 0, 0, 0], NOTIFY);
        for ordinary in ["read", "execve", "clone3", "openat", "futex", "seccomp", "getppid"] {
            audit(ordinary, [u64::MAX; 6], ALLOW);
        }
    }

    #[test]
    fn what_cannot_be_seen_does_not_exist_where_the_policy_is_enforced() {
        check(SyscallPolicy::Enforce, "clone3", [0; 6], ABSENT);
        check(SyscallPolicy::Enforce, "mount", [0; 6], NOTIFY);
        check(SyscallPolicy::Enforce, "read", [0; 6], ALLOW);
        assert_eq!(run(&program(SyscallPolicy::Enforce, 0), 0x4000_0001, [0; 6]), ABSENT);
        assert_eq!(run(&program(SyscallPolicy::Audit, 0), 0x4000_0001, [0; 6]), ALLOW);
        assert!(program(SyscallPolicy::Off, 0).is_empty());
    }

    #[test]
    fn frequent_work_of_those_who_may_do_it_is_not_watched() {
        let number = table::number("open_by_handle_at").unwrap();
        assert_eq!(run(&program(SyscallPolicy::Audit, 0), number, [0; 6]), NOTIFY);
        assert_eq!(run(&program(SyscallPolicy::Audit, capability::ALL), number, [0; 6]), ALLOW);
    }

    #[test]
    fn every_watched_call_is_found_by_its_number() {
        for watched in &WATCHED {
            let number = table::number(watched.name).unwrap();
            assert_eq!(find(number).unwrap().name, watched.name);
        }
        assert!(find(0).is_none());
    }
}
