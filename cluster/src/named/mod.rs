//! Several clusters on one machine, each by its name: what each is told when it begins, and always after that.
//!
//! The first `coracle up --name NAME` chooses what it is not told: a directory and a bridge by the name, addresses and ports
//! that no other cluster has, whether that runs or not, and no route of this machine leads to. A record keeps them
//! ([`record`]). The cluster without a name is called `default`, has what it always had, and a record, too.

mod choice;
pub(crate) mod given;
mod inspect;
pub(crate) mod name;
pub(crate) mod record;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use host::Resource;

pub use inspect::{Listed, State, data_dir_of, list, stop};
pub(crate) use inspect::{end, is_running, known};
pub use name::ClusterName;
pub use record::RECORDS;
pub(crate) use record::{Hold, LONGEST, OWN, Record, Records};

use crate::options::{Options, cidr};
use crate::routes::{self, Range};

/// After these ports those of named clusters are looked for.
const SECURE_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10_250;

/// A cluster that is held by this process.
#[derive(Debug)]
pub(crate) struct Known {
    _hold: Hold,
    /// The names of other clusters of this machine that run.
    pub(crate) others: Vec<ClusterName>,
}

impl Known {
    /// What clusters of one machine have in common whatever they are told.
    pub(crate) fn note(&self) -> Option<String> {
        let names: Vec<String> = self.others.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| {
            format!(
                "note: this machine also runs {}: node ports are the machine's, and of Services with the same one only one is \
                 reached",
                names.join(", ")
            )
        })
    }
}

/// Fills in what was not given, and keeps a record of it, until the cluster is removed. `None` for a cluster without a name in
/// a directory of its own, of which no record is kept.
pub(crate) fn settle(options: Options) -> anyhow::Result<(Options, Option<Known>)> {
    settle_beside(options, of_this_machine)
}

/// The ranges that routes and claims of this machine have.
fn of_this_machine() -> anyhow::Result<Vec<Range>> {
    let routes = routes::of_this_machine().into_iter().map(|route| route.range);
    let claimed = host::claim::taken()?.into_iter().filter_map(|resource| match resource {
        Resource::Range(address, length) => Some((address, length)),
        Resource::Interface(_) | Resource::Table(_) => None,
    });
    Ok(routes.chain(claimed).collect())
}

/// The same with a look at the machine that is only taken when something is to be chosen.
fn settle_beside(
    mut options: Options,
    machine: impl Fn() -> anyhow::Result<Vec<Range>>,
) -> anyhow::Result<(Options, Option<Known>)> {
    let name = options.name.clone();
    if name.is_default() && options.given.has("data_dir") && options.node.data_dir != name.data_dir() {
        return Ok((options, None));
    }
    let records = Records::at(&options.records);
    let comparing = records.compare()?;
    let hold = records.hold(&comparing, &name)?;
    let hold =
        hold.with_context(|| format!("cluster {name} runs already, or is being removed: choose another --name"))?;
    let mut others = Others::default();
    for other in records.names()?.into_iter().filter(|other| *other != name) {
        // A record that cannot be read has nothing that could be kept free; what runs has claims.
        let record = records.read(&other).ok().flatten();
        record.iter().for_each(|record| others.add(record));
        if records.is_held(&comparing, &other)? {
            others.running.push(other);
        }
    }
    let before = records.read(&name)?;
    if !name.is_default() {
        options.node.data_dir = directory(&options, before.as_ref())?;
        let own = record::read(&options.node.data_dir.join(OWN), &name)?;
        fill(&mut options, own.as_ref().or(before.as_ref()), &others, machine)?;
    }
    let record = describe(&options, before)?;
    records.write(&hold, &name, &record)?;
    Ok((options, Some(Known { _hold: hold, others: others.running })))
}

/// What other clusters have.
#[derive(Default)]
struct Others {
    ranges: Vec<Range>,
    ports: BTreeSet<u16>,
    running: Vec<ClusterName>,
}

impl Others {
    fn add(&mut self, record: &Record) {
        let ranges = record.pods.iter().chain(&record.services);
        self.ranges.extend(ranges.filter_map(|range| cidr(range).ok()));
        self.ranges.extend(record.node_addresses.iter().map(|address| host_range(*address)));
        self.ports.extend([record.secure_port, record.kubelet_port]);
    }
}

fn host_range(address: IpAddr) -> Range {
    (address, if address.is_ipv4() { 32 } else { 128 })
}

