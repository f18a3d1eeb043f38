//! cgroup version 1: a file system per controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{DeviceRule, read_number, value_of, write};
use crate::disk::io_error;
use crate::{Error, Resources, Stats, Throttling};

/// The controllers that containers join.
const CONTROLLERS: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "freezer", "blkio", "hugetlb"];

/// Controllers and where they are mounted.
#[derive(Debug)]
pub(super) struct Mounts(BTreeMap<String, PathBuf>);

impl Mounts {
    /// `None` when no controller is mounted this way.
    pub(super) fn parse(mountinfo: &str) -> Option<Self> {
        let mut found = BTreeMap::new();
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mut kind = kind.split(' ');
            let (Some("cgroup"), Some(_), Some(options)) = (kind.next(), kind.next(), kind.next()) else { continue };
            let Some(point) = place.split(' ').nth(4) else { continue };
            for controller in options.split(',').filter(|option| CONTROLLERS.contains(option)) {
                found.insert(controller.to_owned(), PathBuf::from(point));
            }
        }
        (!found.is_empty()).then_some(Self(found))
    }

    pub(super) fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.0.get(controller).map(|root| root.join(path))
    }

    /// One per file system, also where several controllers share one.
    pub(super) fn directories(&self, path: &str) -> Vec<PathBuf> {
        let mut roots: Vec<&PathBuf> = self.0.values().collect();
        roots.sort();
        roots.dedup();
        roots.into_iter().map(|root| root.join(path)).collect()
    }

    /// Controllers that share a file system, comma-separated.
    pub(super) fn names(&self) -> Vec<String> {
        let mut by_root: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
        for (controller, root) in &self.0 {
            by_root.entry(root).or_default().push(controller);
        }
        by_root.into_values().map(|names| names.join(",")).collect()
    }

    pub(super) fn create(&self, path: &str) -> Result<Vec<PathBuf>, Error> {
        let directories = self.directories(path);
        for directory in &directories {
            std::fs::create_dir_all(directory).map_err(io_error("make cgroup", directory))?;
        }
        if let Some(root) = self.0.get("cpuset") {
            fill_cpusets(root, path)?;
        }
        Ok(directories)
    }

    pub(super) fn limit(&self, path: &str, resources: &Resources) -> Result<(), Error> {
        let set = |controller: &str, file: &str, value: String| match self.directory(controller, path) {
            Some(directory) => write(&directory, file, &value),
            None => {
                Err(Error::Unsupported { reason: format!("a limit of {controller}, whose cgroup is not mounted,") })
            }
        };
        if resources.cpu_shares > 0 {
            set("cpu", "cpu.shares", resources.cpu_shares.to_string())?;
        }
        if resources.cpu_period > 0 {
            set("cpu", "cpu.cfs_period_us", resources.cpu_period.to_string())?;
        }
        if resources.cpu_quota != 0 {
            set("cpu", "cpu.cfs_quota_us", resources.cpu_quota.to_string())?;
        }
        if resources.memory_limit != 0 {
            set("memory", "memory.limit_in_bytes", resources.memory_limit.to_string())?;
        }
        if resources.pids_limit > 0 {
            set("pids", "pids.max", resources.pids_limit.to_string())?;
        }
        if !resources.cpuset_cpus.is_empty() {
            set("cpuset", "cpuset.cpus", resources.cpuset_cpus.clone())?;
        }
        Ok(())
    }

    pub(super) fn restrict_devices(&self, path: &str, allowed: &[DeviceRule]) -> Result<bool, Error> {
        let Some(directory) = self.directory("devices", path) else { return Ok(false) };
        write(&directory, "devices.deny", "a")?;
        for rule in allowed {
            write(&directory, "devices.allow", rule)?;
        }
        Ok(true)
    }

    pub(super) fn stats(&self, path: &str) -> Result<Stats, Error> {
        let mut stats = Stats { cgroup: path.to_owned(), ..Stats::default() };
        if let Some(directory) = self.directory("cpuacct", path) {
            stats.cpu_nanos = read_number(&directory, "cpuacct.usage")?;
            let split = |file: &str| read_number(&directory, file).unwrap_or(0);
            stats.cpu_user_nanos = split("cpuacct.usage_user");
            stats.cpu_system_nanos = split("cpuacct.usage_sys");
        }
        if let Some(directory) = self.directory("cpu", path) {
            let text = std::fs::read_to_string(directory.join("cpu.stat")).unwrap_or_default();
            let count = |name: &str| value_of(&text, name).unwrap_or(0);
            let (periods, throttled, waited) = (count("nr_periods"), count("nr_throttled"), count("throttled_time"));
            stats.throttling = Throttling { periods, throttled, waited };
        }
        if let Some(directory) = self.directory("memory", path) {
            stats.memory_usage = read_number(&directory, "memory.usage_in_bytes")?;
            let file = directory.join("memory.stat");
            let text = std::fs::read_to_string(&file).map_err(io_error("read", &file))?;
            let count = |name: &str| value_of(&text, name);
            stats.memory_rss = count("total_rss").unwrap_or(0);
            stats.memory_cache = count("total_cache").unwrap_or(0);
            stats.page_faults = count("total_pgfault").unwrap_or(0);
            stats.major_page_faults = count("total_pgmajfault").unwrap_or(0);
            stats.swap = count("total_swap");
            let droppable = count("total_inactive_file").unwrap_or(0);
            stats.memory_working_set = stats.memory_usage.saturating_sub(droppable);
        }
        stats.processes = self.directory("pids", path).and_then(|found| read_number(&found, "pids.current").ok());
        Ok(stats)
    }
}

