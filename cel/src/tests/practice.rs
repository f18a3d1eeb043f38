//! Rules as people write them: for gateways, certificates, autoscaling and workloads.

use serde_json::{Value as Json, json};

use crate::{Bindings, Limits, Type, Value};

/// Whether a rule holds for an object that replaces `old`.
fn holds(rule: &str, object: &Json, old: &Json) -> Result<bool, String> {
    let env = super::with_formats().variable("self", Type::Dyn).variable("oldSelf", Type::Dyn).build();
    let program = env.compile(rule).map_err(|issues| issues.to_string())?;
    let bindings = Bindings::new().with("self", Value::json(object)).with("oldSelf", Value::json(old));
    match program.evaluate(&bindings, &Limits::cost(1_000_000)).0 {
        Ok(Value::Bool(answer)) => Ok(answer),
        other => Err(format!("{other:?}")),
    }
}

/// Each rule holds for the first object and not for the second.
fn check(rules: &[(&str, Json, Json)]) {
    for (rule, good, bad) in rules {
        assert_eq!(holds(rule, good, &Json::Null), Ok(true), "{rule}: {good}");
        assert_eq!(holds(rule, bad, &Json::Null), Ok(false), "{rule}: {bad}");
    }
}

#[test]
fn rules_of_gateways() {
    let listener = |name: &str, port: i64, protocol: &str| json!({"name": name, "port": port, "protocol": protocol});
    let tls = |mode: &str| json!([{"name": "a", "port": 1, "protocol": "HTTPS", "tls": {"mode": mode}}]);
    check(&[
        (
            "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
            json!([listener("a", 80, "HTTP")]),
            json!([{"name": "a", "protocol": "HTTP", "tls": {}}]),
        ),
        (
            "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (l.tls.mode == '' || l.tls.mode == 'Terminate') : true)",
            tls("Terminate"),
            tls("Passthrough"),
        ),
        (
            "self.all(l1, self.exists_one(l2, l1.name == l2.name))",
            json!([listener("a", 1, "TCP"), listener("b", 2, "TCP")]),
            json!([listener("a", 1, "TCP"), listener("a", 2, "TCP")]),
        ),
        (
            "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && \
             (has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
            json!([listener("a", 1, "TCP"), listener("b", 1, "UDP")]),
            json!([listener("a", 1, "TCP"), listener("b", 1, "TCP")]),
        ),
        (
            "self.all(a1, a1.type == 'IPAddress' && has(a1.value) ? self.exists_one(a2, a2.type == a1.type && \
             has(a2.value) && a2.value == a1.value) : true)",
            json!([{"type": "IPAddress", "value": "1.1.1.1"}, {"type": "Hostname"}]),
            json!([{"type": "IPAddress", "value": "1.1.1.1"}, {"type": "IPAddress", "value": "1.1.1.1"}]),
        ),
        (
            "!(self.path.type == 'Exact' && self.path.value.contains('//')) && self.path.value.startsWith('/')",
            json!({"path": {"type": "Exact", "value": "/a"}}),
            json!({"path": {"type": "Exact", "value": "/a//b"}}),
        ),
        (
            "has(self.path) && has(self.path.type) ? self.path.type in ['ReplaceFullPath', 'ReplacePrefixMatch'] : true",
            json!({"path": {"type": "ReplaceFullPath"}}),
            json!({"path": {"type": "Other"}}),
        ),
        (
            "self.matches.size() > 0 ? (has(self.matches[0].path) ? self.matches[0].path.type == 'PathPrefix' : true) : true",
            json!({"matches": [{"path": {"type": "PathPrefix"}}]}),
            json!({"matches": [{"path": {"type": "Exact"}}]}),
        ),
        (
            "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
            json!({"group": "", "kind": "Service", "port": 1}),
            json!({"group": "", "kind": "Service"}),
        ),
        (
            "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && \
             duration(self.backendRequest) > duration(self.request))",
            json!({"request": "5s", "backendRequest": "2s"}),
            json!({"request": "2s", "backendRequest": "5s"}),
        ),
        (
            r"self.matches('^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
            json!("*.example.com"),
            json!("Example.com"),
        ),
        (
            "self.filter(f, f.type == 'URLRewrite').size() <= 1",
            json!([{"type": "URLRewrite"}]),
            json!([{"type": "URLRewrite"}, {"type": "URLRewrite"}]),
        ),
    ]);
}

