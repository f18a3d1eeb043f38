//! Is it unusual that this program makes this call now? A pure decision.
//!
//! Ordinary images do such things: a package manager changes its root, a shell mounts, a server confines its workers, a
//! debugger attaches. They do so while they start, in processes made for the purpose, or again and again. What they do
//! not do is to run for long, and then change root, namespaces, mounts, or another process.
//!
//! Nothing here bounds what a call may do, since all but its registers can change after the look: rights, and the
//! profile's filter, do that. This only tells, and with `enforce` refuses, what has no business here.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::container::seccomp::watched::{Kind, Watched};

/// So many habits are remembered; a container with more has none that says anything.
const MAX_HABITS: usize = 128;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// As the process names itself.
    pub(super) name: String,
    /// Its program's file.
    pub(super) file: String,
    /// Since its process was forked.
    pub(super) age: Duration,
}

/// What is known of the container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) capabilities: u64,
    /// Since it was started.
    pub(super) age: Duration,
    /// After this time without a watched call a process or a container is quiet.
    pub(super) quiet: Duration,
}

/// What programs of a container did when it was expected of them: names of callers and calls.
#[derive(Debug, Default)]
pub(super) struct Habits(BTreeSet<(String, &'static str)>);

impl Habits {
    pub(super) fn learn(&mut self, caller: &Caller, call: &Watched) {
        if self.0.len() < MAX_HABITS {
            self.0.insert((caller.name.clone(), call.name));
        }
    }

    fn has(&self, caller: &Caller, call: &Watched) -> bool {
        self.0.contains(&(caller.name.clone(), call.name))
    }
}

/// A judgement of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Expected,
    Unusual(Why),
}

/// Why a call is unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It asks the kernel for what this container has no right to.
    NoRight,
    /// Its program is in no file.
    NoFile,
    /// Its process ran for so long and made no such call.
    Quiet(Duration),
    /// Nobody can say who it is.
    Unknown,
}

/// Judges a call.
pub(super) fn judge(call: &Watched, caller: Option<&Caller>, setting: &Setting, habits: &Habits) -> Judgement {
    let Some(caller) = caller else { return Judgement::Unusual(Why::Unknown) };
    // A container's start, or that of a runtime in it.
    if setting.age < setting.quiet {
        return Judgement::Expected;
    }
    if call.kind == Kind::Kernel && !call.is_permitted(setting.capabilities) {
        return Judgement::Unusual(Why::NoRight);
    }
    // Runtimes run from memory, too, but those may do everything.
    let is_runtime = crate::container::capability::bit("SYS_ADMIN").is_some_and(|bit| setting.capabilities & bit != 0);
    if caller.file.starts_with("/memfd:") && !is_runtime {
        return Judgement::Unusual(Why::NoFile);
    }
    if caller.age < setting.quiet || habits.has(caller, call) {
        return Judgement::Expected;
    }
    Judgement::Unusual(Why::Quiet(caller.age))
}

