use super::threshold::Threshold;
use super::*;
use crate::signals::Signal;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(flags: &[&str]) -> anyhow::Result<Args> {
    let flags = ["kubelet", "--hostname-override=n1", "--port=0"].iter().chain(flags);
    let command: Command = daemon::pflag::try_parse_from(flags.map(Into::into))?;
    Ok(command.args)
}

fn config(flags: &[&str]) -> anyhow::Result<Config> {
    args(flags)?.into_config(Arc::new(runtime::fake::FakeRuntime::new()))
}

#[test]
fn flags_have_upstreams_forms() {
    let config = config(&["--node-labels=a=1,b=2", "--register-with-taints=k=v:NoSchedule,x:NoExecute"]).unwrap();
    assert_eq!(config.registration.labels.len(), 2);
    assert_eq!(config.registration.taints[1].effect, "NoExecute");
    assert_eq!(config.registration.max_pods, 110);
}

#[test]
fn wrong_flags_name_themselves() {
    let check = |flag: &str, text: &str| {
        let err = config(&[flag]).err().unwrap();
        assert!(format!("{err:#}").contains(text), "{err:#}");
    };
    check("--node-labels=a", "--node-labels");
    check("--register-with-taints=a:Never", "--register-with-taints");
    check("--config=/nowhere/x.yaml", "/nowhere/x.yaml");
}

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

/// A kubelet with these fields in its file, and these flags.
fn with_file(fields: &str, flags: &[&str]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubelet.yaml");
    std::fs::write(&path, format!("{HEAD}{fields}")).unwrap();
    let file = format!("--config={}", path.display());
    config(&[&[file.as_str()], flags].concat()).map_err(|err| format!("{err:#}"))
}

fn least(read: &Config) -> Vec<(Signal, Threshold)> {
    read.tuning.evictions.rules.iter().map(|rule| (rule.signal, rule.least)).collect()
}

#[test]
fn the_file_is_read_and_flags_win_over_it() {
    let fields = "maxPods: 7\nclusterDNS: [10.96.0.10]\nnodeStatusUpdateFrequency: 5s\nevictionHard: {memory.available: 1Gi}\n\
                  kubeReserved: {cpu: 100m}\nsystemReserved: {cpu: 100m}";
    let read = with_file(fields, &[]).unwrap();
    assert_eq!((read.registration.max_pods, read.cluster_dns.len()), (7, 1));
    assert_eq!((read.tuning.heartbeat, read.tuning.report), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!(least(&read), [(Signal::Memory, Threshold::Bytes(1 << 30))]);
    assert_eq!(read.registration.reserved["cpu"], "200m");
    let read = with_file(fields, &["--max-pods=8", "--eviction-hard=nodefs.available<5%"]).unwrap();
    assert_eq!(read.registration.max_pods, 8);
    assert_eq!(least(&read), [(Signal::Nodefs, Threshold::Percent(5.0))]);
    let soft = ["--eviction-soft=memory.available<2Gi", "--eviction-soft-grace-period=memory.available=1m30s"];
    let read = with_file(fields, &soft).unwrap();
    assert_eq!(
        least(&read),
        [Threshold::Bytes(1 << 30), Threshold::Bytes(2 << 30)].map(|amount| (Signal::Memory, amount))
    );
}

#[test]
fn containers_that_end_wait_as_long_as_the_file_says() {
    let read = with_file("crashLoopBackOff: {maxContainerRestartPeriod: 1m30s}", &[]).unwrap();
    assert_eq!(read.tuning.restart_backoff, Duration::from_secs(90));
    assert_eq!(with_file("", &[]).unwrap().tuning.restart_backoff, Duration::from_secs(300));
}

#[test]
fn a_flag_replaces_lists_and_maps_of_the_file_as_a_whole() {
    let fields = "kubeReserved: {cpu: 100m, memory: 1Gi}\nsystemReserved: {cpu: 100m}\n\
                  registerWithTaints: [{key: a, effect: NoSchedule}]\nallowedUnsafeSysctls: [net.core.somaxconn]";
    let flags = ["--kube-reserved=cpu=300m", "--register-with-taints=b:NoExecute,c:NoExecute"];
    let read = with_file(fields, &flags).unwrap();
    assert_eq!(read.registration.reserved, BTreeMap::from([("cpu".to_owned(), "400m".to_owned())]));
    let keys: Vec<_> = read.registration.taints.iter().map(|taint| taint.key.as_str()).collect();
    assert_eq!(keys, ["b", "c"]);
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    for (fields, named) in [
        ("maxPodz: 7", "maxPodz"),
        ("readOnlyPort: 10255", "readOnlyPort"),
        ("authentication: {anonymous: {enabled: true}}", "authentication.anonymous.enabled"),
        ("authorization: {mode: AlwaysAllow}", "authorization.mode"),
        ("cpuManagerPolicy: static", "cpuManagerPolicy"),
        ("containerRuntimeEndpoint: unix:///run/containerd/containerd.sock", "containerRuntimeEndpoint"),
        ("featureGates: {NoSuchGate: true}", "NoSuchGate"),
        ("tlsCipherSuites: [TLS_NULL]", "tlsCipherSuites"),
        ("nodeStatusUpdateFrequency: 5", "5"),
        ("nodeStatusUpdateFrequency: 50s", "nodeStatusUpdateFrequency"),
        ("evictionHard: {memory: 1Gi}", "evictionHard"),
        ("evictionHard: {memory.available: much}", "memory.available"),
        ("allowedUnsafeSysctls: [vm.swappiness]", "allowedUnsafeSysctls"),
        ("imageGCLowThresholdPercent: 90", "imageGCHighThresholdPercent"),
        ("logging: {format: xml}", "logging.format"),
        ("kubeReserved: {cpu: much}", "kubeReserved: cpu: \"much\""),
        ("systemReserved: {memory: '-1Gi'}", "systemReserved: memory"),
        ("systemReserved: {nvidia.com/gpu: '1'}", "cannot reserve \"nvidia.com/gpu\""),
        ("memorySwap: {swapBehavior: LimitedSwap}", "memorySwap.swapBehavior"),
        ("shutdownGracePeriod: 30s", "shutdownGracePeriod: 30s is not supported: nobody tells this kubelet"),
        ("shutdownGracePeriodCriticalPods: 10s", "shutdownGracePeriodCriticalPods: 10s is not supported"),
        (
            "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 5}]",
            "shutdownGracePeriodByPodPriority",
        ),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 500ms}", "crashLoopBackOff.maxContainerRestartPeriod"),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 301s}", "crashLoopBackOff.maxContainerRestartPeriod"),
    ] {
        let err = with_file(fields, &[]).err().unwrap_or_else(|| panic!("{fields} is taken"));
        assert!(err.contains(named), "{fields}: {err}");
    }
}

