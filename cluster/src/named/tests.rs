//! What clusters of one machine are told, one after the other.

use clap::Parser as _;

use super::*;
use crate::options::Plan;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// A folder for records and directories of clusters.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn up(&self, name: &str, flags: &[&str]) -> anyhow::Result<(Options, Option<Known>)> {
        let records = format!("--records={}", self.0.path().join("records").display());
        let data = format!("--data-dir={}", self.0.path().join(name).display());
        let data = (!flags.contains(&"again")).then_some(data);
        let flags = flags.iter().filter(|flag| **flag != "again").map(|flag| (*flag).to_owned());
        let line = ["up".to_owned(), format!("--name={name}"), records].into_iter().chain(data).chain(flags);
        settle_beside(Line::try_parse_from(line)?.options, || Ok(Vec::new()))
    }

    fn records(&self) -> std::path::PathBuf {
        self.0.path().join("records")
    }
}

/// What must be the same whenever the cluster is up.
fn essence(options: &Options) -> String {
    let node = &options.node;
    format!(
        "{:?} {:?} {:?} {} {} {} {:?} {}",
        options.node_ip,
        options.cluster_cidr,
        options.service_cluster_ip_range,
        options.secure_port,
        node.kubelet_port,
        node.bridge,
        node.cgroup_root,
        node.data_dir.display()
    )
}

#[test]
fn four_clusters_have_nothing_in_common_and_keep_what_they_have() {
    let machine = Machine::new();
    let names = ["blue", "red", "a-very-long-name-of-a-cluster", "green"];
    let first: Vec<_> = names.iter().map(|name| machine.up(name, &[]).unwrap()).collect();
    let plans: Vec<Plan> = first.iter().map(|(options, _)| Plan::new(options.clone()).unwrap()).collect();
    for (at, one) in plans.iter().enumerate() {
        for other in &plans[..at] {
            let theirs = other.resources();
            let shared =
                one.resources().into_iter().find(|(_, one)| theirs.iter().any(|(_, other)| one.conflicts(other)));
            assert!(shared.is_none(), "{shared:?}");
            assert_ne!(one.options.secure_port, other.options.secure_port);
            assert_ne!(one.options.node.kubelet_port, other.options.node.kubelet_port);
            assert_ne!(one.options.node.cgroup_root, other.options.node.cgroup_root);
        }
    }
    let running = |known: &Option<Known>| known.as_ref().unwrap().others.len();
    assert_eq!(first.iter().map(|(_, known)| running(known)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let before: Vec<String> = first.iter().map(|(options, _)| essence(options)).collect();
    drop(first);
    // In another order, and without being told again where they are.
    for (name, before) in names.iter().zip(&before).rev() {
        assert_eq!(&essence(&machine.up(name, &["again"]).unwrap().0), before);
    }
}

#[test]
fn what_is_given_counts_and_the_rest_keeps_clear_of_it() {
    let machine = Machine::new();
    let (blue, _) = machine.up("blue", &[]).unwrap();
    let pods = format!("--cluster-cidr={}", blue.service_cluster_ip_range[0]);
    let machine = Machine::new();
    let (options, known) = machine.up("blue", &[&pods, "--secure-port=7000", "--bridge=mine"]).unwrap();
    assert_eq!((options.secure_port, options.node.bridge.as_str()), (7000, "mine"));
    Plan::new(options.clone()).expect("the ranges do not overlap");
    drop(known);
    let (again, _known) = machine.up("blue", &["again", "--secure-port=7001"]).unwrap();
    assert_eq!((again.secure_port, &again.cluster_cidr), (7001, &options.cluster_cidr));
}

#[test]
fn a_cluster_runs_once_and_in_one_directory() {
    let machine = Machine::new();
    let (_, known) = machine.up("blue", &[]).unwrap();
    let twice = machine.up("blue", &[]).unwrap_err().to_string();
    assert!(twice.contains("runs already"), "{twice}");
    drop(known);
    let elsewhere = format!("--data-dir={}", machine.0.path().join("other").display());
    let moved = machine.up("blue", &["again", &elsewhere]).unwrap_err().to_string();
    assert!(moved.contains("coracle delete blue"), "{moved}");
    let theirs = format!("--data-dir={}", machine.0.path().join("blue").display());
    let foreign = format!("{:#}", machine.up("red", &["again", &theirs]).unwrap_err());
    assert!(foreign.contains("cluster \"blue\""), "{foreign}");
}

#[test]
fn a_cluster_without_a_name_in_its_own_directory_has_no_record() {
    let machine = Machine::new();
    let (options, known) = machine.up("default", &[]).unwrap();
    assert!(known.is_none() && !machine.records().exists());
    assert_eq!((options.secure_port, options.node.bridge.as_str()), (6443, "coracle0"));
    assert_eq!(options.cluster_cidr, ["10.244.0.0/16"]);
}

#[test]
fn a_list_tells_how_each_cluster_is() {
    let machine = Machine::new();
    assert!(list(&machine.records()).unwrap().is_empty() && !machine.records().exists());
    let (_, _known) = machine.up("blue", &[]).unwrap();
    for name in ["lost", "red"] {
        machine.up(name, &[]).unwrap();
    }
    std::fs::remove_dir_all(machine.0.path().join("lost")).unwrap();
    std::fs::write(machine.records().join("torn.json"), "{").unwrap();
    let listed = list(&machine.records()).unwrap();
    let states: Vec<_> = listed.iter().map(|one| one.about.as_ref().ok().map(|about| about.state)).collect();
    assert_eq!(states, [Some(State::Running), Some(State::Lost), Some(State::Stopped), None]);
}

#[tokio::test]
async fn what_does_not_run_is_not_stopped() {
    let machine = Machine::new();
    machine.up("blue", &[]).unwrap();
    for (name, words) in [("blue", "does not run"), ("red", "there is no cluster red")] {
        let err = stop(&machine.records(), &name.parse().unwrap()).await.unwrap_err().to_string();
        assert!(err.contains(words), "{err}");
    }
}
