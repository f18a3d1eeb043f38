//! Prefers nodes that have the pod's images already, large and widespread ones above all.

use crate::framework::{CycleState, MAX_SCORE, NodeInfo, Plugin, PodInfo, PreScore, Score, Snapshot};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("ImageLocality", |slot| slot.plain(ImageLocality).score_with_preparation().end()).weighing(1);

const MEBIBYTE: i64 = 1024 * 1024;
/// Sums below this do not count, and above that (per image) count no more.
const RANGE: (i64, i64) = (23 * MEBIBYTE, 1000 * MEBIBYTE);

/// Scores by the sizes of images on the node, each weighed by the part of all nodes that has it: a rare image must not draw
/// all pods to one node.
pub(crate) struct ImageLocality;

/// The pod's images and the part of all nodes that has each.
struct Wanted(Vec<(String, f64)>);

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
}

impl PreScore for ImageLocality {
    #[expect(clippy::cast_precision_loss, reason = "a part of the nodes")]
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], snapshot: &Snapshot) -> bool {
        let all = snapshot.nodes().len().max(1) as f64;
        let spread = |name: String| {
            let part = snapshot.nodes_with_image(&name) as f64 / all;
            (name, part)
        };
        let wanted: Vec<(String, f64)> = pod.images().map(|name| spread(normalized(name))).collect();
        let any = wanted.iter().any(|(_, part)| *part > 0.0);
        state.put(Wanted(wanted));
        any
    }
}

impl Score for ImageLocality {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes of images")]
    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Wanted(wanted)) = state.get::<Wanted>() else { return 0 };
        let sizes = wanted.iter().filter_map(|(name, part)| Some((*node.images.get(name)? as f64 * part) as i64));
        let sum: i64 = sizes.fold(0, i64::saturating_add);
        let most = RANGE.1.saturating_mul(i64::try_from(wanted.len().max(1)).unwrap_or(i64::MAX));
        MAX_SCORE * (sum.clamp(RANGE.0, most) - RANGE.0) / (most - RANGE.0)
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// With `:latest` when there is neither tag nor digest.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::Cache;
    use serde_json::json;

    fn node(name: &str, images: &[(&str, i64)]) -> Arc<k8s_openapi::api::core::v1::Node> {
        let images: Vec<_> =
            images.iter().map(|(name, size)| json!({"names": [name], "sizeBytes": size * MEBIBYTE})).collect();
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "status": {"images": images}})).unwrap())
    }

    /// The scores of nodes with these images for a pod with two containers.
    fn scores(nodes: &[&[(&str, i64)]]) -> Option<Vec<i64>> {
        let mut cache = Cache::default();
        for (number, images) in nodes.iter().enumerate() {
            cache.set_node(&node(&number.to_string(), images));
        }
        let mut snapshot = Snapshot::default();
        cache.update(&mut snapshot);
        let containers = json!([{"name": "a", "image": "web"}, {"name": "b", "image": "x.io:5/db:1"}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        let pod = PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()));
        let mut state = CycleState::default();
        if !ImageLocality.pre_score(&mut state, &pod, &[], &snapshot) {
            return None;
        }
        let of = |number: usize| snapshot.node(&number.to_string()).unwrap();
        Some((0..nodes.len()).map(|number| ImageLocality.score(&state, &pod, of(number))).collect())
    }

    #[test]
    fn large_images_that_many_nodes_have_score_high() {
        assert_eq!(scores(&[&[("other:1", 500)], &[]]), None);
        // 600 of at most 2000 MB, of which 23 do not count; the tag that is not named is the latest.
        let everywhere: &[(&str, i64)] = &[("web:latest", 600)];
        assert_eq!(scores(&[everywhere, everywhere]), Some(vec![29, 29]));
        assert_eq!(scores(&[everywhere, &[]]), Some(vec![14, 0]));
        let both: &[(&str, i64)] = &[("web:latest", 5000), ("x.io:5/db:1", 5000)];
        assert_eq!(scores(&[both]), Some(vec![100]));
    }
}
