//! Pods that get other sizes while they run (KEP-1287).

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{condition, exec, get, idle, parsed, patch, ready, replace, restarts, run, status, with};

/// What a container has of processors, in thousandths, and of memory, in MiB.
#[derive(Clone, Copy, Default)]
struct Size {
    cpu: Option<u64>,
    cpu_limit: Option<u64>,
    memory: Option<u64>,
    memory_limit: Option<u64>,
}

impl Size {
    /// Requests that are limits, too.
    fn guaranteed(cpu: u64, memory: u64) -> Self {
        Self { cpu: Some(cpu), cpu_limit: Some(cpu), memory: Some(memory), memory_limit: Some(memory) }
    }

    fn resources(&self) -> Value {
        let list = |cpu: Option<u64>, memory: Option<u64>| {
            let cpu = cpu.map(|milli| ("cpu".to_owned(), json!(format!("{milli}m"))));
            let memory = memory.map(|mib| ("memory".to_owned(), json!(format!("{mib}Mi"))));
            Value::Object(cpu.into_iter().chain(memory).collect())
        };
        let lists = [("requests", list(self.cpu, self.memory)), ("limits", list(self.cpu_limit, self.memory_limit))];
        let lists = lists.into_iter().filter(|(_, list)| *list != json!({}));
        Value::Object(lists.map(|(name, list)| (name.to_owned(), list)).collect())
    }

    /// What the files of its cgroup say: of either version.
    fn limits(&self) -> [Vec<String>; 2] {
        let shares = (self.cpu.or(self.cpu_limit).unwrap_or(0) * 1024 / 1000).max(2);
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        let quota = self.cpu_limit.map(|milli| (milli * 100).max(1000).to_string());
        let memory = self.memory_limit.map(|mib| (mib << 20).to_string());
        let mut first = vec![shares.to_string(), quota.clone().unwrap_or_else(|| "-1".to_owned())];
        // Without a limit there is a number that depends on the machine.
        first.extend(memory.clone());
        let quota = quota.unwrap_or_else(|| "max".to_owned());
        [first, vec![weight.to_string(), format!("{quota} 100000"), memory.unwrap_or_else(|| "max".to_owned())]]
    }
}

/// One container after the other: `c1`, `c2` and so on.
fn named(sizes: &[Size]) -> impl Iterator<Item = (String, &Size)> {
    (1..).map(|number| format!("c{number}")).zip(sizes)
}

/// Makes a pod with containers of these sizes, and waits until it has them.
fn start(ground: &Ground<'_>, sizes: &[Size]) {
    let containers = named(sizes).map(|(name, size)| with(idle(&name), json!({"resources": size.resources()})));
    run(ground, "p", json!({"containers": containers.collect::<Vec<_>>()}));
    ready(ground, "p");
    assert_eq!(get(ground, "pod/p")["metadata"]["generation"], 1);
    has(ground, sizes);
}

/// Asks for other sizes by a patch, and waits until the pod has them.
fn resize(ground: &Ground<'_>, sizes: &[Size]) {
    let containers = named(sizes).map(|(name, size)| json!({"name": name, "resources": size.resources()}));
    let change = json!({"spec": {"containers": containers.collect::<Vec<_>>()}});
    let patched = patch(ground, "p", "strategic", Some("resize"), &change);
    for ((_, size), container) in named(sizes).zip(patched["spec"]["containers"].as_array().unwrap()) {
        assert_eq!(container["resources"], size.resources());
    }
    has(ground, sizes);
}

