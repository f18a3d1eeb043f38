//! What drivers have mounted on this node, in memory and on disk. A record is written before a driver is asked to mount,
//! and removed after it has unmounted: a kubelet that is killed at any moment finds everything that may be mounted.
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~csi/<name>/{mount,vol_data.json}              published to a pod
//! <root>/plugins/kubernetes.io/csi/<driver>/<sha256 of the handle>/{globalmount,vol_data.json}   staged on the node
//! <root>/plugins/kubernetes.io/csi/volumeDevices/publish/<name>/<uid>                    the same of block devices,
//! <root>/pods/<uid>/volumeDevices/kubernetes.io~csi/<name>/vol_data.json
//! <root>/plugins/kubernetes.io/csi/volumeDevices/{staging/<name>,<name>/data/vol_data.json}
//! ```
//! Upstream: `vol_data.json` of pkg/volume/csi; its kubelet rebuilds its state from these files, too.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api::volumes::attachment;
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::records::{self, Record, VolumeId};

/// How long one waits for others who work on the same volume.
const TURN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    /// By the pod's uid, and the volume's name.
    published: BTreeMap<(String, String), Record>,
    staged: BTreeMap<VolumeId, Record>,
    /// Volumes that pods wait for, by uid and unique name.
    wanted: BTreeSet<(String, String)>,
    /// Pods that are gone and have left something.
    abandoned: BTreeSet<String>,
}

/// All that drivers have mounted.
pub(crate) struct Mounts {
    root: PathBuf,
    state: Mutex<State>,
    turns: Mutex<HashMap<VolumeId, Weak<tokio::sync::Mutex<()>>>>,
    /// The unique names of volumes that must not be detached from the node.
    in_use: watch::Sender<BTreeSet<String>>,
    /// Volumes may be staged that no pod has.
    left: Notify,
}

impl Mounts {
    /// Reads what an earlier kubelet has written down.
    pub(crate) fn read(root: &Path) -> Self {
        let published = records::published(root).into_iter().map(|(uid, record)| ((uid, record.name.clone()), record));
        let staged = records::staged(root).into_iter().map(|record| (record.id.clone(), record));
        let state = State { published: published.collect(), staged: staged.collect(), ..State::default() };
        let mounts = Self {
            root: root.to_owned(),
            state: Mutex::new(state),
            turns: Mutex::default(),
            in_use: watch::Sender::default(),
            left: Notify::new(),
        };
        mounts.tell();
        mounts.left.notify_one();
        mounts
    }

    /// The unique names of the attached volumes that are, or are about to be, mounted (`status.volumesInUse`).
    pub(crate) fn in_use(&self) -> watch::Receiver<BTreeSet<String>> {
        self.in_use.subscribe()
    }

    /// A pod is going to use a volume that must be attached first.
    pub(crate) fn want(&self, uid: &str, id: &VolumeId) {
        self.state().wanted.insert((uid.to_owned(), id.unique_name()));
        self.tell();
    }

    /// A pod uses nothing that it does not have.
    pub(crate) fn want_nothing(&self, uid: &str) {
        self.state().wanted.retain(|(of, _)| of != uid);
        self.tell();
    }

