//! Several clusters of one machine, each by its name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::binary;
use crate::command::{Output, Run as _, eventually};
use crate::image::Registry;
use crate::started::Started;

/// How long a cluster may take to come up beside others.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place for clusters and their records, with a registry beside it.
pub struct NamedClusters {
    directory: TempDir,
    registry: Registry,
}

/// One of them. Dropping it ends it.
pub struct NamedCluster {
    process: Started,
    directory: PathBuf,
    records: PathBuf,
    name: &'static str,
}

impl NamedClusters {
    /// A place without clusters.
    pub fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self { registry: Registry::start(directory.path()), directory }
    }

    /// Begins to bring a cluster up, which says where it keeps everything.
    pub fn start(&self, name: &'static str) -> NamedCluster {
        let logs = self.directory.path().join(format!("{name}.logs"));
        std::fs::create_dir_all(&logs).expect("the directory is writable");
        let mut process = Started::nothing(&logs);
        let mut command = Command::new(binary("coracle"));
        command.args(["up", "--name", name, &self.records_flag(), &self.registry.flag(), "--node-name=e2e"]);
        command.arg(format!("--data-dir={}", self.data(name).display()));
        process.start(&mut command);
        NamedCluster { process, directory: self.data(name), records: self.records(), name }
    }

    /// Where a cluster keeps everything.
    pub fn data(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The folder of records.
    pub fn records(&self) -> PathBuf {
        self.directory.path().join("records")
    }

    /// Runs `coracle` over these clusters.
    pub fn coracle(&self, arguments: &[&str]) -> Output {
        Command::new(binary("coracle")).args(arguments).arg(self.records_flag()).run()
    }

    /// The name of an image in the registry.
    pub fn image(&self, name: &str) -> String {
        self.registry.image(name)
    }

    fn records_flag(&self) -> String {
        format!("--records={}", self.records().display())
    }
}

impl Default for NamedClusters {
    fn default() -> Self {
        Self::new()
    }
}

impl NamedCluster {
    /// Waits until its node is Ready.
    #[track_caller]
    pub fn wait_until_up(&mut self) {
        eventually("the cluster is up", PATIENCE, || {
            if let Some(status) = self.process.ended() {
                panic!("{} ended with {status}:\n{}", self.name, self.process.logs());
            }
            self.process.printed().contains("kubeconfig: ").then_some(())
        });
        self.kubectl(&["wait", "--for=condition=Ready", "node/e2e", "--timeout=90s"]).ok();
        let account = || self.kubectl(&["get", "serviceaccount", "default"]).success.then_some(());
        eventually("the default service account exists", PATIENCE, account);
    }

    /// Runs kubectl with the kubeconfig that `coracle kubeconfig --name` prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut print = Command::new(binary("coracle"));
        print.args(["kubeconfig", "--name", self.name]).arg(format!("--records={}", self.records.display()));
        let file = self.directory.with_extension("kubeconfig");
        std::fs::write(&file, print.run().ok()).expect("the directory is writable");
        let mut command = Command::new("kubectl");
        // Discovery is cached below the home directory: another cluster's would mislead.
        command.env("HOME", self.home()).arg("--kubeconfig").arg(file).args(arguments).run()
    }

    /// What it printed.
    pub fn printed(&self) -> String {
        self.process.printed()
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.process.crash();
    }

    /// Waits until it has ended by itself, well.
    #[track_caller]
    pub fn wait(&mut self) {
        let status = self.process.wait(PATIENCE).expect("it runs");
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.process.logs());
    }

    fn home(&self) -> &Path {
        self.directory.parent().expect("it lies in a folder")
    }
}
