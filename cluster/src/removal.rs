//! `coracle delete`: a cluster of this machine, and everything that it has made here, go.
//!
//! A record only says where to look. What is removed is a directory that is held by a descriptor, is root's alone, and has
//! the same record in it; and names of interfaces, tables and cgroups that are claimed first, as `coracle up` would.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use runtime::local::LocalRuntime;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::drain::NodePods;
use crate::fleet::{self, Fleet};
use crate::named::{ClusterName, Hold, LONGEST, OWN, Record, Records, end, is_running, known};
use crate::options::{Options, Plan};
use crate::up::{check_host, claim, link_of};

/// Other users may not write in a cluster's directory.
const OTHERS_WRITE: u32 = 0o022;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Removes a cluster that does not run, or with `force` one that does, once it has ended. `say` gets each line for the user.
pub async fn delete(records: &Path, name: &ClusterName, force: bool, say: impl Fn(String)) -> anyhow::Result<()> {
    check_host()?;
    let records = Records::at(records);
    let record = known(&records, name)?;
    if is_running(&records, name)? {
        ensure!(force, "cluster {name} runs: `coracle stop {name}` first, or give --force");
        say(format!("stopping cluster {name}"));
        end(&records, name, &record.data_directory).await?;
    }
    let hold = records.hold(&records.compare()?, name)?;
    let hold = hold.with_context(|| format!("cluster {name} has just been started again, or is being removed"))?;
    // As it is now that nobody else changes it.
    let record = known(&records, name)?;
    match Held::open(&record, name)? {
        Some(directory) => {
            remove_from_machine(&record, &say).await.with_context(|| format!("cluster {name}"))?;
            directory.remove()?;
            say(format!("removed {}", record.data_directory.display()));
        }
        None => say(format!("{} is gone already", record.data_directory.display())),
    }
    forget(&records, &hold, name)
}

fn forget(records: &Records, hold: &Hold, name: &ClusterName) -> anyhow::Result<()> {
    records.forget(&records.compare()?, hold, name)
}

/// Ends what is left of the pods, and takes down networks: what a cluster that was killed has left, too.
async fn remove_from_machine(record: &Record, say: &impl Fn(String)) -> anyhow::Result<()> {
    let plan = Plan::new(options(record)?)?;
    let claimed = claim([plan.resources(), fleet::resources(&plan)?].concat())?;
    let node = plan.node();
    let run = node.runtime()?.run;
    let runtime = Arc::new(LocalRuntime::open(node.runtime()?).await.context("container runtime")?);
    // Of pods that the next start would start again there is nothing to be said, and nothing of them is kept.
    node.stop(Arc::clone(&runtime), Some(0), &|_line: String| {}).await?;
    runtime.tear_down().await.context("remove pods")?;
    drop(runtime);
    let link = link_of(&plan);
    let fleet = Fleet::new(&plan, Some(&link))?;
    let mut runs = vec![run];
    for member in fleet.nodes() {
        let pods = NodePods {
            runtime_root: member.data_dir.join("runtime"),
            kubelet_root: member.data_dir.join("kubelet"),
            bridge: member.bridge.clone(),
            grace_period: Some(1),
            remove: true,
        };
        if member.data_dir.exists() {
            pods.stop(say).await.with_context(|| format!("pods of {}", member.data_dir.display()))?;
        }
        runs.push(Path::new("/run/coracle").join(&member.bridge));
    }
    fleet.stop().await?;
    link.remove().await?;
    drop(claimed);
    expect_no_mounts(&record.data_directory)?;
    for run in &runs {
        expect_no_mounts(run)?;
        runtime::tree::remove(run).with_context(|| format!("remove {}", run.display()))?;
    }
    Ok(())
}

/// The options by which the cluster of a record would come up, as far as names on this machine follow from them.
fn options(record: &Record) -> anyhow::Result<Options> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    let addresses: Vec<String> = record.node_addresses.iter().map(ToString::to_string).collect();
    let mut line = vec![
        OsString::from("up"),
        format!("--name={}", record.name).into(),
        format!("--bridge={}", record.bridge).into(),
        format!("--node-ip={}", addresses.join(",")).into(),
        format!("--cluster-cidr={}", record.pods.join(",")).into(),
        format!("--service-cluster-ip-range={}", record.services.join(",")).into(),
        format!("--nodes={}", record.nodes).into(),
        OsString::from("--data-dir"),
        record.data_directory.clone().into(),
    ];
    line.extend(record.node_name.iter().map(|name| format!("--node-name={name}").into()));
    Ok(Line::try_parse_from(line).context("the record has what no cluster has")?.options)
}

/// What is mounted in a directory is somebody's: it is not emptied, and not taken away.
fn expect_no_mounts(directory: &Path) -> anyhow::Result<()> {
    let mounts = kubelet::volumes::mounts_below(directory).context("read the mounts of this machine")?;
    match mounts.iter().find(|mount| *mount != directory) {
        Some(mount) => bail!("{} is mounted: unmount it, and try again", mount.display()),
        None => Ok(()),
    }
}

/// A cluster's own directory, held.
struct Held {
    parent: OwnedFd,
    name: OsString,
    directory: OwnedFd,
    path: PathBuf,
}

