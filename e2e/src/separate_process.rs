//! One member of a cluster of separate processes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::eventually;

/// How long a process may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);
/// How much of a log is shown.
const TAIL: usize = 6000;

/// A program with its flags, running or not; its output goes to a file. Dropping it kills it.
pub struct Member {
    name: &'static str,
    program: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    /// Of its health endpoint; 0 where it has none.
    health_port: u16,
    process: Option<Child>,
}

impl Member {
    /// A member that does not run yet, with its log in `directory`.
    pub(crate) fn new(
        name: &'static str,
        program: PathBuf,
        directory: &Path,
        health_port: u16,
        flags: Vec<String>,
    ) -> Self {
        Self { name, program, flags, log: directory.join(format!("{name}.log")), health_port, process: None }
    }

    /// Starts it.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("the directory is writable");
        let output = log.try_clone().expect("a file can be opened twice");
        let mut command = Command::new(&self.program);
        command.args(&self.flags).stdin(Stdio::null()).stdout(output).stderr(log);
        self.process = Some(command.spawn().unwrap_or_else(|err| panic!("{}: {err}", self.program.display())));
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        let mut process = self.process.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// Has it stand still (SIGSTOP) until it may go on.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on after it was stopped (SIGCONT).
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        kill_process(pid(process), signal).unwrap_or_else(|err| panic!("{signal:?} to {}: {err}", self.name));
    }

    /// Starts it again if it has ended by itself, as whoever supervises it would. Returns whether it had.
    pub fn start_if_ended(&mut self) -> bool {
        let has_ended = |process: &mut Child| process.try_wait().expect("our own child").is_some();
        if !self.process.as_mut().is_some_and(has_ended) {
            return false;
        }
        self.process = None;
        self.start();
        true
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        // Fails only when it has ended already.
        let _ended = kill_process(pid(&process), Signal::TERM);
        let what = format!("{} ends after SIGTERM", self.name);
        eventually(&what, DRAIN, || process.try_wait().expect("our own child"))
    }

    /// Panics, with its log, when it has ended by itself.
    pub fn check_alive(&mut self) {
        let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("our own child"));
        if let Some(status) = ended {
            panic!("{} ended with {status}:\n{}", self.name, self.log());
        }
    }

    /// Whether it was started and not ended by us.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// The answer of its health endpoint: the status code and the body; `None` when nobody answers.
    pub fn health(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    /// How many lines of its log have all of these words.
    pub fn times_said(&self, words: &[&str]) -> usize {
        self.all_said().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    fn all_said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last that it said.
    pub fn log(&self) -> String {
        let text = self.all_said();
        let from = (text.len().saturating_sub(TAIL)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        format!("--- {} {}\n{}\n", self.name, self.flags.join(" "), &text[from..])
    }
}

fn pid(process: &Child) -> Pid {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a child has a pid")
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only when it has ended already.
            let _ended = process.kill();
            let _reaped = process.wait();
        }
    }
}
