//! What the kernel tells of mounts (proc_pid_mountinfo(5)): where they are, and to whom they give on what is mounted below
//! them (mount_namespaces(7)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, statx};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is.
    pub point: PathBuf,
    /// Major and minor number of its file system.
    pub device: String,
    /// What it shows of its file system.
    pub root: PathBuf,
    /// What is mounted below it is mounted below its peers too, and the other way round.
    pub is_shared: bool,
    /// What is mounted below its master is mounted below it too.
    pub is_slave: bool,
}

impl MountEntry {
    /// The mount that a descriptor lies on.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn of(descriptor: impl AsFd) -> io::Result<Self> {
        let id = statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id.to_string();
        for line in BufReader::new(File::open("/proc/self/mountinfo")?).lines() {
            if let Some(entry) = parse(&line?, &id) {
                return Ok(entry);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no mount {id}")))
    }
}

/// Reads a line, if it is of this mount.
fn parse(line: &str, id: &str) -> Option<MountEntry> {
    let mut fields = line.split(' ');
    if fields.next()? != id {
        return None;
    }
    let (device, root, point) = (fields.nth(1)?.to_owned(), unescape(fields.next()?), unescape(fields.next()?));
    let peers: Vec<_> = fields.skip(1).take_while(|field| *field != "-").collect();
    let is = |what: &str| peers.iter().any(|peer| peer.starts_with(what));
    Some(MountEntry { point, device, root, is_shared: is("shared:"), is_slave: is("master:") })
}

/// The table writes blanks as octal numbers.
pub fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_of_a_mount_stand_before_the_dash() {
        let check = |line: &str, [device, root, point]: [&str; 3], is_shared, is_slave| {
            let (device, root, point) = (device.to_owned(), root.into(), point.into());
            assert_eq!(parse(line, "36"), Some(MountEntry { point, device, root, is_shared, is_slave }));
        };
        check(
            "36 35 98:0 /m /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw",
            ["98:0", "/m", "/mnt 2"],
            false,
            true,
        );
        check("36 35 0:3 / / rw shared:2 master:1 - overlay overlay rw", ["0:3", "/", "/"], true, true);
        check("36 35 0:3 / /private rw - tmpfs shared:3 rw", ["0:3", "/", "/private"], false, false);
        assert_eq!(parse("136 36 0:3 / / rw shared:2 - tmpfs x rw", "36"), None);
        assert_eq!(parse("36 35", "36"), None);
    }

    #[test]
    fn a_directory_lies_on_a_mount() {
        let found = crate::beneath::find_on_node(std::path::Path::new("/proc/self")).unwrap();
        assert_eq!(MountEntry::of(found).unwrap().point, PathBuf::from("/proc"));
    }
}
