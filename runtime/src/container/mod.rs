//! From a fork of the shim to the container's program: one file per stage, in the order of [`Stage`] (upstream: runc's
//! libcontainer).
//!
//! ```text
//! shim --fork--> init: cgroups > mounts > paths > pivot > identity  --"ready"--> shim
//!                init: wait                                         <--"start"-- shim
//!                init: exec (closes the channel)                    --EOF------> shim
//! ```
//! A stage that fails sends its text instead, and the process ends.
//!
//! `exec` into a running container has two processes, so that the container never sees one with more than its own rights,
//! root and descriptors: the first stays outside its process namespace, gives up everything, and forks a sibling into it.
//!
//! ```text
//! shim --fork--> starter: cgroups > namespaces > identity --fork--> process: "born" (its pidfd)  --> shim
//!                starter: ends                                      process: exec (closes the channel)
//! ```

pub(crate) mod capability;
mod identity;
mod images;
mod mounts;
mod paths;
mod program;
mod propagation;
pub(crate) mod seccomp;
pub(crate) mod spec;
mod trees;
mod tty;
mod user;
mod users;

pub(crate) use identity::set_oom_score;

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, getpid, pidfd_open, setsid};

use crate::sys;
use crate::wire;
use spec::{ContainerSpec, ExecSpec};
use user::User;
use users::Users;

/// The stages of making a container; the declaration order is the order in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Descriptors,
    Cgroups,
    Mounts,
    Paths,
    Pivot,
    Terminal,
    Identity,
    Exec,
}

/// A stage that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The program cannot be run; the text has the words that containerd's users know.
    #[error("{0}")]
    Program(String),
    #[error("{what}: {source}")]
    Sys { what: String, source: io::Error },
}

type StageResult<T = ()> = Result<T, StageError>;

/// Adds what was being done to an I/O error.
trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> StageResult<T>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> StageResult<T> {
        self.map_err(|err| StageError::Sys { what: what(), source: err.into() })
    }
}

/// Standard input, output and error of a process without a terminal.
#[derive(Default)]
pub(crate) struct Stdio {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// What the init process tells the shim when it waits for "start".
pub(crate) const READY: u8 = b'R';
/// What the shim tells the init process to go on.
pub(crate) const START: u8 = b'S';
/// What a process that was executed beside a container's first tells the shim, with its pidfd: it is there.
pub(crate) const BORN: u8 = b'B';
/// Comes with the listener of a process that is watched, just before it becomes its program.
pub(crate) const WATCHED: u8 = b'W';
/// Precedes the text of a failure.
pub(crate) const FAILED: u8 = b'E';

/// Runs in a fresh fork with its own mount namespace, and does not return.
pub(crate) fn init(spec: &ContainerSpec, directory: &Path, channel: UnixStream, stdio: Stdio) -> ! {
    sys::set_name(c"coracle:init");
    let result = run_init(spec, directory, &channel, stdio);
    fail(&channel, result)
}

/// Runs in a fresh fork outside the container that `target` is the first process of, and does not return.
pub(crate) fn exec(
    spec: &ContainerSpec,
    request: &ExecSpec,
    target: BorrowedFd<'_>,
    channel: UnixStream,
    stdio: Stdio,
) -> ! {
    sys::set_name(c"coracle:exec");
    let result = run_exec(spec, request, target, &channel, stdio);
    fail(&channel, result)
}

fn fail(channel: &UnixStream, result: StageResult<std::convert::Infallible>) -> ! {
    let Err(err) = result;
    let mut channel = channel;
    // If the shim is gone, nobody is left to tell.
    let _ = channel.write_all(format!("{}{err}", char::from(FAILED)).as_bytes());
    std::process::exit(128)
}

fn run_init(
    spec: &ContainerSpec,
    directory: &Path,
    channel: &UnixStream,
    stdio: Stdio,
) -> StageResult<std::convert::Infallible> {
    in_stage(Stage::Descriptors, close_others(channel, &stdio, None))?;
    in_stage(Stage::Cgroups, join_cgroups(&spec.cgroup_directories, !spec.host_cgroup))?;
    in_stage(Stage::Cgroups, set_oom_score(spec.oom_score_adj).during(|| "set the OOM score".into()))?;
    let users = in_stage(Stage::Mounts, Users::of(spec))?;
    let root = in_stage(Stage::Mounts, mounts::make(spec, directory, users.as_ref()))?;
    in_stage(Stage::Paths, paths::restrict(spec, &root))?;
    in_stage(Stage::Pivot, mounts::pivot(root))?;
    let master = in_stage(Stage::Terminal, take_stdio(spec.tty, stdio))?;
    let user = in_stage(Stage::Identity, resolve_user(spec, users.as_ref()))?;
    in_stage(Stage::Identity, paths::make_working_directory(spec, &user, users.as_ref()))?;
    wire::send(channel, &[READY], master.as_slice()).during(|| "tell the shim".into())?;
    drop(master);
    wait_for_start(channel)?;
    let program = in_stage(Stage::Exec, program::find(&spec.arguments, &spec.environment, &spec.working_directory))?;
    let environment = user.complete(&spec.environment, &spec.hostname, spec.tty);
    if let Some(users) = users {
        in_stage(Stage::Identity, users.enter(true))?;
    }
    in_stage(Stage::Identity, identity::lower(&spec.rights, &user))?;
    in_stage(Stage::Identity, identity::watch(&spec.rights, channel))?;
    in_stage(Stage::Identity, identity::finish(&spec.rights))?;
    Err(program.exec(&spec.arguments, &environment))
}

fn run_exec(
    spec: &ContainerSpec,
    request: &ExecSpec,
    target: BorrowedFd<'_>,
    channel: &UnixStream,
    stdio: Stdio,
) -> StageResult<std::convert::Infallible> {
    in_stage(Stage::Descriptors, close_others(channel, &stdio, Some(target)))?;
    in_stage(Stage::Cgroups, join_cgroups(&spec.cgroup_directories, false))?;
    in_stage(Stage::Cgroups, set_oom_score(spec.oom_score_adj).during(|| "set the OOM score".into()))?;
    let users = in_stage(Stage::Identity, Users::of(spec))?;
    // The process namespace is that of the children only.
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | if spec.host_cgroup { 0 } else { libc::CLONE_NEWCGROUP };
    sys::setns(target, namespaces).during(|| "join the container's namespaces".into())?;
    if let Some(users) = &users {
        in_stage(Stage::Identity, users.make_as_root())?;
    }
    let master = in_stage(Stage::Terminal, open_stdio(request.tty, false, stdio))?;
    let user = in_stage(Stage::Identity, resolve_user(spec, users.as_ref()))?;
    in_stage(Stage::Identity, paths::enter_working_directory(&spec.working_directory))?;
    if let Some(master) = master {
        wire::send(channel, &[READY], &[master]).during(|| "tell the shim".into())?;
    }
    let program = in_stage(Stage::Exec, program::find(&request.arguments, &spec.environment, &spec.working_directory))?;
    let environment = user.complete(&spec.environment, &spec.hostname, request.tty);
    if let Some(users) = users {
        in_stage(Stage::Identity, users.enter(false))?;
    }
    in_stage(Stage::Identity, identity::lower(&spec.rights, &user))?;
    in_stage(Stage::Identity, identity::watch(&spec.rights, channel))?;
    in_stage(Stage::Descriptors, close_others(channel, &Stdio::default(), None))?;
    if !sys::fork_sibling().during(|| "fork into the container".into())? {
        std::process::exit(0);
    }
    in_stage(Stage::Exec, begin(channel, request.tty))?;
    in_stage(Stage::Identity, identity::finish(&spec.rights))?;
    Err(program.exec(&request.arguments, &environment))
}

/// Who the program runs as; the standard streams become its own.
fn resolve_user(spec: &ContainerSpec, users: Option<&Users>) -> StageResult<User> {
    let user = user::resolve(&spec.user)?;
    if let Some(users) = users {
        users.check(&user)?;
    }
    tty::own(users.map_or(Ok(user.uid), |users| users.on_node(user.uid))?)?;
    Ok(user)
}

/// The first steps of a process in the container: it tells the shim of itself, and leads a session of its own.
fn begin(channel: &UnixStream, tty: bool) -> StageResult {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).during(|| "open itself".into())?;
    wire::send(channel, &[BORN], &[own]).during(|| "tell the shim".into())?;
    setsid().during(|| "start a session".into())?;
    if tty { tty::control() } else { Ok(()) }
}