/// Where a named cluster keeps everything: once that is known, nowhere else.
fn directory(options: &Options, before: Option<&Record>) -> anyhow::Result<std::path::PathBuf> {
    let (name, given) = (&options.name, options.given.has("data_dir"));
    let asked = std::path::absolute(&options.node.data_dir).context("--data-dir")?;
    match before {
        Some(record) => {
            let known = &record.data_directory;
            ensure!(
                !given || asked == *known,
                "--data-dir: cluster {name} is in {}: leave the option out, or `coracle delete {name}` first",
                known.display()
            );
            Ok(known.clone())
        }
        None if given => Ok(asked),
        None => Ok(name.data_dir()),
    }
}

/// Fills in what was not given: as it was, or else as it is chosen now.
fn fill(
    options: &mut Options,
    before: Option<&Record>,
    others: &Others,
    machine: impl Fn() -> anyhow::Result<Vec<Range>>,
) -> anyhow::Result<()> {
    let name = options.name.clone();
    let given = options.given.clone();
    if !given.has("bridge") {
        options.node.bridge = before.map_or_else(|| name.bridge(), |record| record.bridge.clone());
    }
    // What all pods of a cluster may have together is a limit of their topmost cgroup.
    let root = before.and_then(|record| record.cgroup_root.clone());
    options.node.cgroup_root = options.node.cgroup_root.take().or(root).or_else(|| Some(options.node.bridge.clone()));
    if let Some(record) = before {
        fill_networks(options, &record.node_addresses, &record.pods, &record.services);
        if !given.has("node_name") {
            options.node.node_name.clone_from(&record.node_name);
        }
        if !given.has("nodes") {
            options.nodes = record.nodes;
        }
    } else {
        let taken = [others.ranges.clone(), machine()?, given_ranges(options)].concat();
        choose_networks(options, &taken)?;
    }
    let start = name.start();
    let is_free = |port: u16| !others.ports.contains(&port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let choose = |base: u16, option: &str| {
        choice::port(base, start, is_free).with_context(|| format!("no port is free: give --{option}"))
    };
    if !given.has("secure_port") {
        options.secure_port =
            before.map_or_else(|| choose(SECURE_PORT, "secure-port"), |record| Ok(record.secure_port))?;
    }
    if !given.has("kubelet_port") {
        options.node.kubelet_port =
            before.map_or_else(|| choose(KUBELET_PORT, "kubelet-port"), |record| Ok(record.kubelet_port))?;
    }
    Ok(())
}

fn given_ranges(options: &Options) -> Vec<Range> {
    let given = &options.given;
    let texts = |option, texts: &[String]| if given.has(option) { texts.to_vec() } else { Vec::new() };
    let mut all = texts("cluster_cidr", &options.cluster_cidr);
    all.extend(texts("service_cluster_ip_range", &options.service_cluster_ip_range));
    let mut ranges: Vec<Range> = all.iter().filter_map(|text| cidr(text).ok()).collect();
    if given.has("node_ip") {
        ranges.extend(options.node_ip.iter().map(|address| host_range(*address)));
    }
    ranges
}

fn choose_networks(options: &mut Options, taken: &[Range]) -> anyhow::Result<()> {
    if ["node_ip", "cluster_cidr", "service_cluster_ip_range"].iter().all(|option| options.given.has(option)) {
        return Ok(());
    }
    let chosen = choice::networks(options.name.start(), taken);
    let chosen = chosen.context(
        "this machine has clusters or routes in all networks that a cluster could have: give --node-ip, --cluster-cidr \
         and --service-cluster-ip-range",
    )?;
    let text = |(address, length): Range| vec![format!("{address}/{length}")];
    fill_networks(options, &[chosen.node], &text(chosen.pods), &text(chosen.services));
    Ok(())
}

fn fill_networks(options: &mut Options, nodes: &[IpAddr], pods: &[String], services: &[String]) {
    if !options.given.has("node_ip") {
        options.node_ip = nodes.to_vec();
    }
    if !options.given.has("cluster_cidr") {
        options.cluster_cidr = pods.to_vec();
    }
    if !options.given.has("service_cluster_ip_range") {
        options.service_cluster_ip_range = services.to_vec();
    }
}

fn describe(options: &Options, before: Option<Record>) -> anyhow::Result<Record> {
    let (id, created) = match before {
        Some(record) => (record.id, record.created),
        None => (new_id(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
    };
    Ok(Record {
        name: options.name.to_string(),
        id,
        created,
        data_directory: std::path::absolute(&options.node.data_dir).context("--data-dir")?,
        bridge: options.node.bridge.clone(),
        cgroup_root: options.node.cgroup_root.clone(),
        node_name: options.node.node_name.clone(),
        node_addresses: options.node_ip.clone(),
        nodes: options.nodes,
        pods: options.cluster_cidr.clone(),
        services: options.service_cluster_ip_range.clone(),
        secure_port: options.secure_port,
        kubelet_port: options.node.kubelet_port,
    })
}

fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests;