    /// Waits until nobody else works on the volume. The error is that somebody does, for long.
    pub(crate) async fn turn(&self, id: &VolumeId) -> io::Result<OwnedMutexGuard<()>> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(id).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(id.clone(), Arc::downgrade(&turn));
            turn
        };
        let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "another operation on the volume is under way");
        tokio::time::timeout(TURN, turn.lock_owned()).await.map_err(busy)
    }

    /// Writes down that a volume may be staged.
    pub(crate) async fn stage(&self, record: &Record) -> io::Result<()> {
        records::write(self.staged_file(record), record).await?;
        self.state().staged.insert(record.id.clone(), record.clone());
        self.tell();
        Ok(())
    }

    /// Writes down that a volume may be published to a pod.
    pub(crate) async fn publish(&self, uid: &str, record: &Record) -> io::Result<()> {
        records::write(self.published_file(uid, record), record).await?;
        self.state().published.insert((uid.to_owned(), record.name.clone()), record.clone());
        self.tell();
        Ok(())
    }

    /// A volume is not staged any more: what the node had of it is removed.
    pub(crate) async fn unstaged(&self, record: &Record) -> io::Result<()> {
        records::clear(self.staged_file(record), self.staging_path(record)).await?;
        self.state().staged.remove(&record.id);
        self.tell();
        Ok(())
    }

    /// A volume is not published to a pod any more.
    pub(crate) async fn unpublished(&self, uid: &str, record: &Record) -> io::Result<()> {
        records::clear(self.published_file(uid, record), self.target_path(uid, record)).await?;
        self.state().published.remove(&(uid.to_owned(), record.name.clone()));
        self.tell();
        self.left.notify_one();
        Ok(())
    }

    /// What is published to a pod.
    pub(crate) fn of_pod(&self, uid: &str) -> Vec<Record> {
        let state = self.state();
        let of = state.published.iter().filter(|((of, _), _)| of == uid);
        of.map(|(_, record)| record.clone()).collect()
    }

    /// A volume that is published to a pod.
    pub(crate) fn published(&self, uid: &str, name: &str) -> Option<Record> {
        self.state().published.get(&(uid.to_owned(), name.to_owned())).cloned()
    }

    /// Whether something is published to the pod.
    pub(crate) fn holds(&self, uid: &str) -> bool {
        self.state().published.keys().any(|(of, _)| of == uid)
    }

    /// The pods that something is published to.
    pub(crate) fn pods(&self) -> BTreeSet<String> {
        self.state().published.keys().map(|(uid, _)| uid.clone()).collect()
    }

    /// Pods are gone that have left something.
    pub(crate) fn abandon(&self, pods: BTreeSet<String>) {
        self.state().abandoned.extend(pods);
        self.left.notify_one();
    }

    /// Pods that have left something.
    pub(crate) fn abandoned(&self) -> BTreeSet<String> {
        self.state().abandoned.clone()
    }

    /// A pod has left nothing any more.
    pub(crate) fn no_longer_abandoned(&self, uid: &str) {
        self.state().abandoned.remove(uid);
    }

    /// A driver has come: what had to wait for it may be done.
    pub(crate) fn look_again(&self) {
        self.left.notify_one();
    }

    /// Volumes that are staged and no pod has.
    pub(crate) fn unused(&self) -> Vec<Record> {
        let state = self.state();
        let is_used = |id: &VolumeId| state.published.values().any(|record| record.id == *id);
        state.staged.values().filter(|record| !is_used(&record.id)).cloned().collect()
    }

    /// Waits until there may be such volumes. For one task.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// Where a driver stages a volume.
    pub(crate) fn staging_path(&self, record: &Record) -> PathBuf {
        match record.block {
            true => self.devices().join("staging").join(&record.name),
            false => self.staging_directory(&record.id).join("globalmount"),
        }
    }

    /// Where a driver publishes a volume to a pod.
    pub(crate) fn target_path(&self, uid: &str, record: &Record) -> PathBuf {
        match record.block {
            true => self.devices().join("publish").join(&record.name).join(uid),
            false => self.pod_directory(uid, record).join("mount"),
        }
    }

    fn staged_file(&self, record: &Record) -> PathBuf {
        match record.block {
            true => self.devices().join(&record.name).join("data").join(records::FILE),
            false => self.staging_directory(&record.id).join(records::FILE),
        }
    }

    fn published_file(&self, uid: &str, record: &Record) -> PathBuf {
        self.pod_directory(uid, record).join(records::FILE)
    }

    fn pod_directory(&self, uid: &str, record: &Record) -> PathBuf {
        let kind = if record.block { records::POD_DEVICES } else { records::POD_VOLUMES };
        self.root.join("pods").join(uid).join(kind).join(&record.name)
    }

    fn staging_directory(&self, id: &VolumeId) -> PathBuf {
        self.root.join(records::STAGED).join(&id.driver).join(attachment::digest(&[&id.handle]))
    }

    fn devices(&self) -> PathBuf {
        self.root.join(records::DEVICES)
    }

    fn tell(&self) {
        let state = self.state();
        let records = state.published.values().chain(state.staged.values());
        let attached = records.filter(|record| !record.attachment.is_empty()).map(|record| record.id.unique_name());
        let wanted = state.wanted.iter().map(|(_, name)| name.clone());
        let names: BTreeSet<String> = attached.chain(wanted).collect();
        self.in_use.send_if_modified(|known| {
            let changed = *known != names;
            *known = names;
            changed
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, block: bool) -> Record {
        let id = VolumeId { driver: "d.example".into(), handle: format!("handle/of {name}") };
        Record { id, name: name.into(), attachment: "csi-1".into(), block, volume: "data".into() }
    }

    #[tokio::test]
    async fn what_was_written_down_is_found_by_the_next_kubelet_and_goes_when_it_is_unmounted() {
        let place = tempfile::tempdir().unwrap();
        let (file, device) = (record("pv-1", false), record("pv-2", true));
        let mounts = Mounts::read(place.path());
        for one in [&file, &device] {
            mounts.stage(one).await.unwrap();
            mounts.publish("uid", one).await.unwrap();
        }
        let next = Mounts::read(place.path());
        assert_eq!(next.of_pod("uid"), [file.clone(), device.clone()]);
        assert_eq!(next.in_use().borrow().len(), 2);
        assert!(next.unused().is_empty() && next.holds("uid") && !next.holds("other"));
        next.unpublished("uid", &file).await.unwrap();
        assert_eq!(next.unused(), std::slice::from_ref(&file));
        assert_eq!(Mounts::read(place.path()).unused(), std::slice::from_ref(&file), "killed between the two");
        next.unstaged(&file).await.unwrap();
        next.unpublished("uid", &device).await.unwrap();
        next.unstaged(&device).await.unwrap();
        assert!(next.in_use().borrow().is_empty());
        let again = Mounts::read(place.path());
        assert!(again.pods().is_empty() && again.unused().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_forgotten_while_something_is_mounted_there() {
        let place = tempfile::tempdir().unwrap();
        let one = record("pv-1", false);
        let mounts = Mounts::read(place.path());
        mounts.publish("uid", &one).await.unwrap();
        let target = mounts.target_path("uid", &one);
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("data"), "of the volume").unwrap();
        mounts.unpublished("uid", &one).await.unwrap_err();
        assert!(target.join("data").exists() && Mounts::read(place.path()).holds("uid"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_works_on_a_volume_at_a_time_and_others_do_not_wait_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let mounts = Mounts::read(place.path());
        let (one, two) = (record("pv-1", false), record("pv-2", false));
        let turn = mounts.turn(&one.id).await.unwrap();
        assert!(mounts.turn(&two.id).await.is_ok());
        assert_eq!(mounts.turn(&one.id).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(turn);
        assert!(mounts.turn(&one.id).await.is_ok());
    }
}
