//! Stage identity, part 2: capabilities, user, groups, no_new_privs, seccomp. Nothing is possible after this but exec.

use std::os::unix::net::UnixStream;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::spec::Rights;
use super::user::User;
use super::{During as _, StageResult, WATCHED, seccomp};
use crate::{sys, wire};

/// Says how early the kernel should kill this process when memory runs out.
///
/// Lowering needs `CAP_SYS_RESOURCE`; without it the nearest value that is allowed stays.
pub(crate) fn set_oom_score(score: i32) -> std::io::Result<()> {
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(err) if matches!(err.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Ok(()),
        written => written,
    }
}

/// Becomes `user` with at most `rights`; what is missing is done by [`watch`] and [`finish`].
///
/// Where `no_new_privs` is not asked for, only `CAP_SYS_ADMIN` can install a filter, and stays until then.
pub(super) fn lower(rights: &Rights, user: &User) -> StageResult {
    let keep = CapabilitySet::from_bits_truncate(rights.capabilities);
    let held = rustix::thread::capabilities(None).during(|| "read capabilities".into())?;
    drop_bounding(keep)?;
    rustix::thread::set_keep_capabilities(true).during(|| "keep capabilities".into())?;
    become_user(user)?;
    // What this process does not have it cannot give.
    set_capabilities((keep | for_filters(rights)) & held.permitted)?;
    rustix::thread::set_keep_capabilities(false).during(|| "keep capabilities".into())?;
    // By `fs.suid_dumpable` a change of the user may have made it readable.
    sys::hide_process().during(|| "hide this process".into())
}

/// Puts the watchman's filter on this process and what it forks, and hands his listener over.
///
/// Whoever holds the listener can answer in his place, so this happens where the container sees no descriptors.
pub(super) fn watch(rights: &Rights, channel: &UnixStream) -> StageResult {
    if rights.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs".into())?;
    }
    if let Some(listener) = seccomp::listen(&rights.watch)? {
        wire::send(channel, &[WATCHED], &[listener]).during(|| "hand over the listener".into())?;
    }
    if rights.seccomp.is_empty() { give_up_filters(rights) } else { Ok(()) }
}

/// Lets go of the rest: nothing is possible after this but exec.
pub(super) fn finish(rights: &Rights) -> StageResult {
    // Without its shim a container has no log and nobody to report to. Changing the user resets this, so it comes late.
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "set the parent death signal".into())?;
    seccomp::install(&rights.seccomp)?;
    give_up_filters(rights)
}

/// Lets go of what installing filters took.
fn give_up_filters(rights: &Rights) -> StageResult {
    if for_filters(rights).is_empty() {
        return Ok(());
    }
    let held = rustix::thread::capabilities(None).during(|| "read capabilities".into())?;
    set_capabilities(CapabilitySet::from_bits_truncate(rights.capabilities) & held.permitted)
}

/// What installing the filters takes.
fn for_filters(rights: &Rights) -> CapabilitySet {
    let needless = rights.no_new_privileges || (rights.seccomp.is_empty() && rights.watch.program.is_empty());
    if needless { CapabilitySet::empty() } else { CapabilitySet::SYS_ADMIN }
}

fn set_capabilities(set: CapabilitySet) -> StageResult {
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).during(|| "set capabilities".into())
}

fn drop_bounding(keep: CapabilitySet) -> StageResult {
    for capability in CapabilitySet::all().difference(keep).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel does not know it.
            Err(rustix::io::Errno::INVAL) => {}
            done => done.during(|| format!("drop {capability:?} from the bounding set"))?,
        }
    }
    Ok(())
}

fn become_user(user: &User) -> StageResult {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups).during(|| "set groups".into())?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).during(|| format!("set gid {}", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during(|| format!("set uid {}", user.uid))
}
