//! The server's binary, set up as the server of the recorded conversations was.

use std::path::Path;
use std::process::Command;

use crate::process::{Running, free_port};

/// The token of an administrator.
pub(crate) const TOKEN: &str = "replay";

/// Starts it with its files in a directory and some flags more; answers the port, too.
pub(crate) fn start(directory: &Path, flags: &[String]) -> (Running, u16) {
    let at = |name: &str| directory.join(name);
    std::fs::write(at("tokens.csv"), format!("{TOKEN},admin,uid1,\"system:masters\"\n")).unwrap();
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_apiserver"));
    command
        .arg(format!("--data-dir={}", at("data").display()))
        .arg(format!("--cert-dir={}", at("certificates").display()))
        .arg(format!("--token-auth-file={}", at("tokens.csv").display()))
        .arg(format!("--secure-port={port}"))
        .args(["--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc"])
        .arg("--allow-privileged=true")
        .arg("--enable-admission-plugins=StorageObjectInUseProtection")
        .arg("--service-account-extra-ca-config-map=openshift-service-ca.crt:service-ca.crt")
        .args(flags);
    (Running::when(command, "listening"), port)
}
