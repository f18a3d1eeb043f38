//! Configuration files and what becomes of them.

use daemon::LeaderElectionArgs;

use super::*;

/// The profiles of a file with these fields.
fn profiles(fields: &str) -> Result<HashMap<String, Profile>, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scheduler.yaml");
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    std::fs::write(&path, format!("{head}{fields}")).unwrap();
    let shown = |err: ConfigError| format!("{:#}", anyhow::Error::from(err));
    let (config, _) = Config::from_file(&path).map_err(shown)?;
    daemon::install_crypto_provider();
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    config.profiles(&client, &Handles::default()).map_err(shown)
}

fn scores(profile: &Profile) -> HashMap<&'static str, i64> {
    profile.score.iter().map(|(plugin, weight)| (plugin.name(), *weight)).collect()
}

fn filters(profile: &Profile) -> Vec<&'static str> {
    profile.filter.iter().map(|plugin| plugin.name()).collect()
}

#[tokio::test]
async fn plugins_are_turned_off_and_weighed_by_profile() {
    let fields = r"
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 30
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
    filter:
      disabled: [{name: NodePorts}]
    preFilter:
      disabled: [{name: NodePorts}]
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    postFilter:
      disabled: [{name: DefaultPreemption}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}]}
";
    let profiles = profiles(fields).unwrap();
    let (default, packing) = (&profiles["default-scheduler"], &profiles["packing"]);
    assert_eq!(scores(default)["TaintToleration"], 3);
    assert!(filters(default).contains(&"NodePorts") && !filters(packing).contains(&"NodePorts"));
    assert_eq!(scores(packing), HashMap::from([("NodeResourcesFit", 5)]));
    assert_eq!(packing.percentage_of_nodes_to_score, 30);
    assert_eq!((default.post_filter.len(), packing.post_filter.len()), (1, 0));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let plugins = |text: &str| format!("profiles: [{{plugins: {text}}}]");
    let args = |name: &str, args: &str| format!("profiles: [{{pluginConfig: [{{name: {name}, args: {args}}}]}}]");
    for (fields, named) in [
        ("percentageOfNodesToSkore: 1".to_owned(), "percentageOfNodesToSkore"),
        ("extenders: [{urlPrefix: 'http://x'}]".to_owned(), "extenders"),
        ("podInitialBackoffSeconds: 20".to_owned(), "podInitialBackoffSeconds"),
        ("leaderElection: {resourceLock: endpoints}".to_owned(), "leaderElection.resourceLock"),
        ("leaderElection: {leaseDuration: long}".to_owned(), "long"),
        ("percentageOfNodesToScore: 101".to_owned(), "percentageOfNodesToScore"),
        ("profiles: [{}, {}]".to_owned(), "given twice"),
        (plugins("{score: {enabled: [{name: NoSuchPlugin}]}}"), "NoSuchPlugin"),
        (plugins("{score: {enabled: [{name: ImageLocality, weight: 101}]}}"), "weight"),
        (plugins("{preFilter: {disabled: [{name: NodePorts}]}}"), "NodePorts"),
        (plugins("{bind: {disabled: [{name: '*'}]}}"), "plugins.bind"),
        (plugins("{queueSort: {disabled: [{name: PrioritySort}]}}"), "plugins.queueSort"),
        (args("NodeResourcesFit", "{scoringStrategy: {type: Other}}"), "scoringStrategy.type"),
        (args("NodeResourcesFit", "{scoringStrategi: {}}"), "scoringStrategi"),
        (args("NodeResourcesFit", "{kind: OtherArgs}"), "args.kind"),
        (args("NodeAffinity", "{addedAffinity: {required: []}}"), "addedAffinity"),
        (args("InterPodAffinity", "{hardPodAffinityWeight: 101}"), "hardPodAffinityWeight"),
        (args("DefaultPreemption", "{minCandidateNodesPercentage: 101}"), "minCandidateNodesPercentage"),
        (args("DefaultPreemption", "{minCandidateNodesAbsolute: -1}"), "minCandidateNodesAbsolute"),
        (
            args("DefaultPreemption", "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}"),
            "cannot both be zero",
        ),
        (args("NodeResourcesFit", "{scoringStrategy: {type: RequestedToCapacityRatio}}"), "is required"),
        (
            args(
                "NodeResourcesFit",
                "{scoringStrategy: {requestedToCapacityRatio: {shape: [{utilization: 5, score: 11}]}}}",
            ),
            "score",
        ),
        (args("NodeResourcesBalancedAllocation", "{resources: [{name: cpu, weight: 2}]}"), "must be 1"),
        (args("PodTopologySpread", "{defaultConstraints: [{maxSkew: 1}]}"), "defaultConstraints[0].topologyKey"),
        (
            args(
                "PodTopologySpread",
                "{defaultConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]}",
            ),
            "must be empty",
        ),
        (args("NodeName", "{}"), "NodeName"),
    ] {
        let err = profiles(&fields).err().unwrap_or_else(|| panic!("{fields} is taken"));
        assert!(err.contains(named), "{fields}: {err}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scheduler.yaml");
    let fields = "clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf, qps: 50}\n\
                  leaderElection: {leaderElect: true, resourceName: mine, leaseDuration: 30s}\n\
                  podMaxBackoffSeconds: 5\nparallelism: 16\n";
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    std::fs::write(&path, format!("{head}{fields}")).unwrap();
    let args = Args {
        kubeconfig: None,
        config: Some(path),
        leader: LeaderElectionArgs {
            leader_elect_lease_duration: Some(Duration::from_secs(40)),
            ..LeaderElectionArgs::default()
        },
    };
    let (config, kubeconfig) = args.clone().into_config().unwrap();
    assert_eq!(kubeconfig, Some("/etc/kubernetes/scheduler.conf".into()));
    assert_eq!(config.backoff, Some((Duration::from_secs(1), Duration::from_secs(5))));
    let election = config.leader_election.unwrap();
    assert_eq!((election.name.as_str(), election.lease_duration), ("mine", Duration::from_secs(40)));
    let alone = LeaderElectionArgs { leader_elect: Some(false), ..args.leader.clone() };
    assert!(Args { leader: alone, ..args }.into_config().unwrap().0.leader_election.is_none());
}

