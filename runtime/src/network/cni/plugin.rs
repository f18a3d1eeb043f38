//! Running one plugin (CNI specification, section 2): its words are its environment, its input and output JSON.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::Error;

/// A plugin that takes longer hangs, and is killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a plugin may answer, in bytes.
const LONGEST: u64 = 1 << 20;
/// How much is told of what it complains, in letters.
const COMPLAINT: usize = 1000;
/// The interface that a pod gets.
const INTERFACE: &str = "eth0";
/// Plugins run iptables, ip and their like.
const PROGRAMS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a plugin is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Delete,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Delete => "DEL",
        }
    }
}

/// One call of the plugins of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) verb: Verb,
    pub(super) sandbox: &'a str,
    /// The path of the pod's network namespace; `None` once it is gone.
    pub(super) namespace: Option<&'a Path>,
    pub(super) arguments: &'a str,
    pub(super) bin_dirs: &'a [PathBuf],
}

impl Call<'_> {
    /// Runs a plugin and returns what it answers; `null` for a deletion.
    pub(super) async fn run(&self, name: &str, input: &Value) -> Result<Value, Error> {
        self.run_within(PATIENCE, name, input).await
    }

    async fn run_within(&self, patience: Duration, name: &str, input: &Value) -> Result<Value, Error> {
        let failed =
            |why: &str| Error::Network { reason: format!("CNI plugin {name:?} failed ({}): {why}", self.verb.word()) };
        let Some(program) = self.bin_dirs.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
        else {
            return Err(failed(&format!("failed to find plugin {name:?} in path {:?}", self.bin_dirs)));
        };
        let mut plugin = self.command(&program).spawn().map_err(|err| failed(&err.to_string()))?;
        let group = plugin.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let answered = tokio::time::timeout(patience, converse(&mut plugin, input.to_string().into_bytes())).await;
        let output = match answered {
            Ok(Ok(output)) => output,
            cut => {
                if let Some(group) = group {
                    // It, and whom it waits for. All of them may have just ended.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let late = |_| format!("no answer within {} s", patience.as_secs());
                let why =
                    cut.map_or_else(late, |answered| answered.err().map(|err| err.to_string()).unwrap_or_default());
                return Err(failed(&why));
            }
        };
        if !output.status.success() {
            return Err(failed(&complaint(&output)));
        }
        match self.verb {
            Verb::Add => serde_json::from_slice(&output.stdout).map_err(|err| failed(&format!("its answer: {err}"))),
            Verb::Delete => Ok(Value::Null),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PROGRAMS);
        command.env("CNI_COMMAND", self.verb.word()).env("CNI_CONTAINERID", self.sandbox).env("CNI_IFNAME", INTERFACE);
        command.env("CNI_NETNS", self.namespace.map(Path::as_os_str).unwrap_or_default());
        command.env("CNI_ARGS", self.arguments);
        let directories: Vec<_> = self.bin_dirs.iter().map(|directory| directory.to_string_lossy()).collect();
        command.env("CNI_PATH", directories.join(":"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

async fn converse(plugin: &mut Child, input: Vec<u8>) -> std::io::Result<Output> {
    let (stdin, stdout, stderr) = (plugin.stdin.take(), plugin.stdout.take(), plugin.stderr.take());
    let send = async {
        if let Some(mut stdin) = stdin {
            // One that ends without reading says why in its answer.
            let _ = stdin.write_all(&input).await;
        }
        Ok(())
    };
    let ((), stdout, stderr) = tokio::try_join!(send, read(stdout), read(stderr))?;
    Ok(Output { status: plugin.wait().await?, stdout, stderr })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    pipe.take(LONGEST + 1).read_to_end(&mut bytes).await?;
    match bytes.len() as u64 > LONGEST {
        true => Err(std::io::Error::other(format!("it answers more than {LONGEST} bytes"))),
        false => Ok(bytes),
    }
}

/// The error that a plugin answers, or whatever else it said (section 5).
fn complaint(output: &Output) -> String {
    let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let text = |field: &str| told.as_ref().and_then(|told| told[field].as_str()).unwrap_or_default().trim().to_owned();
    let words = match (text("msg"), text("details")) {
        (message, details) if !message.is_empty() && !details.is_empty() => format!("{message}; {details}"),
        (message, _) if !message.is_empty() => message,
        _ => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
    };
    words.chars().take(COMPLAINT).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    /// A plugin that is a script of the shell.
    fn plugin(script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    async fn run(verb: Verb, script: &str, patience: Duration) -> Result<Value, String> {
        let directory = plugin(script);
        let bin_dirs = ["/nowhere".into(), directory.path().to_owned()];
        let namespace = Some(Path::new("/run/x/netns/s1"));
        let call = Call { verb, sandbox: "s1", namespace, arguments: "A=b", bin_dirs: &bin_dirs };
        call.run_within(patience, "x", &json!({"name": "n"})).await.map_err(|err| err.to_string())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_plugin_is_told_by_environment_and_input_and_heard_by_output() {
        let script = "cat > /dev/null; echo \"{\\\"env\\\": \\\"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS\\\"}\"";
        let answer = run(Verb::Add, script, LONG).await.unwrap();
        assert_eq!(answer["env"], "ADD s1 /run/x/netns/s1 eth0 A=b");
        assert_eq!(run(Verb::Add, "cat", LONG).await.unwrap(), json!({"name": "n"}));
        assert_eq!(run(Verb::Delete, "exit 0", LONG).await.unwrap(), Value::Null);
    }

    #[tokio::test]
    async fn what_a_plugin_complains_of_is_told() {
        let told =
            run(Verb::Add, "echo '{\"code\": 7, \"msg\": \"no room\", \"details\": \"at all\"}'; exit 1", LONG).await;
        assert_eq!(told.unwrap_err(), "network: CNI plugin \"x\" failed (ADD): no room; at all");
        let loud = run(Verb::Delete, "echo oops >&2; exit 3", LONG).await.unwrap_err();
        assert!(loud.contains("exit status: 3: oops"), "{loud}");
        let odd = run(Verb::Add, "echo hello", LONG).await.unwrap_err();
        assert!(odd.contains("its answer"), "{odd}");
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_or_floods_is_ended() {
        let before = std::time::Instant::now();
        let hung = run(Verb::Add, "sleep 1000 & wait", Duration::from_secs(1)).await.unwrap_err();
        assert!(hung.contains("no answer within 1 s") && before.elapsed() < LONG, "{hung}");
        let flood = run(Verb::Add, "exec cat /dev/zero", LONG).await.unwrap_err();
        assert!(flood.contains("more than 1048576 bytes"), "{flood}");
    }

    #[tokio::test]
    async fn a_plugin_that_is_not_there_is_named_with_where_it_was_looked_for() {
        let bin_dirs = ["/nowhere".into()];
        let call = Call { verb: Verb::Add, sandbox: "s", namespace: None, arguments: "", bin_dirs: &bin_dirs };
        let missing = call.run("bridge", &Value::Null).await.unwrap_err().to_string();
        assert!(missing.contains("failed to find plugin \"bridge\" in path [\"/nowhere\"]"), "{missing}");
    }
}
