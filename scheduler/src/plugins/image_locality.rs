//! Prefers nodes that have the pod's images already, large ones above all.

use crate::framework::{CycleState, MAX_SCORE, NodeInfo, Plugin, PodInfo, Score};

const MEBIBYTE: i64 = 1024 * 1024;
/// Sizes below this do not count, and above that (per container) count no more.
const RANGE: (i64, i64) = (23 * MEBIBYTE, 1000 * MEBIBYTE);

/// Scores by the sizes of images on the node. Without upstream's weighing by how many nodes have an image, so a rare image
/// attracts as much as a common one.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
}

impl Score for ImageLocality {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(spec) = pod.spec() else { return 0 };
        let images = node.node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
        if images.is_empty() {
            return 0;
        }
        let size = |name: &str| {
            let name = normalized(name);
            images
                .iter()
                .find(|image| image.names.iter().flatten().any(|known| *known == name))
                .and_then(|image| image.size_bytes)
                .unwrap_or(0)
        };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let (count, sum) = containers
            .filter_map(|container| container.image.as_deref())
            .fold((0, 0), |(n, sum), image| (n + 1, sum + size(image)));
        let most = RANGE.1 * count.max(1);
        MAX_SCORE * (sum.clamp(RANGE.0, most) - RANGE.0) / (most - RANGE.0)
    }
}

/// With `:latest` when there is neither tag nor digest.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