/// A cpuset takes no process until it has CPUs and memory nodes; new ones are empty.
fn fill_cpusets(root: &Path, path: &str) -> Result<(), Error> {
    let mut parent = root.to_owned();
    for part in Path::new(path).components() {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (above, own) = (parent.join(file), child.join(file));
            let current = std::fs::read_to_string(&own).map_err(io_error("read", &own))?;
            if current.trim().is_empty() {
                let inherited = std::fs::read_to_string(&above).map_err(io_error("read", &above))?;
                write(&child, file, inherited.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn controllers_that_share_a_file_system_are_joined_once() {
        let mounts = Mounts::parse(MOUNTINFO).unwrap();
        let expected = [Path::new("/sys/fs/cgroup/cpu,cpuacct/a"), Path::new("/sys/fs/cgroup/memory/a")];
        assert_eq!(mounts.directories("a"), expected);
        assert_eq!(mounts.names(), ["cpu,cpuacct", "memory"]);
    }

    #[test]
    fn what_is_used_is_read_of_every_controller() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("cpu/a/cpuacct.usage", "5000\n");
        file("cpu/a/cpuacct.usage_user", "3000\n");
        file("cpu/a/cpuacct.usage_sys", "2000\n");
        file("cpu/a/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 77\n");
        file("memory/a/memory.usage_in_bytes", "10000\n");
        file(
            "memory/a/memory.stat",
            "rss 1\ninactive_file 1\ntotal_rss 4000\ntotal_cache 6000\ntotal_inactive_file 2500\n",
        );
        file("pids/a/pids.current", "3\n");
        let at = |controller: &str, place: &str| (controller.to_owned(), root.path().join(place));
        let all = [at("cpu", "cpu"), at("cpuacct", "cpu"), at("memory", "memory"), at("pids", "pids")];
        let stats = Mounts(all.into_iter().collect()).stats("a").unwrap();
        assert_eq!((stats.cpu_nanos, stats.cpu_user_nanos, stats.cpu_system_nanos), (5000, 3000, 2000));
        assert_eq!(stats.throttling, Throttling { periods: 9, throttled: 2, waited: 77 });
        assert_eq!((stats.memory_working_set, stats.memory_rss, stats.memory_cache), (7500, 4000, 6000));
        assert_eq!((stats.swap, stats.processes, stats.cgroup.as_str()), (None, Some(3), "a"));
    }

    #[test]
    fn a_node_with_only_version_2_has_no_version_1() {
        assert!(Mounts::parse("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").is_none());
    }
}