#[test]
fn rules_of_certificates_and_secrets() {
    check(&[
        (
            "has(self.duration) ? duration(self.duration) >= duration('1h') : true",
            json!({"duration": "2160h"}),
            json!({"duration": "30m"}),
        ),
        (
            "!has(self.renewBefore) || duration(self.renewBefore) < duration(self.duration)",
            json!({"duration": "24h", "renewBefore": "1h"}),
            json!({"duration": "24h", "renewBefore": "48h"}),
        ),
        (
            "[has(self.acme), has(self.ca), has(self.vault), has(self.selfSigned)].filter(x, x).size() == 1",
            json!({"ca": {"secretName": "a"}}),
            json!({"ca": {}, "vault": {}}),
        ),
        (
            "(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) + (has(self.c) ? 1 : 0) == 1",
            json!({"b": 1}),
            json!({"a": 1, "b": 1}),
        ),
        (
            "self.dnsNames.all(n, n.size() <= 253 && !format.dns1123Subdomain().validate(n.replace('*.', '')).hasValue())",
            json!({"dnsNames": ["a.example.com", "*.example.com"]}),
            json!({"dnsNames": ["a_b"]}),
        ),
        (
            "self.ipAddresses.all(i, isIP(i) && !ip(i).isUnspecified())",
            json!({"ipAddresses": ["10.0.0.1", "::1"]}),
            json!({"ipAddresses": ["0.0.0.0"]}),
        ),
        (
            "self.uris.all(u, isURL(u) && url(u).getScheme() == 'spiffe')",
            json!({"uris": ["spiffe://a/b"]}),
            json!({"uris": ["http://a"]}),
        ),
        (
            "self.algorithm == 'RSA' ? self.size in [2048, 4096, 8192] : self.algorithm == 'ECDSA' ? self.size in [256, 384, 521] : true",
            json!({"algorithm": "ECDSA", "size": 384}),
            json!({"algorithm": "RSA", "size": 512}),
        ),
        (
            "self.cron.split(' ').size() == 5 && self.cron.split(' ').all(f, f.matches('^[0-9*/,-]+$'))",
            json!({"cron": "*/5 0 1,15 * 1-5"}),
            json!({"cron": "every day now and then"}),
        ),
        ("semver(self.version).isLessThan(semver('2.0.0'))", json!({"version": "1.9.3"}), json!({"version": "2.0.1"})),
    ]);
}