#[test]
fn drop_ins_are_laid_over_the_file_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, fields: &str| {
        std::fs::write(directory.path().join(name), format!("{HEAD}{fields}")).unwrap();
    };
    write("10.conf", "maxPods: 10\nkubeReserved: {memory: 1Gi}");
    write("20.conf", "maxPods: 20");
    write("30.yaml", "maxPods: 30");
    let flag = format!("--config-dir={}", directory.path().display());
    let read = with_file("maxPods: 7\nkubeReserved: {cpu: 1}", &[&flag]);
    assert!(read.err().unwrap().contains("invalid type"), "a quantity is a text");
    let read = with_file("maxPods: 7\nkubeReserved: {cpu: '1'}", &[&flag]).unwrap();
    assert_eq!((read.registration.max_pods, read.registration.reserved.len()), (20, 2));
}

/// What kubeadm writes to /var/lib/kubelet/config.yaml.
const KUBEADM: &str = r"
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ''
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options:
    json: {infoBufferSize: '0'}
    text: {infoBufferSize: '0'}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

#[test]
fn the_file_that_kubeadm_writes_is_taken() {
    let read = with_file(KUBEADM, &[]).unwrap();
    assert_eq!(read.tuning, Tuning::default());
    assert_eq!(read.static_pod_path, Some("/etc/kubernetes/manifests".into()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubelet.yaml");
    std::fs::write(&path, format!("{HEAD}{KUBEADM}")).unwrap();
    let settings = args(&[&format!("--config={}", path.display())]).unwrap().settings().unwrap();
    assert_eq!(settings.healthz_port, Some(10248));
    assert_eq!(settings.client_ca_file, Some("/etc/kubernetes/pki/ca.crt".into()));
}

#[test]
fn hollow_nodes_have_directories_and_addresses_of_their_own_and_no_server() {
    let hollow = |flags: &[&str]| {
        let runtime = Arc::new(runtime::fake::FakeRuntime::new());
        args(flags)?.hollow("n1-3", [198, 18, 0, 4].into(), runtime)
    };
    let config = hollow(&["--root-dir=/r", "--pod-log-dir=/l"]).unwrap();
    assert_eq!((config.node_name.as_str(), config.hollow, config.server.is_none()), ("n1-3", true, true));
    assert_eq!((config.root_dir, config.log_dir), ("/r/n1-3".into(), "/l/n1-3".into()));
    assert_eq!(config.node_ips, [IpAddr::from([198, 18, 0, 4])]);
    assert_eq!(hollow(&["--node-ip=192.0.2.7"]).unwrap().node_ips, [IpAddr::from([192, 0, 2, 7])]);
    let refused = hollow(&["--rotate-certificates"]).err().unwrap().to_string();
    assert!(refused.starts_with("--rotate-certificates: hollow nodes"), "{refused}");
}