#[tokio::test]
async fn arguments_that_upstream_takes_are_taken() {
    let args = |name: &str, args: &str| format!("profiles: [{{pluginConfig: [{{name: {name}, args: {args}}}]}}]");
    let shape = "{shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}";
    let ratio = format!(
        "{{type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape}, resources: [{{name: x.io/gpu}}]}}"
    );
    let term = "{matchExpressions: [{key: pool, operator: In, values: [a]}]}";
    let added = format!("{{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}");
    let spread = "[{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]";
    for fields in [
        args("NodeResourcesFit", &format!("{{scoringStrategy: {ratio}}}")),
        args("NodeResourcesBalancedAllocation", "{resources: [{name: cpu, weight: 1}, {name: x.io/gpu}]}"),
        args("NodeAffinity", &format!("{{addedAffinity: {added}}}")),
        args("InterPodAffinity", "{hardPodAffinityWeight: 0, ignorePreferredTermsOfExistingPods: true}"),
        args("PodTopologySpread", &format!("{{defaultingType: List, defaultConstraints: {spread}}}")),
        args("DefaultPreemption", "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 5}"),
    ] {
        profiles(&fields).unwrap_or_else(|err| panic!("{fields}: {err}"));
    }
}

#[tokio::test]
async fn plugins_run_in_the_order_of_the_list_and_filters_from_cheap_to_dear() {
    let profile = &profiles("").unwrap()["default-scheduler"];
    macro_rules! names {
        ($point:ident) => {
            profile.$point.iter().map(|plugin| plugin.name()).collect::<Vec<_>>()
        };
    }
    let volumes = ["VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone"];
    let spread = ["PodTopologySpread", "InterPodAffinity"];
    let prepared = [&["NodeAffinity", "NodePorts", "DynamicResources"], &spread[..], &volumes].concat();
    let cheap = ["NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit"];
    assert_eq!(names!(pre_enqueue), ["SchedulingGates", "GangScheduling"]);
    assert_eq!(names!(pre_filter), prepared);
    assert_eq!(names!(filter), [&cheap, &spread[..], &volumes].concat());
    assert_eq!(names!(post_filter), ["DefaultPreemption"]);
    let balanced = ["NodeResourcesBalancedAllocation", "ImageLocality"];
    assert_eq!(names!(pre_score), [&["NodeAffinity"], &spread[..], &balanced].concat());
    let scores: Vec<_> = profile.score.iter().map(|(plugin, weight)| (plugin.name(), *weight)).collect();
    let weights = [3, 2, 1, 2, 2, 1, 1];
    let scoring = [&["TaintToleration", "NodeAffinity", "NodeResourcesFit"], &spread[..], &balanced].concat();
    assert_eq!(scores, scoring.into_iter().zip(weights).collect::<Vec<_>>());
    assert_eq!((names!(reserve), names!(pre_bind)), (vec!["VolumeBinding", "GangScheduling"], vec!["VolumeBinding"]));
    assert_eq!(names!(permit), ["GangScheduling"]);
    assert_eq!(names!(bind), ["DefaultBinder"]);
    let rejecters =
        [&["SchedulingGates"], &cheap[..], &["DynamicResources"], &spread, &volumes, &["GangScheduling"]].concat();
    assert_eq!(names!(rejecters), rejecters);
}

#[test]
fn every_plugin_has_a_name_of_its_own() {
    let mut names: Vec<&str> = ALL.iter().map(|spec| spec.name).chain(MISSING.iter().copied()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
