//! Facts about the machine, from `/proc`, `/sys` and `/etc` (upstream: cadvisor's MachineInfo).
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

/// The machine's architecture in Go's spelling.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Physical memory, in bytes, limited by the cgroup of this process.
pub(crate) fn memory() -> u64 {
    let physical = meminfo("MemTotal").unwrap_or(0);
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    limit.map_or(physical, |limit| physical.min(limit))
}

/// Memory that could be had now, in bytes.
pub(crate) fn available_memory() -> u64 {
    meminfo("MemAvailable").unwrap_or(u64::MAX)
}

/// Memory of the machine as it is used now, in bytes (upstream: the root container of cadvisor).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// Without page cache that can be dropped.
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    /// What is used of the swap, and its size; none on a machine without.
    pub(crate) swap: Option<(u64, u64)>,
}

/// What is used of memory now.
pub(crate) fn memory_in_use() -> Memory {
    memory_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn memory_of(table: &str) -> Memory {
    let bytes = |key: &str| in_table(table, key);
    let of = |key: &str| bytes(key).unwrap_or(0);
    let usage = of("MemTotal").saturating_sub(of("MemFree"));
    let swap = bytes("SwapTotal").filter(|total| *total > 0);
    Memory {
        usage,
        working_set: usage.saturating_sub(of("Inactive(file)")),
        rss: of("AnonPages"),
        swap: swap.map(|total| (total.saturating_sub(of("SwapFree")), total)),
    }
}

/// How long the machine's cores have worked since it was started, all together, in nanoseconds.
pub(crate) fn cpu_time() -> Option<u64> {
    cpu_time_of(&fs::read_to_string("/proc/stat").ok()?)
}

fn cpu_time_of(table: &str) -> Option<u64> {
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests used is in the first two (proc_stat(5)).
    let numbers = table.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse);
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
    let ticks =
        [0, 1, 2, 5, 6].iter().filter_map(|at| numbers.get(*at)).fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(per_second)).ok()
}

/// When the machine was started, in seconds since the epoch.
pub(crate) fn boot_time() -> Option<i64> {
    let table = fs::read_to_string("/proc/stat").ok()?;
    table.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The interface of the default route, and what went through it.
pub(crate) fn traffic() -> Option<(String, runtime::Traffic)> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let mut routes = routes.lines().map(|line| line.split_whitespace());
    let name = routes.find_map(|mut route| {
        let name = route.next()?;
        (route.next()? == "00000000").then(|| name.to_owned())
    })?;
    let traffic = runtime::Traffic::of_interface(&fs::read_to_string("/proc/net/dev").ok()?, &name)?;
    Some((name, traffic))
}

fn meminfo(key: &str) -> Option<u64> {
    in_table(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// Bytes of a line of `/proc/meminfo`.
fn in_table(table: &str, key: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Size and free space of the file system that holds `path`, in bytes.
pub(crate) fn disk(path: &Path) -> Option<(u64, u64)> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let space = rustix::fs::statvfs(existing).ok()?;
    Some((space.f_blocks.saturating_mul(space.f_frsize), space.f_bavail.saturating_mul(space.f_frsize)))
}

/// How many files the file system that holds `path` has room for, and for how many more.
pub(crate) fn inodes(path: &Path) -> Option<(u64, u64)> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let space = rustix::fs::statvfs(existing).ok()?;
    Some((space.f_files, space.f_ffree))
}

/// Whether less than `percent` of a disk is free. Upstream's percentages were made for small disks: from 20 GiB on, a
/// disk counts as one of 20 GiB, so that a laptop with much space left is not called full.
pub(crate) fn is_short(size: u64, free: u64, percent: u64) -> bool {
    const LARGE: u64 = 20 << 30;
    free < size.min(LARGE) / 100 * percent
}

/// Process ids in use and at most.
pub(crate) fn pids() -> Option<(u64, u64)> {
    let limit = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used = load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    Some((used, limit))
}

/// How many processes and threads there can be: as many as the kernel has ids and room for, and as the cgroup of this
/// process allows.
pub(crate) fn most_processes() -> u64 {
    const LIMITS: [&str; 4] = [
        "/proc/sys/kernel/pid_max",
        "/proc/sys/kernel/threads-max",
        "/sys/fs/cgroup/pids.max",
        "/sys/fs/cgroup/pids/pids.max",
    ];
    let numbers = LIMITS.iter().filter_map(|path| line(path).parse::<u64>().ok());
    // What every kernel has by default.
    numbers.filter(|number| *number > 0).min().unwrap_or(32_768)
}

/// The kernel's release.
pub fn kernel() -> String {
    line("/proc/sys/kernel/osrelease")
}

/// An id of this boot.
pub(crate) fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// An id of this installation.
pub(crate) fn machine_id() -> String {
    line("/etc/machine-id")
}

/// An id of this hardware; readable only with privileges, else the machine's id.
pub(crate) fn system_uuid() -> String {
    let uuid = line("/sys/class/dmi/id/product_uuid");
    if uuid.is_empty() { machine_id() } else { uuid }
}

/// The name of the operating system.
pub(crate) fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The name this machine has by itself, in lower case.
pub(crate) fn hostname() -> String {
    line("/proc/sys/kernel/hostname").to_lowercase()
}

/// The address that packets to the outside leave from; loopback on a machine without a network.
pub(crate) fn default_ip() -> IpAddr {
    // Connecting a UDP socket sends nothing; it only asks the routing table.
    let route = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SocketAddr::from(([192, 0, 2, 1], 9)))?;
        Ok(socket.local_addr()?.ip())
    };
    route().ok().filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_can_be_dropped_is_not_in_the_working_set() {
        let table = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nAnonPages: 50 kB\nSwapTotal: 0 kB\n";
        let expected = Memory { usage: 700 << 10, working_set: 500 << 10, rss: 50 << 10, swap: None };
        assert_eq!(memory_of(table), expected);
        assert_eq!(memory_of("SwapTotal: 4 kB\nSwapFree: 1 kB\n").swap, Some((3 << 10, 4 << 10)));
        assert_eq!(memory_of(""), Memory::default());
    }

    #[test]
    fn idle_cores_do_not_work() {
        let second = rustix::param::clock_ticks_per_second();
        let table = format!("cpu  {second} 0 {second} 9999 99 0 {second} 77 5 0\ncpu0 1\n");
        assert_eq!(cpu_time_of(&table), Some(3_000_000_000));
        assert_eq!((cpu_time_of(""), cpu_time_of("cpu x")), (None, None));
    }

    #[test]
    fn a_large_disk_is_short_only_when_little_is_left() {
        let gib = 1 << 30;
        assert!(is_short(10 * gib, gib / 2, 10));
        assert!(!is_short(10 * gib, 2 * gib, 10));
        assert!(!is_short(250 * gib, 23 * gib, 10));
        assert!(is_short(250 * gib, gib, 10));
    }
}
