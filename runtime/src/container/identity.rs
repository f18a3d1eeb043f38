//! Stage identity, part 2: capabilities, user, groups, no_new_privs, seccomp. Nothing is possible after this but exec.

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::spec::Rights;
use super::user::User;
use super::{During as _, StageResult, seccomp};

/// Says how early the kernel should kill this process when memory runs out.
///
/// Lowering needs `CAP_SYS_RESOURCE`; without it the nearest value that is allowed stays.
pub(super) fn set_oom_score(score: i32) -> StageResult {
    const FILE: &str = "/proc/self/oom_score_adj";
    match std::fs::write(FILE, score.to_string()) {
        Err(err) if matches!(err.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Ok(()),
        written => written.during(|| format!("write {FILE}")),
    }
}

/// Becomes `user` with at most `rights`.
pub(super) fn drop_rights(rights: &Rights, user: &User) -> StageResult {
    let keep = CapabilitySet::from_bits_truncate(rights.capabilities);
    let held = rustix::thread::capabilities(None).during(|| "read capabilities".into())?;
    drop_bounding(keep)?;
    if !rights.no_new_privileges {
        seccomp::install(&rights.seccomp)?;
    }
    rustix::thread::set_keep_capabilities(true).during(|| "keep capabilities".into())?;
    become_user(user)?;
    // What this process does not have it cannot give.
    let set = keep & held.permitted;
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).during(|| "set capabilities".into())?;
    rustix::thread::set_keep_capabilities(false).during(|| "keep capabilities".into())?;
    // Without its shim a container has no log and nobody to report to. Changing the user resets this, so it comes late.
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "set the parent death signal".into())?;
    if rights.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs".into())?;
        seccomp::install(&rights.seccomp)?;
    }
    Ok(())
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
