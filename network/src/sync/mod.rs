//! One round of one family: what was planned, and what the kernel has, become the same.

use std::collections::{BTreeMap, BTreeSet};

use host::nft::Family;

use crate::kernel::{Kernel, Route, Way};
use crate::plan::{Peer, Plan, Range, Refusal};
use crate::{Config, Error};

/// What a round came to.
pub(crate) struct Synced {
    pub(crate) peers: Vec<Peer>,
    pub(crate) refused: BTreeMap<String, Refusal>,
    /// The links that carry the routes.
    pub(crate) links: Vec<u32>,
}

/// Adds the routes that are missing and removes those that nobody needs.
pub(crate) async fn sync(kernel: &Kernel, config: &Config, family: Family, plan: Plan) -> Result<Synced, Error> {
    let Plan { own, peers, mut refused } = plan;
    // Without a range of its own this node has no pods that could ask for others.
    let Some(own) = own else {
        return Ok(Synced { peers: Vec::new(), refused, links: Vec::new() });
    };
    let ways = ways(kernel, peers, &mut refused).await;
    let (wanted, mut links) = wanted(kernel, config, &own, &ways).await?;
    let mut known = kernel.routes(config, family).await?;
    for (range, (peer, route)) in &wanted {
        match known.remove(range) {
            Some((same, _)) if same == *route => {}
            before => {
                if !kernel.route(*range, *route, before.is_some()).await? {
                    refused.insert(peer.name.clone(), Refusal::Routed(range.cidr()));
                }
            }
        }
    }
    for (_, message) in known.into_values() {
        kernel.remove_route(message).await?;
    }
    if !ways.iter().any(|(_, way)| matches!(way, Way::Router(_))) {
        kernel.remove_tunnel(&config.tunnel(family)).await?;
    }
    links.extend(wanted.values().map(|(_, route)| route.link));
    links.sort_unstable();
    links.dedup();
    let peers = ways.into_iter().map(|(peer, _)| peer).filter(|peer| !refused.contains_key(&peer.name)).collect();
    Ok(Synced { peers, refused, links })
}

/// How each peer is reached. Whom the kernel knows no way to is refused.
async fn ways(kernel: &Kernel, peers: Vec<Peer>, refused: &mut BTreeMap<String, Refusal>) -> Vec<(Peer, Way)> {
    let mut ways = Vec::new();
    for peer in peers {
        let address = peer.address;
        let refusal = match kernel.way(address).await {
            Ok(Way::Local) => Refusal::Local(address),
            Ok(way) => {
                ways.push((peer, way));
                continue;
            }
            Err(err) => Refusal::Unreachable { address, why: err.to_string() },
        };
        refused.insert(peer.name, refusal);
    }
    ways
}

/// The routes to all peers, and the links below them; makes the tunnel where one is needed.
async fn wanted<'a>(
    kernel: &Kernel,
    config: &Config,
    own: &Peer,
    ways: &'a [(Peer, Way)],
) -> Result<(BTreeMap<Range, (&'a Peer, Route)>, Vec<u32>), Error> {
    let far: Vec<&Peer> = ways.iter().filter(|(_, way)| matches!(way, Way::Router(_))).map(|(peer, _)| peer).collect();
    let underlays: BTreeSet<u32> = ways.iter().filter_map(|(_, way)| underlay(*way)).collect();
    let mut tunnel = 0;
    if !far.is_empty() {
        tunnel = kernel.tunnel(config, own, &underlays).await?;
        kernel.neighbours(tunnel, &far).await?;
    }
    let routes = ways.iter().filter_map(|(peer, way)| {
        let route = match way {
            Way::Link(link) => Route { gateway: peer.address, link: *link },
            Way::Router(_) => Route { gateway: peer.in_tunnel(), link: tunnel },
            Way::Local => return None,
        };
        Some((peer.range, (peer, route)))
    });
    Ok((routes.collect(), underlays.into_iter().collect()))
}

fn underlay(way: Way) -> Option<u32> {
    match way {
        Way::Router(link) => Some(link),
        Way::Link(_) | Way::Local => None,
    }
}

#[cfg(test)]
mod tests;
