//! The default filter: what containerd allows.

use super::bpf::{Action, Condition, Filter, Operator, Rule};
use super::table::number;
use crate::container::capability;

/// Allowed to everybody.
const ALLOWED: &str = "\
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown \
    clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup \
    dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake \
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups \
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit \
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr getxattrat inotify_add_watch \
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit \
    ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat \
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
    mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink \
    mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free \
    pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv \
    process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom \
    recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir \
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid \
    setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat shmat shmctl shmdt shmget \
    shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statmount statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat \
    ustat utime utimensat utimes vfork vmsplice wait4 waitid write writev";

/// Allowed to those who hold a capability anyway.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday clock_settime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Values of `personality` that change nothing dangerous: Linux, Linux 32-bit, and both with UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `socket(AF_VSOCK)` would reach the virtual machine's host.
const AF_VSOCK: u64 = 40;

/// The filter for a container with these capabilities.
pub(super) fn filter(capabilities: u64) -> Filter {
    let mut rules: Vec<Rule> = ALLOWED.split_whitespace().filter_map(allow).collect();
    for (capability, calls) in WITH_CAPABILITY {
        if capability::bit(capability).is_some_and(|bit| capabilities & bit != 0) {
            rules.extend(calls.split_whitespace().filter_map(allow));
        }
    }
    for value in PERSONALITIES {
        rules.extend(when("personality", Condition { argument: 0, operator: Operator::Equal, value }));
    }
    rules.extend(when("socket", Condition { argument: 0, operator: Operator::NotEqual, value: AF_VSOCK }));
    // Threads and processes, but no namespaces. The flags of clone3 are behind a pointer, so it does not exist for
    // those without SYS_ADMIN, and the C library falls back to clone.
    let mask = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWCGROUP,
    ];
    let mask = mask.iter().fold(0, |mask, flag| mask | u64::from(flag.cast_unsigned()));
    rules.extend(when("clone", Condition { argument: 0, operator: Operator::MaskedEqual { mask }, value: 0 }));
    let no_such_call = Action::Errno(libc::ENOSYS as u16);
    rules.extend(number("clone3").map(|call| Rule { call, conditions: Vec::new(), action: no_such_call }));
    Filter { rules, otherwise: Action::Errno(libc::EPERM as u16) }
}

fn allow(name: &str) -> Option<Rule> {
    Some(Rule { call: number(name)?, conditions: Vec::new(), action: Action::Allow })
}

fn when(name: &str, condition: Condition) -> Option<Rule> {
    Some(Rule { conditions: vec![condition], ..allow(name)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::seccomp::bpf;

    #[test]
    fn the_filter_is_small_and_mount_needs_sys_admin() {
        let plain = filter(0);
        assert!(bpf::compile(&plain).unwrap().len() < 400);
        let mount = number("mount").unwrap();
        assert!(!plain.rules.iter().any(|rule| rule.call == mount));
        assert!(filter(capability::ALL).rules.iter().any(|rule| rule.call == mount));
    }

    #[test]
    fn every_name_is_known_here_or_belongs_to_another_architecture() {
        let unknown: Vec<&str> = ALLOWED.split_whitespace().filter(|name| number(name).is_none()).collect();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(unknown, Vec::<&str>::new());
        }
    }
}
