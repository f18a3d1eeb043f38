//! cgroup version 2: one file system for all controllers.

use std::path::{Path, PathBuf};

use super::{read_number, value_of, write};
use crate::disk::io_error;
use crate::{Error, Resources, Stats, Throttling};

/// The controllers that are switched on for pods.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Where the file system is mounted.
#[derive(Debug)]
pub(super) struct Mount(PathBuf);

impl Mount {
    pub(super) fn parse(mountinfo: &str) -> Option<Self> {
        mountinfo.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let point = place.split(' ').nth(4)?;
            kind.starts_with("cgroup2 ").then(|| Self(PathBuf::from(point)))
        })
    }

    pub(super) fn directory(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    pub(super) fn create(&self, path: &str) -> Result<Vec<PathBuf>, Error> {
        let mut directory = self.0.clone();
        for part in Path::new(path).components() {
            enable_controllers(&directory)?;
            directory.push(part);
            match std::fs::create_dir(&directory) {
                Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(io_error("make cgroup", &directory)(err));
                }
                _ => {}
            }
        }
        Ok(vec![directory])
    }

    pub(super) fn limit(&self, path: &str, resources: &Resources) -> Result<(), Error> {
        let directory = self.directory(path);
        if resources.cpu_shares > 0 {
            write(&directory, "cpu.weight", &weight(resources.cpu_shares).to_string())?;
        }
        if resources.cpu_quota != 0 {
            let period = if resources.cpu_period > 0 { resources.cpu_period } else { 100_000 };
            write(&directory, "cpu.max", &format!("{} {period}", limit(resources.cpu_quota)))?;
        }
        if resources.memory_limit != 0 {
            write(&directory, "memory.max", &limit(resources.memory_limit))?;
        }
        if resources.pids_limit > 0 {
            write(&directory, "pids.max", &resources.pids_limit.to_string())?;
        }
        if !resources.cpuset_cpus.is_empty() {
            write(&directory, "cpuset.cpus", &resources.cpuset_cpus)?;
        }
        Ok(())
    }

    pub(super) fn stats(&self, path: &str) -> Result<Stats, Error> {
        let directory = self.directory(path);
        let read = |file: &str| {
            let file = directory.join(file);
            std::fs::read_to_string(&file).map_err(io_error("read", &file))
        };
        let (cpu, memory) = (read("cpu.stat")?, read("memory.stat")?);
        let memory_usage = read_number(&directory, "memory.current")?;
        let nanos = |name: &str| value_of(&cpu, name).unwrap_or(0).saturating_mul(1000);
        let pages = |name: &str| value_of(&memory, name).unwrap_or(0);
        let periods = |name: &str| value_of(&cpu, name).unwrap_or(0);
        Ok(Stats {
            cgroup: path.to_owned(),
            cpu_nanos: nanos("usage_usec"),
            cpu_user_nanos: nanos("user_usec"),
            cpu_system_nanos: nanos("system_usec"),
            throttling: Throttling {
                periods: periods("nr_periods"),
                throttled: periods("nr_throttled"),
                waited: nanos("throttled_usec"),
            },
            memory_usage,
            memory_rss: pages("anon"),
            memory_cache: pages("file"),
            memory_working_set: memory_usage.saturating_sub(pages("inactive_file")),
            page_faults: pages("pgfault"),
            major_page_faults: pages("pgmajfault"),
            swap: read_number(&directory, "memory.swap.current").ok(),
            processes: read_number(&directory, "pids.current").ok(),
            network: None,
        })
    }
}

/// A negative limit is none.
fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Version 1 shares (2 to 262144) as a version 2 weight (1 to 10000), in the way of the OCI runtimes.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Lets children of `directory` have limits. A controller that the node does not have is left out here and fails
/// where a limit is set.
fn enable_controllers(directory: &Path) -> Result<(), Error> {
    let path = directory.join("cgroup.controllers");
    let available = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let available: Vec<&str> = available.split_whitespace().collect();
    let wanted: Vec<String> =
        CONTROLLERS.iter().filter(|name| available.contains(name)).map(|name| format!("+{name}")).collect();
    if wanted.is_empty() { Ok(()) } else { write(directory, "cgroup.subtree_control", &wanted.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_at_both_ends_of_the_scale() {
        assert_eq!([weight(2), weight(1024), weight(262_144)], [1, 39, 10_000]);
    }

    #[test]
    fn what_is_used_leaves_out_what_can_be_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        file("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 2\nthrottled_usec 7\n");
        file("memory.stat", "anon 4000\nfile 6000\ninactive_file 2500\npgfault 8\npgmajfault 1\n");
        file("memory.current", "10000\n");
        file("memory.swap.current", "512\n");
        let stats = Mount(directory.path().to_owned()).stats("").unwrap();
        assert_eq!((stats.cpu_nanos, stats.cpu_user_nanos, stats.cpu_system_nanos), (5000, 3000, 2000));
        assert_eq!(stats.throttling, Throttling { periods: 9, throttled: 2, waited: 7000 });
        assert_eq!((stats.memory_working_set, stats.memory_rss, stats.memory_cache), (7500, 4000, 6000));
        assert_eq!((stats.page_faults, stats.major_page_faults, stats.swap, stats.processes), (8, 1, Some(512), None));
    }

    #[test]
    fn limits_are_written_as_the_kernel_wants_them() {
        let directory = tempfile::tempdir().unwrap();
        let mount = Mount(directory.path().to_owned());
        let resources = Resources { cpu_quota: 50_000, memory_limit: -1, pids_limit: 7, ..Resources::default() };
        mount.limit("", &resources).unwrap();
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).unwrap();
        assert_eq!([read("cpu.max"), read("memory.max"), read("pids.max")], ["50000 100000", "max", "7"]);
    }
}
