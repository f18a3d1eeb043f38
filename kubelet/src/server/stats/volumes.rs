//! How full the volumes of storage drivers are, as the drivers say (upstream: volume_stat_calculator.go of
//! pkg/kubelet/server/stats).
use api::volumes;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::csi::Csi;
use crate::csi::messages::NodeGetVolumeStatsResponse;
use crate::csi::records::Record;
use crate::pod;

/// Numbers of the units of what a driver counts.
const BYTES: i32 = 1;
const INODES: i32 = 2;

/// Adds what drivers say of a pod's volumes. All are asked at once, and those that do not answer are left out.
pub(super) async fn add(stats: &mut Value, csi: &Csi, of: &Pod) {
    let uid = pod::uid(of);
    let records = csi.mounts.of_pod(uid);
    let asked = records.iter().map(async |record| {
        let target = csi.mounts.target_path(uid, record);
        let answer = csi.driver(&record.id.driver)?.stats(&record.id.handle, &target).await?;
        Some(volume(of, record, &answer))
    });
    let told: Vec<Value> = futures::future::join_all(asked).await.into_iter().flatten().collect();
    if !told.is_empty() {
        stats["volume"] = told.into();
    }
}

fn volume(of: &Pod, record: &Record, answer: &NodeGetVolumeStatsResponse) -> Value {
    let mut stats = json!({ "time": client::clock::now().to_string(), "name": record.volume });
    for usage in &answer.usage {
        let names = match usage.unit {
            BYTES => ["availableBytes", "capacityBytes", "usedBytes"],
            INODES => ["inodesFree", "inodes", "inodesUsed"],
            _ => continue,
        };
        for (name, amount) in names.into_iter().zip([usage.available, usage.total, usage.used]) {
            stats[name] = amount.max(0).into();
        }
    }
    let claim = volumes::claims_of(of).into_iter().find(|used| used.volume == record.volume);
    if let Some(claim) = claim {
        stats["pvcRef"] = json!({ "name": claim.name, "namespace": pod::namespace(of) });
    }
    if let Some(condition) = &answer.condition {
        stats["volumeHealthStats"] = json!({ "abnormal": condition.abnormal });
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::messages::{VolumeCondition, VolumeUsage};
    use crate::csi::records::VolumeId;

    #[test]
    fn a_volume_is_told_of_with_its_claim() {
        let id = VolumeId { driver: "d".into(), handle: "h".into() };
        let record = Record { id, name: "pv".into(), attachment: String::new(), block: false, volume: "data".into() };
        let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]);
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [], "volumes": volumes}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let usage = |unit, used| VolumeUsage { available: -1, total: 10, used, unit };
        let condition = Some(VolumeCondition { abnormal: true, message: String::new() });
        let told = volume(
            &pod,
            &record,
            &NodeGetVolumeStatsResponse { usage: vec![usage(1, 4), usage(2, 3), usage(0, 9)], condition },
        );
        assert_eq!([&told["usedBytes"], &told["capacityBytes"], &told["availableBytes"]], [4, 10, 0]);
        assert_eq!([&told["inodesUsed"], &told["inodes"]], [3, 10]);
        assert_eq!((&told["name"], &told["pvcRef"]["name"]), (&json!("data"), &json!("c")));
        assert_eq!(told["volumeHealthStats"]["abnormal"], true);
    }
}
