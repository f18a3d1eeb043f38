//! What plugins answer (CNI specification, section 5). They may lie: nothing of it is believed that cannot be.

use std::net::IpAddr;

use serde_json::Value;

use crate::Error;

/// Addresses that a pod may have.
const MOST: usize = 16;

/// The addresses of the pod's interfaces, in the order of the answer; those of interfaces of the node are not the pod's.
pub(super) fn addresses(result: &Value) -> Result<Vec<IpAddr>, Error> {
    let wrong = |why: String| Error::Network { reason: format!("the answer of the CNI plugins: {why}") };
    let is_pods = |interface: &Value| match interface.as_u64() {
        None => true,
        Some(at) => {
            let interface = usize::try_from(at).ok().and_then(|at| result["interfaces"].get(at));
            interface.is_some_and(|one| one["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty()))
        }
    };
    let mut addresses = Vec::new();
    for one in result["ips"].as_array().into_iter().flatten().filter(|one| is_pods(&one["interface"])) {
        let text = one["address"].as_str().unwrap_or_default();
        let address: Option<IpAddr> = text.split('/').next().and_then(|address| address.parse().ok());
        let address = address.filter(|address| !(address.is_unspecified() || address.is_multicast()));
        addresses.push(address.ok_or_else(|| wrong(format!("{text:?} is no address of a pod")))?);
    }
    match addresses.len() {
        0 => Err(wrong("it names no address of the pod".to_owned())),
        1..=MOST => Ok(addresses),
        many => Err(wrong(format!("it names {many} addresses"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_addresses_of_the_pods_interfaces_are_taken_in_order() {
        let result = json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.1.0.1/24", "interface": 0}, {"address": "fd00::5/64", "interface": 1},
                    {"address": "10.1.0.5/24", "interface": 1}],
        });
        let own = addresses(&result).unwrap();
        assert_eq!(own, ["fd00::5".parse::<IpAddr>().unwrap(), "10.1.0.5".parse().unwrap()]);
        // Older plugins do not say whose they are.
        let old = json!({"ips": [{"version": "4", "address": "10.1.0.5/24", "gateway": "10.1.0.1"}]});
        assert_eq!(addresses(&old).unwrap().len(), 1);
    }

    #[test]
    fn lies_are_refused() {
        for lie in [
            json!(null),
            json!({"ips": []}),
            json!({"ips": "10.0.0.1"}),
            json!({"ips": [{"address": "10.0.0.1/24", "interface": 7}]}),
            json!({"ips": [{"address": "somewhere"}]}),
            json!({"ips": [{"address": "0.0.0.0/0"}]}),
            json!({"ips": [{"address": "224.0.0.1/24"}]}),
            json!({"ips": vec![json!({"address": "10.0.0.1/24"}); 17]}),
        ] {
            assert!(addresses(&lie).is_err(), "{lie}");
        }
    }
}
