//! The process beside each pod: makes its namespaces and containers, holds their streams, writes their logs, records
//! their ends. It outlives the process that started it, and its containers do not outlive it (upstream:
//! containerd-shim-runc-v2).
//!
//! ```text
//! runtime --spawn--> shim (new session, unshare net/ipc/uts) --fork--> shim (adopted by init; serves the socket)
//!         <--"pid"-- exits 0                                           +-- pause (only with a shared pid namespace)
//!         <========= Unix socket: wire::Request / wire::Reply =======> +-- container, container, ...
//! ```
//! One thread and no async runtime, so that it may fork, and stays small.

mod container;
mod early;
mod exec;
mod log;
mod process;
mod server;
mod users;
mod watch;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags, SealFlags, StatVfsMountFlags};

use crate::sys;
use crate::wire::ShimConfig;

pub(crate) use container::read_exit;

/// As low as the node's own agents.
const OOM_SCORE: i32 = -998;

/// Why a shim could not come up.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{what}: {source}")]
    Sys { what: String, source: io::Error },
    /// What the first process of a user namespace said.
    #[error("{0}")]
    Said(String),
}

fn during<T>(result: Result<T, impl Into<io::Error>>, what: impl Into<String>) -> Result<T, Error> {
    result.map_err(|err| Error::Sys { what: what.into(), source: err.into() })
}

/// The program `<binary> shim <namespace>/<pod>`: takes its configuration as JSON from stdin, answers its process id on
/// stdout when it serves, and stays in the background. Call it before any thread is started.
pub fn main() -> ExitCode {
    match start() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(server)) => server.run(),
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

/// `None` in the process that was started, the server in the one that stays.
fn start() -> Result<Option<server::Server>, Error> {
    hide()?;
    let mut text = String::new();
    during(io::stdin().lock().read_to_string(&mut text), "read the configuration")?;
    let config: ShimConfig = during(serde_json::from_str(&text), "parse the configuration")?;
    sys::set_name(c"coracle-shim");
    during(rustix::process::setsid(), "start a session")?;
    sys::ignore_signal(libc::SIGHUP);
    make_namespaces(&config)?;
    // A socket that an earlier try left behind.
    let _ = std::fs::remove_file(&config.socket);
    let listener = listen(&config.socket)?;
    if let Some(child) = during(sys::fork(0), "fork")? {
        println!("{}", child.pid.as_raw_nonzero());
        return Ok(None);
    }
    detach(&config.directory)?;
    let pause = if config.shared_pid { Some(process::pause()?) } else { None };
    Ok(Some(server::Server::new(listener, pause)?))
}

/// Closes what the starter had open, and hides from containers: processes of this program are among theirs for moments.
fn hide() -> Result<(), Error> {
    during(sys::hide_process(), "hide this process")?;
    during(sys::close_all_but(&[]), "close the starter's descriptors")?;
    during(
        check_program(),
        "this program must run from a read-only mount or a sealed memfd, as the runtime starts it",
    )?;
    // The kernel shall rather end anything else of the pod: with its shim all of it ends.
    during(crate::container::set_oom_score(OOM_SCORE), "set the OOM score")
}

/// Whoever gets hold of a descriptor of this program must not be able to write to it.
fn check_program() -> io::Result<()> {
    let program = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let read_only = rustix::fs::fstatvfs(&program)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = || rustix::fs::fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    if read_only || sealed() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Listens where nobody but the owner can connect.
fn listen(socket: &Path) -> Result<UnixListener, Error> {
    rustix::process::umask(Mode::XUSR | Mode::RWXG | Mode::RWXO);
    let listener = during(UnixListener::bind(socket), format!("bind {}", socket.display()))?;
    // Containers begin with the usual one, whatever the starter's is.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    Ok(listener)
}

fn make_namespaces(config: &ShimConfig) -> Result<(), Error> {
    let flag = |wanted: bool, flag: i32| if wanted { flag } else { 0 };
    let flags = flag(config.new_network, libc::CLONE_NEWNET)
        | flag(config.new_ipc, libc::CLONE_NEWIPC)
        | flag(config.hostname.is_some(), libc::CLONE_NEWUTS);
    if let Some(map) = config.users {
        return users::make(map, flags, || prepare_namespaces(config));
    }
    during(sys::unshare(flags), "make namespaces")?;
    prepare_namespaces(config)
}

/// Sets what the pod's own namespaces have of their own; must run in them.
fn prepare_namespaces(config: &ShimConfig) -> Result<(), Error> {
    if let Some(hostname) = &config.hostname {
        during(rustix::system::sethostname(hostname.as_bytes()), format!("set the host name {hostname:?}"))?;
    }
    for (name, value) in &config.sysctls {
        during(crate::sysctl::set(name, value), format!("set sysctl {name}={value}"))?;
    }
    Ok(())
}

/// Lets go of the starter's streams; what is still said goes to `shim.log`.
fn detach(directory: &Path) -> Result<(), Error> {
    let null = during(File::options().read(true).write(true).open("/dev/null"), "open /dev/null")?;
    let path = directory.join("shim.log");
    let log = during(OpenOptions::new().create(true).append(true).open(&path), format!("open {}", path.display()))?;
    during(io::stdout().flush(), "flush")?;
    during(rustix::stdio::dup2_stdin(&null), "stdin")?;
    during(rustix::stdio::dup2_stdout(&null), "stdout")?;
    during(rustix::stdio::dup2_stderr(&log), "stderr")
}