/// Closes everything that the shim had open but what this process needs.
fn close_others(channel: &UnixStream, stdio: &Stdio, target: Option<BorrowedFd<'_>>) -> StageResult {
    let given = [&stdio.stdin, &stdio.stdout, &stdio.stderr].into_iter().flatten();
    let mut keep: Vec<BorrowedFd<'_>> = given.map(|fd| fd.as_fd()).collect();
    keep.push(channel.as_fd());
    keep.extend(target);
    sys::close_all_but(&keep).during(|| "close descriptors".into())
}

/// Says in which stage an error happened, unless its words are for the user.
fn in_stage<T>(stage: Stage, result: StageResult<T>) -> StageResult<T> {
    result.map_err(|err| match err {
        StageError::Sys { what, source } => {
            StageError::Sys { what: format!("{}: {what}", format!("{stage:?}").to_lowercase()), source }
        }
        program => program,
    })
}

/// Moves this process into its cgroups.
///
/// Version 1 takes the single thread through `tasks`, which spares the kernel a wait for all readers of its thread
/// group lock (about 10 ms).
fn join_cgroups(directories: &[PathBuf], unshare: bool) -> StageResult {
    for directory in directories {
        let tasks = directory.join("tasks");
        let file = if tasks.exists() { tasks } else { directory.join("cgroup.procs") };
        std::fs::write(&file, "0").during(|| format!("join {}", file.display()))?;
    }
    if unshare {
        sys::unshare(libc::CLONE_NEWCGROUP).during(|| "make a cgroup namespace".into())?;
    }
    Ok(())
}

/// Puts stdin, stdout and stderr in place; returns the terminal's other end, if there is a terminal.
fn take_stdio(tty: bool, stdio: Stdio) -> StageResult<Option<OwnedFd>> {
    setsid().during(|| "start a session".into())?;
    let master = open_stdio(tty, true, stdio)?;
    if tty {
        tty::control()?;
    }
    Ok(master)
}

/// The same in a process that does not lead a session.
fn open_stdio(tty: bool, console: bool, stdio: Stdio) -> StageResult<Option<OwnedFd>> {
    if tty {
        return tty::open(console).map(Some);
    }
    tty::take(stdio)?;
    Ok(None)
}

fn wait_for_start(mut channel: &UnixStream) -> StageResult {
    let mut byte = [0];
    let count = channel.read(&mut byte).during(|| "wait for start".into())?;
    if count == 0 || byte[0] != START {
        std::process::exit(0);
    }
    Ok(())
}

/// Makes `directory` the current one of this process, which is about to become a container's.
#[allow(clippy::disallowed_methods)]
fn enter(directory: &Path) -> StageResult {
    std::env::set_current_dir(directory).during(|| format!("chdir to cwd ({:?})", directory.display().to_string()))
}