fn has(ground: &Ground<'_>, sizes: &[Size]) {
    for (name, size) in named(sizes) {
        let wanted = size.resources();
        let what = format!("{name} has {wanted}");
        ground.wait_until(&what, || status(ground, "p", &name)["resources"] == wanted);
    }
    for kind in ["PodResizePending", "PodResizeInProgress"] {
        ground.wait_until(&format!("there is no {kind}"), || condition(ground, "p", kind).is_null());
    }
    ready(ground, "p");
    for (name, size) in named(sizes) {
        let cgroup = "cd /sys/fs/cgroup; if test -e cpu.max; then cat cpu.weight cpu.max memory.max; \
                      else cat cpu/cpu.shares cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi";
        let found = exec(ground, "p", &name, cgroup);
        let mut found: Vec<&str> = found.lines().collect();
        let [first, second] = size.limits();
        if !found[1].contains(' ') {
            found.truncate(first.len());
        }
        assert!(found == first || found == second, "{name}: {found:?}, but {first:?} or {second:?}");
        assert_eq!(restarts(ground, "p", &name), 0, "{name}");
    }
}

/// Requests, and what is more and less than they are.
const CPU: [u64; 3] = [15, 20, 25];
const MEMORY: [u64; 3] = [30, 35, 40];

/// Three containers with these places of [`CPU`] and [`MEMORY`]; each has a bit more than the one before.
fn three(places: [(usize, usize); 3]) -> [Size; 3] {
    let mut offset = 0;
    places.map(|(cpu, memory)| {
        let size = Size::guaranteed(CPU[cpu] + offset, MEMORY[memory] + offset);
        offset += 2;
        size
    })
}

/// There and back again.
fn guaranteed(ground: &Ground<'_>, places: [(usize, usize); 3]) {
    let original = three([(1, 1); 3]);
    start(ground, &original);
    resize(ground, &three(places));
    resize(ground, &original);
}

/// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn net_increase(ground: &Ground<'_>) {
    guaranteed(ground, [(2, 2), (2, 2), (0, 0)]);
}

/// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn net_decrease(ground: &Ground<'_>) {
    guaranteed(ground, [(2, 2), (0, 0), (0, 0)]);
}

/// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn this_and_that(ground: &Ground<'_>) {
    guaranteed(ground, [(2, 1), (0, 2), (2, 2)]);
}

/// Conformance: [sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn additions(ground: &Ground<'_>) {
    let none = Size::default();
    let (cpu, memory) = (Size { cpu: Some(20), ..none }, Size { memory: Some(35), ..none });
    start(ground, &[cpu, memory, Size { cpu: Some(20), ..memory }, cpu, memory, none]);
    let after = [
        Size { cpu: Some(25), cpu_limit: Some(35), ..none },
        Size { memory: Some(30), memory_limit: Some(50), ..none },
        Size { cpu: Some(20), memory: Some(30), ..none },
        Size { cpu: Some(15), memory: Some(35), ..none },
        Size { cpu: Some(20), memory: Some(40), ..none },
        Size { cpu: Some(20), memory: Some(35), ..none },
    ];
    resize(ground, &after);
}

/// Conformance: [sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn equivalents(ground: &Ground<'_>) {
    let size = |cpu: u64, limit: u64| [Size { cpu: Some(cpu), cpu_limit: Some(limit), ..Size::default() }];
    start(ground, &size(2, 10));
    resize(ground, &size(1, 5));
    resize(ground, &size(2, 10));
}

/// Conformance: [sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34] [Conformance]
pub(super) fn by_replacement(ground: &Ground<'_>) {
    let size = |cpu: u64, memory: u64| [Size { cpu: Some(cpu), memory: Some(memory), ..Size::default() }];
    start(ground, &size(20, 35));
    let after = size(25, 40);
    let path = format!("/api/v1/namespaces/{}/pods/p", ground.namespace);
    let place = format!("{path}/resize");
    ground.wait_until("it is replaced", || {
        let mut pod = get(ground, "pod/p");
        pod["spec"]["containers"][0]["resources"] = after[0].resources();
        replace(ground, &place, &pod).is_some()
    });
    let pod = get(ground, "pod/p");
    assert_eq!(pod["spec"]["containers"][0]["resources"], after[0].resources());
    assert_eq!(pod["metadata"]["generation"], 2);
    has(ground, &after);
    let raw = |path: &str| parsed(ground.kubectl(&["get", "--raw", path]).ok());
    ground.wait_until("both say the same", || raw(&path) == raw(&place));
}