impl Held {
    /// Opens the directory of a record, which must be this cluster's; `None` where there is nothing.
    fn open(record: &Record, name: &ClusterName) -> anyhow::Result<Option<Self>> {
        let path = &record.data_directory;
        let (Some(above), Some(last)) = (path.parent(), path.file_name()) else {
            bail!("{} is no directory of a cluster", path.display());
        };
        let parent = match rustix::fs::open(above, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.with_context(|| format!("open {}", above.display()))?,
        };
        let directory = match openat(&parent, last, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        expect_own(&directory, record, name).with_context(|| {
            format!("{} is not the directory of cluster {name}: nothing was removed", path.display())
        })?;
        Ok(Some(Self { parent, name: last.to_owned(), directory, path: path.clone() }))
    }

    fn remove(self) -> anyhow::Result<()> {
        let at = || format!("remove {}", self.path.display());
        runtime::tree::remove_below(&self.directory).with_context(at)?;
        match unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
            // A file system of its own, which stays where it is, or somebody has just made something there.
            Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
            Err(err) => Err(err).with_context(at),
        }
    }
}

fn expect_own(directory: &OwnedFd, record: &Record, name: &ClusterName) -> anyhow::Result<()> {
    let is_ours =
        |stat: rustix::fs::Stat| stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & OTHERS_WRITE == 0;
    ensure!(is_ours(fstat(directory)?), "others may write in it");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, OWN, flags, Mode::empty()).with_context(|| format!("open {OWN} in it"))?;
    let stat = fstat(&file)?;
    ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && is_ours(stat), "{OWN} in it is not ours");
    let mut text = String::new();
    File::from(file).take(LONGEST).read_to_string(&mut text).with_context(|| format!("read {OWN} in it"))?;
    let own = Record::read(&text, name).with_context(|| format!("read {OWN} in it"))?;
    ensure!(own.id == record.id, "it is that of another cluster of this name");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn record(directory: &Path, id: &str) -> Record {
        Record {
            name: "blue".into(),
            id: id.into(),
            created: 0,
            data_directory: directory.into(),
            bridge: "c-blue".into(),
            cgroup_root: Some("c-blue".into()),
            node_name: None,
            node_addresses: vec!["10.245.9.1".parse().unwrap()],
            nodes: 2,
            pods: vec!["10.120.0.0/16".into()],
            services: vec!["10.160.0.0/16".into()],
            secure_port: 6450,
            kubelet_port: 10_260,
        }
    }

    fn blue() -> ClusterName {
        "blue".parse().unwrap()
    }

    fn refused(record: &Record) -> String {
        format!("{:#}", Held::open(record, &blue()).err().expect("it is refused"))
    }

    fn write_own(directory: &Path, record: &Record) {
        fs::write(directory.join(OWN), serde_json::to_string(record).unwrap()).unwrap();
        fs::set_permissions(directory.join(OWN), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn only_a_directory_with_the_same_record_in_it_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let (ours, theirs) = (outer.path().join("ours"), outer.path().join("theirs"));
        for directory in [&ours, &theirs] {
            fs::create_dir_all(directory.join("store")).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        write_own(&ours, &record(&ours, "1"));
        // A home, a link to the cluster's, another cluster's, the root.
        assert!(refused(&record(&theirs, "1")).contains("nothing was removed"));
        let link = outer.path().join("link");
        symlink(&ours, &link).unwrap();
        assert!(refused(&record(&link, "1")).contains("open"));
        assert!(refused(&record(&ours, "2")).contains("another cluster of this name"));
        assert!(refused(&record(Path::new("/"), "1")).contains("no directory of a cluster"));
        symlink(ours.join(OWN), theirs.join(OWN)).unwrap();
        assert!(refused(&record(&theirs, "1")).contains("nothing was removed"));
        fs::remove_file(theirs.join(OWN)).unwrap();
        write_own(&theirs, &Record { name: "red".into(), ..record(&theirs, "1") });
        assert!(refused(&record(&theirs, "1")).contains("cluster \"red\""));
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&record(&ours, "1")).contains("others may write"));
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o700)).unwrap();

        assert!(Held::open(&record(&outer.path().join("gone"), "1"), &blue()).unwrap().is_none());
        Held::open(&record(&ours, "1"), &blue()).unwrap().unwrap().remove().unwrap();
        assert!(!ours.exists() && theirs.join("store").is_dir());
    }

    #[test]
    fn what_has_the_name_by_now_is_not_what_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let ours = outer.path().join("ours");
        fs::create_dir_all(ours.join("store")).unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o700)).unwrap();
        write_own(&ours, &record(&ours, "1"));
        let held = Held::open(&record(&ours, "1"), &blue()).unwrap().unwrap();
        fs::rename(&ours, outer.path().join("aside")).unwrap();
        fs::create_dir_all(ours.join("precious")).unwrap();
        held.remove().unwrap();
        assert!(ours.join("precious").is_dir() && fs::read_dir(outer.path().join("aside")).unwrap().next().is_none());
    }

    #[test]
    fn a_record_gives_the_names_that_the_cluster_had_and_no_others() {
        let plan = Plan::new(options(&record(Path::new("/d"), "1")).unwrap()).unwrap();
        assert_eq!((plan.options.node.link_name(), plan.options.nodes), ("c-blue-node".to_owned(), 2));
        assert_eq!(plan.options.node.data_dir, Path::new("/d"));
        for wrong in [
            Record { bridge: "eth0\" ; flush".into(), ..record(Path::new("/d"), "1") },
            Record { bridge: "../../etc".into(), ..record(Path::new("/d"), "1") },
            Record { pods: vec!["everything".into()], ..record(Path::new("/d"), "1") },
            Record { nodes: 200, ..record(Path::new("/d"), "1") },
            Record { node_addresses: Vec::new(), ..record(Path::new("/d"), "1") },
        ] {
            assert!(options(&wrong).and_then(Plan::new).is_err(), "{wrong:?}");
        }
    }
}
