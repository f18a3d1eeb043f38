//! The `coracle` command: a whole cluster in one process, each component by itself, and small helpers.

mod certificates;
mod clusters;
mod image;
mod join;
mod kubeconfig;
mod migrate;
mod stop_pods;
mod store;
mod up;
mod which;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

daemon::allocator!();

/// A miniature Kubernetes: `coracle up` brings a cluster up on this machine.
#[derive(Parser)]
#[command(name = "coracle", version = daemon::VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum Command {
    /// Bring up a whole cluster on this machine, and keep it until Ctrl-C.
    Up(up::Up),
    /// Show the clusters of this machine.
    Ls(clusters::Ls),
    /// Stop a cluster of this machine, and wait until it has ended.
    Stop(clusters::Stop),
    /// Remove a cluster of this machine with all that it keeps.
    Delete(clusters::Delete),
    /// Make this machine a node of a cluster, and keep it one until Ctrl-C.
    Join(Box<join::Join>),
    /// Move this node's pods elsewhere, end it, and remove what it has made on this machine.
    Leave(Box<join::Leave>),
    /// Work with the tokens by which machines join.
    #[command(subcommand)]
    Token(join::Token),
    /// Run the API server.
    Apiserver(Box<apiserver::Command>),
    /// Run the controllers.
    ControllerManager(controllers::Command),
    /// Run the scheduler.
    Scheduler(scheduler::Command),
    /// Run the node agent.
    Kubelet(Box<kubelet::Command>),
    /// Keep the routes of this node to the pods of the others.
    Network(network::Command),
    /// Answer on the link for addresses of load balancers.
    Announce(announce::Command),
    /// Run the Service proxy.
    Proxy(proxy::Command),
    /// Enforce NetworkPolicies for the pods of this node.
    NetworkPolicy(policy::Command),
    /// Run the cluster's name server.
    Dns(dns::Command),
    /// Make keys, certificates and kubeconfigs for a cluster of separate processes.
    Certificates(certificates::Make),
    /// Print the administrator's kubeconfig.
    Kubeconfig(kubeconfig::Print),
    /// Say why a pod is where it is, or is nowhere.
    Why(scheduler::explain::Why),
    /// Say what would become of pods, without making them.
    Simulate(scheduler::explain::Simulate),
    /// Stop the pods of this node, after its kubelet has ended.
    StopPods(stop_pods::Stop),
    /// Look at a store's files.
    #[command(subcommand)]
    Store(store::Store),
    /// Write all that a cluster stores to a file.
    Backup(store::Backup),
    /// Make a store of a backup.
    Restore(store::Restore),
    /// Move all that a cluster stores from an embedded store to etcd, or back.
    Migrate(migrate::Migrate),
    /// Work with the images on this machine.
    #[command(subcommand)]
    Image(image::Image),
}

fn main() -> ExitCode {
    // A shim must stay single-threaded and small: it is chosen before anything else is looked at.
    if std::env::args_os().nth(1).is_some_and(|word| word == "shim") {
        return runtime::shim::main();
    }
    match daemon::parse::<Cli>().command {
        Command::Up(command) => command.run(),
        Command::Ls(command) => command.run(),
        Command::Stop(command) => command.run(),
        Command::Delete(command) => command.run(),
        Command::Join(command) => command.run(),
        Command::Leave(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Apiserver(command) => command.run(),
        Command::ControllerManager(command) => command.run(),
        Command::Scheduler(command) => command.run(),
        Command::Kubelet(command) => command.run(),
        Command::Network(command) => command.run(),
        Command::Announce(command) => command.run(),
        Command::Proxy(command) => command.run(),
        Command::NetworkPolicy(command) => command.run(),
        Command::Dns(command) => command.run(),
        Command::Certificates(command) => command.run(),
        Command::Kubeconfig(command) => command.run(),
        Command::Why(command) => command.run(),
        Command::Simulate(command) => command.run(),
        Command::StopPods(command) => command.run(),
        Command::Store(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Image(command) => command.run(),
    }
}
