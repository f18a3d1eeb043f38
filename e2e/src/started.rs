//! A process of `coracle` that a test has started, with what it says.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::eventually;

/// How long it may take to end when it is dropped, in tenths of a second.
const TENTHS: usize = 600;

/// The process, which may be started again on the same files. Dropping it ends it.
pub(crate) struct Started {
    directory: PathBuf,
    process: Option<Child>,
}

impl Started {
    /// Nothing yet; what is started writes `out.log` and `err.log` in a directory.
    pub(crate) fn nothing(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), process: None }
    }

    /// Starts a command, whose output is added to what was said before.
    pub(crate) fn start(&mut self, command: &mut Command) {
        let log = |name: &str| {
            let file = File::options().create(true).append(true).open(self.directory.join(name));
            file.expect("the directory is writable")
        };
        let command = command.stdin(Stdio::null()).stdout(log("out.log")).stderr(log("err.log"));
        self.process = Some(command.spawn().expect("coracle starts"));
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().expect("our own child"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, kind: Signal) {
        signal(self.process.as_ref().expect("it runs").id(), kind);
    }

    /// Waits until it has ended, and says how; `None` where nothing runs.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        Some(eventually("the cluster is down", patience, || process.try_wait().expect("our own child")))
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub(crate) fn stop(&mut self, patience: Duration) {
        let Some(process) = &self.process else { return };
        signal(process.id(), Signal::INT);
        let status = self.wait(patience).expect("it ran a moment ago");
        assert!(status.success(), "coracle ended with {status}:\n{}", self.logs());
    }

    /// Kills it as a crash would.
    pub(crate) fn crash(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal(process.id(), Signal::KILL);
        process.wait().expect("our own child");
    }

    /// What it printed.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(self.directory.join("out.log")).unwrap_or_default()
    }

    /// What it printed, and its log.
    pub(crate) fn logs(&self) -> String {
        let errors = std::fs::read_to_string(self.directory.join("err.log")).unwrap_or_default();
        format!("{}\n{errors}", self.printed())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal(process.id(), Signal::INT);
        for _ in 0..TENTHS {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        signal(process.id(), Signal::KILL);
        let _reaped = process.wait();
    }
}

/// Sends a signal to a process, which may have ended.
pub(crate) fn signal(pid: u32, kind: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process has a number");
    let _ended = kill_process(pid, kind);
}