impl std::fmt::Display for Why {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRight => formatter.write_str("the container has no right to it"),
            Self::NoFile => formatter.write_str("its program is in memory only"),
            Self::Quiet(age) => write!(formatter, "it has run for {} s without such a call", age.as_secs()),
            Self::Unknown => formatter.write_str("its caller cannot be seen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::capability;
    use crate::container::seccomp::watched;

    const QUIET: Duration = Duration::from_secs(60);

    struct Case {
        call: &'static str,
        caller: (&'static str, &'static str, u64),
        container_age: u64,
        capabilities: u64,
    }

    fn judged(case: &Case, habits: &Habits) -> Judgement {
        let call = watched::named(case.call).unwrap();
        let (name, file, age) = case.caller;
        let caller = Caller { name: name.to_owned(), file: file.to_owned(), age: Duration::from_secs(age) };
        let age = Duration::from_secs(case.container_age);
        let setting = Setting { capabilities: case.capabilities, age, quiet: QUIET };
        judge(call, Some(&caller), &setting, habits)
    }

    fn check(cases: &[Case], expected: Judgement) {
        for case in cases {
            assert_eq!(judged(case, &Habits::default()), expected, "{} by {:?}", case.call, case.caller);
        }
    }

    fn case(call: &'static str, caller: (&'static str, &'static str, u64), container_age: u64) -> Case {
        Case { call, caller, container_age, capabilities: 0xa804_25fb }
    }

    #[test]
    fn ordinary_images_raise_no_alarm() {
        const DAY: u64 = 86_400;
        let cases = [
            // A package manager in a shell, in a job of an old container.
            case("chroot", ("apk", "/sbin/apk", 0), DAY),
            case("unshare", ("apk", "/sbin/apk", 1), DAY),
            case("chroot", ("dpkg", "/usr/bin/dpkg", 2), DAY),
            case("unshare", ("rpm", "/usr/bin/rpm", 30), DAY),
            // Tools that somebody runs.
            case("mount", ("mount", "/bin/busybox", 0), DAY),
            case("ptrace", ("strace", "/usr/bin/strace", 0), DAY),
            case("ptrace", ("jhsdb", "/usr/bin/java", 2), DAY),
            // A server that confines the process of each client.
            case("chroot", ("sshd", "/usr/sbin/sshd", 0), DAY),
            case("clone", ("chrome", "/opt/chrome", 1), DAY),
            // Whatever happens at the start.
            case("mount", ("systemd", "/lib/systemd/systemd", 1), 1),
            case("init_module", ("modprobe", "/bin/kmod", 0), 2),
            case("bpf", ("systemd", "/lib/systemd/systemd", 1), 1),
        ];
        check(&cases, Judgement::Expected);
    }

    #[test]
    fn a_program_that_ran_quietly_for_long_raises_one() {
        for call in ["unshare", "setns", "mount", "chroot", "pivot_root", "ptrace", "clone"] {
            let quiet = case(call, ("nginx", "/usr/sbin/nginx", 500), 505);
            check(&[quiet], Judgement::Unusual(Why::Quiet(Duration::from_secs(500))));
        }
    }

    #[test]
    fn the_limits_are_exact() {
        let at = |age, container_age| judged(&case("mount", ("x", "/x", age), container_age), &Habits::default());
        assert_eq!(at(59, 60), Judgement::Expected);
        assert_eq!(at(60, 59), Judgement::Expected);
        assert_eq!(at(60, 60), Judgement::Unusual(Why::Quiet(QUIET)));
    }

    #[test]
    fn who_has_no_right_to_the_kernel_and_asks_for_it_raises_one_at_any_age() {
        let fresh = ("insmod", "/tmp/insmod", 0);
        for call in ["init_module", "finit_module", "kexec_load", "bpf", "iopl", "open_by_handle_at", "acct"] {
            check(&[case(call, fresh, 100)], Judgement::Unusual(Why::NoRight));
            let permitted = Case { capabilities: capability::ALL, ..case(call, fresh, 100) };
            check(&[permitted], Judgement::Expected);
        }
    }

    #[test]
    fn a_program_without_a_file_raises_one_unless_it_is_a_runtime() {
        let hidden = ("runc", "/memfd:runc_cloned:/proc/self/exe (deleted)", 0);
        check(&[case("unshare", hidden, 100)], Judgement::Unusual(Why::NoFile));
        check(&[Case { capabilities: capability::ALL, ..case("unshare", hidden, 100) }], Judgement::Expected);
    }

    #[test]
    fn a_habit_is_no_news_and_is_one_of_a_program_and_a_call() {
        let mut habits = Habits::default();
        let caller = Caller { name: "cni".to_owned(), file: "/cni".to_owned(), age: QUIET };
        habits.learn(&caller, watched::named("setns").unwrap());
        let old = |call, name| judged(&case(call, (name, "/cni", 5000), 5000), &habits);
        assert_eq!(old("setns", "cni"), Judgement::Expected);
        assert_ne!(old("mount", "cni"), Judgement::Expected);
        assert_ne!(old("setns", "other"), Judgement::Expected);
    }

    #[test]
    fn one_whom_nobody_can_see_is_unusual() {
        let setting = Setting { capabilities: 0, age: Duration::ZERO, quiet: QUIET };
        let judged = judge(watched::named("mount").unwrap(), None, &setting, &Habits::default());
        assert_eq!(judged, Judgement::Unusual(Why::Unknown));
    }
}
