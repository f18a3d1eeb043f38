//! Running commands and looking at what they print.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
    /// The command, for messages.
    pub command: String,
}

impl Output {
    /// Standard output without surrounding space; panics when the command failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.success, "{} failed:\n{}{}", self.command, self.stdout, self.stderr);
        self.stdout.trim()
    }

    /// Standard error; panics when the command succeeded.
    #[track_caller]
    pub fn fails(&self) -> &str {
        assert!(!self.success, "{} succeeded:\n{}", self.command, self.stdout);
        self.stderr.trim()
    }
}

/// Runs commands to their end.
pub trait Run {
    /// Runs it, with `input` on its standard input.
    fn output_with(&mut self, input: &str) -> Output;

    /// Runs it.
    fn run(&mut self) -> Output {
        self.output_with("")
    }
}

impl Run for Command {
    fn output_with(&mut self, input: &str) -> Output {
        let command = format!("{self:?}");
        self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn().unwrap_or_else(|err| panic!("{command}: {err}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that does not read its input closes it early.
        let _closed_early = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap_or_else(|err| panic!("{command}: {err}"));
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            success: output.status.success(),
            command,
        }
    }
}

/// Looks again and again until `look` finds something, at most `patience`; panics with what was missed.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}