#[test]
fn rules_of_workloads() {
    let containers = |image: &str| json!({"containers": [{"name": "a", "image": image}]});
    check(&[
        (
            "self.containers.all(c, c.image.startsWith('registry.example.com/') && !c.image.endsWith(':latest'))",
            containers("registry.example.com/a:1"),
            containers("registry.example.com/a:latest"),
        ),
        (
            "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
            json!({"minReplicas": 1, "replicas": 2, "maxReplicas": 3}),
            json!({"minReplicas": 3, "replicas": 2, "maxReplicas": 3}),
        ),
        (
            "self.containers.all(c, c.?securityContext.?privileged.orValue(false) == false)",
            containers("a"),
            json!({"containers": [{"securityContext": {"privileged": true}}]}),
        ),
        (
            "self.volumes.all(v, !has(v.hostPath)) && self.?hostNetwork.orValue(false) != true",
            json!({"volumes": [{"emptyDir": {}}]}),
            json!({"volumes": [], "hostNetwork": true}),
        ),
        (
            "['app.kubernetes.io/name', 'team'].all(k, k in self.labels && self.labels[k].size() > 0)",
            json!({"labels": {"app.kubernetes.io/name": "a", "team": "b"}}),
            json!({"labels": {"team": "b"}}),
        ),
        (
            "self.labels.all(k, v, k.size() <= 63 && !format.labelValue().validate(v).hasValue())",
            json!({"labels": {"a": "b"}}),
            json!({"labels": {"a": "b c"}}),
        ),
        (
            "type(self.port) == int ? self.port > 0 && self.port < 65536 : self.port.matches('^[a-z-]+$')",
            json!({"port": "http"}),
            json!({"port": 70000}),
        ),
        (
            "self.tolerations.map(t, t.key).isSorted() && self.tolerations.map(t, t.?seconds.orValue(0)).sum() <= 300",
            json!({"tolerations": [{"key": "a", "seconds": 100}, {"key": "b"}]}),
            json!({"tolerations": [{"key": "a", "seconds": 500}]}),
        ),
        (
            "self.requirements.filter(r, r.key == 'zone').all(r, sets.contains(['a', 'b', 'c'], r.values))",
            json!({"requirements": [{"key": "zone", "values": ["a"]}]}),
            json!({"requirements": [{"key": "zone", "values": ["a", "z"]}]}),
        ),
        (
            "self.requirements.all(x, x.operator == 'In' ? x.values.size() != 0 : true)",
            json!({"requirements": [{"operator": "Exists", "values": []}]}),
            json!({"requirements": [{"operator": "In", "values": []}]}),
        ),
        (
            "cidr(self.podCIDR).containsCIDR(self.nodeCIDR) && cidr(self.nodeCIDR).prefixLength() <= 28",
            json!({"podCIDR": "10.0.0.0/8", "nodeCIDR": "10.1.0.0/24"}),
            json!({"podCIDR": "10.0.0.0/8", "nodeCIDR": "11.0.0.0/24"}),
        ),
        (
            "timestamp(self.start) < timestamp(self.end) && timestamp(self.end) - timestamp(self.start) <= duration('24h')",
            json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T08:00:00Z"}),
            json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-03T00:00:00Z"}),
        ),
        (
            "self.x__dash__names.all(n, n in self.__namespace__.allowed)",
            json!({"x__dash__names": ["a"], "__namespace__": {"allowed": ["a"]}}),
            json!({"x__dash__names": ["b"], "__namespace__": {"allowed": ["a"]}}),
        ),
        (
            "[self.weights.sum()].all(total, total == 100 || total == 0)",
            json!({"weights": [40, 60]}),
            json!({"weights": [40, 50]}),
        ),
        (
            "self.env.map(e, e.name).all(n, self.env.filter(e, e.name == n).size() == 1)",
            json!({"env": [{"name": "A"}, {"name": "B"}]}),
            json!({"env": [{"name": "A"}, {"name": "A"}]}),
        ),
        (
            "self.widgets.transformMap(i, w, w.id).all(k, v, v == string(k))",
            json!({"widgets": [{"id": "0"}, {"id": "1"}]}),
            json!({"widgets": [{"id": "1"}]}),
        ),
    ]);
}

#[test]
fn rules_about_changes() {
    let cases = [
        ("self == oldSelf", json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]}), true),
        ("self.replicas >= oldSelf.replicas", json!({"replicas": 2}), json!({"replicas": 3}), false),
        ("!has(oldSelf.name) || has(self.name) && self.name == oldSelf.name", json!({"name": "a"}), json!({}), true),
        ("oldSelf.all(x, x in self)", json!(["a", "b"]), json!(["a"]), true),
        ("self.all(k, oldSelf[?k].orValue(self[k]) == self[k])", json!({"a": 1, "b": 2}), json!({"a": 1}), true),
        (
            "self.phase == oldSelf.phase || (oldSelf.phase == 'A' && self.phase == 'B')",
            json!({"phase": "A"}),
            json!({"phase": "B"}),
            false,
        ),
        ("size(self) >= size(oldSelf)", json!([1]), json!([1, 2]), false),
    ];
    for (rule, new, old, want) in cases {
        assert_eq!(holds(rule, &new, &old), Ok(want), "{rule}");
    }
}
