//! What pods are given of the account that they run as.

use e2e::{Ground, Run as _};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Who the API server takes the bearer of a token for.
fn bearer(ground: &Ground<'_>, token: &str) -> String {
    let review = format!(
        r#"{{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {{"token": "{token}"}}}}"#
    );
    let command = &mut ground.command(&["create", "-f", "-", "-o", "jsonpath={.status.user.username}"]);
    command.output_with(&review).ok().to_owned()
}

/// Conformance: [sig-auth] ServiceAccounts should mount an API token into pods [Conformance]
pub(super) fn mounted(ground: &Ground<'_>) {
    ground.kubectl(&["create", "serviceaccount", "mount-test"]).ok();
    ground.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  serviceAccountName: mount-test
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: IMAGE, command: [sleep, "1000"]}
"#,
    );
    ground.wait_for("pod/p", "{.status.phase}", "Running");
    let read = |file: &str| ground.exec("p", &format!("cat {MOUNT}/{file}"));
    let user = format!("system:serviceaccount:{}:mount-test", ground.namespace);
    assert_eq!(bearer(ground, &read("token")), user);
    assert_eq!(read("ca.crt"), ground.value("configmap/kube-root-ca.crt", r"{.data.ca\.crt}").trim());
    assert_eq!(read("namespace"), ground.namespace);
}

/// Conformance: [sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]
pub(super) fn opted_out(ground: &Ground<'_>) {
    let says = [("default", ""), ("mount", "true"), ("nomount", "false")];
    let automount = |value: &str| match value {
        "" => String::new(),
        value => format!("automountServiceAccountToken: {value}"),
    };
    for (account, value) in says {
        let wanted = automount(value);
        ground
            .apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: account-{account}}}\n{wanted}\n"));
    }
    let pairs = says.iter().flat_map(|account| says.iter().map(move |pod| (account, pod)));
    let pods: Vec<_> = pairs
        .map(|((account, of_account), (pod, of_pod))| {
            let wanted = automount(of_pod);
            let name = format!("{account}-{pod}");
            ground.apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  serviceAccountName: account-{account}
  {wanted}
  restartPolicy: Never
  containers:
  - {{name: c, image: IMAGE, command: [test, -e, {MOUNT}/token]}}
"#
            ));
            // The pod has the last word; what it does not say the account says.
            let is_mounted = if of_pod.is_empty() { *of_account != "false" } else { *of_pod == "true" };
            (name, is_mounted)
        })
        .collect();
    for (name, is_mounted) in pods {
        let pod = format!("pod/{name}");
        ground.wait_for(&pod, "{.status.phase}", if is_mounted { "Succeeded" } else { "Failed" });
        let mounts = ground.value(&pod, "{.spec.containers[0].volumeMounts[*].mountPath}");
        assert_eq!(mounts, if is_mounted { MOUNT } else { "" }, "{name}");
    }
}

/// Conformance: [sig-auth] ServiceAccounts should mount projected service account token [Conformance]
pub(super) fn projected(ground: &Ground<'_>) {
    ground.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - name: c
    image: IMAGE
    command: [sleep, "1000"]
    volumeMounts: [{name: token, mountPath: /test-volume, readOnly: true}]
  volumes:
  - name: token
    projected:
      sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600}}]
"#,
    );
    ground.wait_for("pod/p", "{.status.phase}", "Running");
    let token = ground.exec("p", "cat /test-volume/token");
    assert_eq!(bearer(ground, &token), format!("system:serviceaccount:{}:default", ground.namespace));
    assert_eq!(ground.exec("p", "stat -L -c %a /test-volume/token"), "644");
    // The token ends with the pod that it is bound to.
    ground.kubectl(&["delete", "pod", "p", "--wait"]).ok();
    ground.wait_until("the token is no longer good", || bearer(ground, &token).is_empty());
}
