//! How long a process takes from its start until it answers ready.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::budget;
use crate::client::{Call, Lane};
use crate::options::Protocol;
use crate::statistics::Latencies;
use crate::table::Table;
use crate::target::Target;
use crate::{Error, Options};

/// Between two looks: short against the budget, long enough not to keep a core busy.
const LOOK: Duration = Duration::from_millis(1);
/// Not ready by then is a failure.
const READY: Duration = Duration::from_secs(60);
/// Time to end after SIGTERM; then comes SIGKILL.
const END: Duration = Duration::from_secs(10);
/// How much of the process's own words a failure repeats.
const WORDS: usize = 600;

/// Starts the command again and again, each time in a new directory, and adds rows for the middle and the slowest.
pub async fn measure(table: &std::sync::Mutex<Table>, options: &Options, command: &str) -> Result<(), Error> {
    let mut took = Vec::new();
    for _ in 0..options.cold_start_runs {
        took.push(once(command, &options.cold_start_url).await?);
    }
    let took: Latencies = took.into_iter().collect();
    let mut table = table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (name, part, expected) in [("p50", 0.5, budget::COLD_START), ("slowest", 1.0, None)] {
        if let Some(value) = took.milliseconds(part) {
            table.add(format!("cold start, {} runs, {name}", took.len()), value, "ms", expected);
        }
    }
    Ok(())
}

async fn once(command: &str, url: &str) -> Result<Duration, Error> {
    let directory = tempfile::tempdir().map_err(|source| Error::Start { command: command.to_owned(), source })?;
    let port = free_port().map_err(|source| Error::Start { command: command.to_owned(), source })?;
    let put_in = |text: &str| {
        text.replace("{dir}", &directory.path().display().to_string()).replace("{port}", &port.to_string())
    };
    let url = put_in(url);
    let uri: hyper::Uri =
        url.parse().map_err(|_| Error::ColdStart(format!("--cold-start-url {url:?} is not a URL")))?;
    let target = Target::unverified(&uri)?.speaking(Protocol::Http1.alpn());
    if !target.is_local() {
        return Err(Error::ColdStart(format!("{url}: a process that starts here answers on this machine")));
    }
    let path = uri.path_and_query().map_or("/readyz", |path| path.as_str()).to_owned();
    let words: Vec<String> = command.split_whitespace().map(put_in).collect();
    let start = Instant::now();
    let mut child = start_process(command, &words, directory.path())?;
    let ready = until_ready(&mut child, &target, &Call::get(path)).await;
    let took = start.elapsed();
    end(child).await;
    ready.map_err(|why| Error::ColdStart(format!("{command}: {why}: {}", last_words(directory.path())))).map(|()| took)
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// In a process group of its own, so that what it starts ends with it.
fn start_process(command: &str, words: &[String], directory: &Path) -> Result<Child, Error> {
    let failed = |source| Error::Start { command: command.to_owned(), source };
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::ColdStart("the command is empty".to_owned()))?;
    let output = File::create(directory.join("output")).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).kill_on_drop(true);
    child.spawn().map_err(failed)
}

async fn until_ready(child: &mut Child, target: &Target, call: &Call) -> Result<(), String> {
    let start = Instant::now();
    let mut lane = None;
    while start.elapsed() < READY {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended ({status}) before it was ready"));
        }
        // A refused connection is the usual answer until the process listens.
        if lane.is_none() {
            lane = Lane::connect(target, Protocol::Http1).await.ok();
        }
        if let Some(open) = &mut lane {
            match open.fetch(call).await {
                Ok(_ready) => return Ok(()),
                Err(Error::Refused { .. }) => {}
                Err(_broken) => lane = None,
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(format!("not ready within {} s", READY.as_secs()))
}

async fn end(mut child: Child) {
    let Some(group) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) else { return };
    // The group may have gone by itself.
    let _gone = kill_process_group(group, Signal::TERM);
    if tokio::time::timeout(END, child.wait()).await.is_err() {
        let _gone = kill_process_group(group, Signal::KILL);
        let _reaped = child.wait().await;
    }
}

fn last_words(directory: &Path) -> String {
    let text = std::fs::read(directory.join("output"))
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .unwrap_or_default();
    let skipped = text.chars().count().saturating_sub(WORDS);
    text.chars().skip(skipped).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_ends_early_is_an_error_with_its_words() {
        let failed =
            once("ls /nonexistent/file", "http://127.0.0.1:{port}/readyz").await.expect_err("it ended").to_string();
        assert!(failed.contains("before it was ready") && failed.contains("/nonexistent/file"), "{failed}");
    }

    #[tokio::test]
    async fn a_command_that_does_not_exist_is_named() {
        let failed = once("/nonexistent/program", "http://127.0.0.1:{port}/").await.expect_err("not found").to_string();
        assert!(failed.contains("/nonexistent/program"), "{failed}");
    }

    #[tokio::test]
    async fn only_this_machine_is_asked() {
        let failed = once("true", "http://example.com/").await.expect_err("refused").to_string();
        assert!(failed.contains("on this machine"), "{failed}");
    }
}
