//! Files of a container that have no name any more but are still open or mapped: no walk through folders finds them, and
//! they take room all the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use super::Shared;
use crate::{Error, Unlinked};

/// Descriptors and mappings that are looked at in one container; what it has beyond that is not seen.
const MOST: usize = 1 << 18;

impl Shared {
    /// Looks through the processes of a container. Blocks.
    pub(super) fn unlinked_files(&self, id: &str) -> Result<Vec<Unlinked>, Error> {
        let container = self.container(id)?;
        let mut search = Search { found: BTreeMap::new(), left: MOST };
        for process in self.cgroups.processes(&container.cgroup) {
            search.process(&PathBuf::from(format!("/proc/{process}")));
        }
        Ok(search.found.into_values().collect())
    }
}

struct Search {
    /// By device and inode.
    found: BTreeMap<(u64, u64), Unlinked>,
    left: usize,
}

impl Search {
    /// A process that ends meanwhile has no files.
    fn process(&mut self, proc: &Path) {
        let mut mounts = None;
        for (folder, mapped) in [("fd", false), ("map_files", true)] {
            for entry in fs::read_dir(proc.join(folder)).into_iter().flatten().flatten() {
                if self.left == 0 {
                    return;
                }
                self.left -= 1;
                let Ok(file) = look(&entry.path()) else { continue };
                let identity = (rustix::fs::makedev(file.stx_dev_major, file.stx_dev_minor), file.stx_ino);
                let is_file = FileType::from_raw_mode(file.stx_mode.into()) == FileType::RegularFile;
                if file.stx_nlink > 0 || !is_file || self.found.contains_key(&identity) {
                    continue;
                }
                let mounts = mounts.get_or_insert_with(|| Mounts::of(proc));
                let place = if mapped {
                    fs::read_link(entry.path()).ok().and_then(|path| mounts.at(&path))
                } else {
                    let info = proc.join("fdinfo").join(entry.file_name());
                    mount_id(&fs::read_to_string(info).unwrap_or_default()).and_then(|id| mounts.by_id(id))
                };
                // A file of no mount that the container has is memory: memfd, a shared mapping, a pipe.
                let Some(mount) = place else { continue };
                if !mount.on_disk {
                    continue;
                }
                let volume = (!mount.is_overlay).then(|| mount.root.clone());
                self.found.insert(identity, Unlinked { identity, bytes: file.stx_blocks.saturating_mul(512), volume });
            }
        }
    }
}

/// What is behind the link to an open file, without asking a server behind a file system, which may never answer.
fn look(link: &Path) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::BLOCKS;
    statx(CWD, link, AtFlags::STATX_DONT_SYNC, wanted)
}

fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The mounts of a process, which no container without the right to mount can change.
struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    /// What of its file system is mounted.
    root: PathBuf,
    point: PathBuf,
    is_overlay: bool,
    on_disk: bool,
}

impl Mounts {
    fn of(proc: &Path) -> Self {
        Self::parse(&fs::read_to_string(proc.join("mountinfo")).unwrap_or_default())
    }

    fn parse(table: &str) -> Self {
        let mount = |line: &str| {
            let (place, kind) = line.split_once(" - ")?;
            let fields: Vec<&str> = place.split(' ').collect();
            let kind = kind.split(' ').next()?;
            Some(Mount {
                id: fields.first()?.parse().ok()?,
                root: unescape(fields.get(3)?),
                point: unescape(fields.get(4)?),
                is_overlay: kind == "overlay",
                on_disk: !matches!(kind, "tmpfs" | "ramfs" | "hugetlbfs" | "mqueue" | "proc" | "sysfs" | "devpts"),
            })
        };
        Self(table.lines().filter_map(mount).collect())
    }

    fn by_id(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// The deepest mount that the path goes through.
    fn at(&self, path: &Path) -> Option<&Mount> {
        let on_the_way = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        on_the_way.max_by_key(|mount| mount.point.components().count())
    }
}

/// The mount table writes blanks as octal numbers.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
700 600 0:50 / / rw,relatime - overlay overlay rw,lowerdir=a
701 700 254:0 /var/pods/u/volumes/kubernetes.io~empty-dir/v /data rw,relatime - ext4 /dev/vda rw
702 701 0:60 / /data/memory rw - tmpfs tmpfs rw
";

    #[test]
    fn the_mount_of_a_file_says_whose_it_is() {
        let mounts = Mounts::parse(TABLE);
        let point = |path: &str| mounts.at(Path::new(path)).unwrap().point.clone();
        assert_eq!(point("/data/x (deleted)"), Path::new("/data"));
        assert_eq!(point("/data/memory/x"), Path::new("/data/memory"));
        assert_eq!(point("/database"), Path::new("/"));
        assert!(mounts.by_id(700).unwrap().is_overlay && !mounts.by_id(702).unwrap().on_disk);
        assert!(mounts.by_id(701).unwrap().root.ends_with("kubernetes.io~empty-dir/v"));
        assert!(mounts.by_id(9).is_none());
        assert_eq!(mount_id("pos:\t0\nflags:\t02\nmnt_id:\t701\nino:\t7\n"), Some(701));
    }
}
