//! What befalls processes and machines.

use std::collections::BTreeMap;

use tokio::time::{Instant, sleep};

use crate::dice::Dice;
use crate::history::History;
use crate::machinery::{Component, Order, Server};
use crate::network::Network;
use crate::nodes::{self, HollowNode, Weather};
use crate::plan::{Disasters, Plan};
use crate::world;

/// Everything that can break.
pub(crate) struct Fortune {
    plan: Plan,
    dice: Dice,
    network: Network,
    history: History,
    weather: Weather,
    server: Server,
    components: Vec<Component>,
    nodes: Vec<Option<HollowNode>>,
    /// When nodes that are off go on again.
    return_at: BTreeMap<usize, Instant>,
    lives: u64,
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Part,
    PartNode,
    Server,
    Node,
    Clock,
}

impl Fortune {
    /// All processes, of which none has had trouble yet.
    pub(crate) fn new(
        plan: &Plan,
        network: &Network,
        history: &History,
        server: Server,
        components: Vec<Component>,
    ) -> Self {
        let mut fortune = Self {
            plan: plan.clone(),
            dice: Dice::new(plan.seed, "fortune"),
            network: network.clone(),
            history: history.clone(),
            weather: Weather::new(plan),
            server,
            components,
            nodes: (0..plan.nodes).map(|_| None).collect(),
            return_at: BTreeMap::new(),
            lives: 0,
        };
        (0..plan.nodes).for_each(|number| fortune.switch_on(number));
        fortune
    }

    fn switch_on(&mut self, number: usize) {
        self.lives += 1;
        let name = nodes::name(number);
        let node = HollowNode::start(&name, self.lives, &self.plan, &self.network, &self.weather, &self.history);
        self.nodes[number] = Some(node);
    }

    /// Deals blows until then.
    pub(crate) async fn strike(&mut self, until: Instant) {
        let blows = blows(&self.plan.disasters);
        while Instant::now() < until {
            sleep(self.dice.millis(3_000..40_000)).await;
            self.bring_back();
            if !blows.is_empty() {
                let blow = *self.dice.pick(&blows);
                self.deal(blow).await;
            }
        }
    }

    /// Everything runs again and goes on running.
    pub(crate) async fn smile(&mut self) {
        self.history.note(|| "calm".to_owned());
        self.network.calm();
        self.weather.calm();
        self.return_at.values_mut().for_each(|at| *at = Instant::now());
        self.bring_back();
    }

    fn bring_back(&mut self) {
        let due: Vec<_> =
            self.return_at.iter().filter(|(_, at)| **at <= Instant::now()).map(|(number, _)| *number).collect();
        for number in due {
            self.return_at.remove(&number);
            self.switch_on(number);
        }
    }

    async fn deal(&mut self, blow: Blow) {
        match blow {
            Blow::Kill => {
                let pause = self.dice.millis(10..20_000);
                let order = if self.dice.chance(0.7) { Order::Kill(pause) } else { Order::Stop(pause) };
                let component = self.dice.index(self.components.len());
                self.components[component].order(order);
            }
            Blow::Part => {
                let lasts = self.dice.millis(1_000..60_000);
                let component = self.dice.index(self.components.len());
                self.network.part(&self.components[component].name, lasts);
            }
            Blow::PartNode => {
                let lasts = self.dice.millis(1_000..100_000);
                self.network.part(&nodes::name(self.dice.index(self.nodes.len())), lasts);
            }
            Blow::Server => {
                let is_graceful = self.dice.chance(0.5);
                self.server.stop(is_graceful).await;
                sleep(self.dice.millis(10..20_000)).await;
                self.server.start().await;
            }
            Blow::Node => {
                let (number, lasts) = (self.dice.index(self.nodes.len()), self.dice.millis(5_000..200_000));
                self.history.note(|| format!("{} is switched off for {lasts:?}", nodes::name(number)));
                self.nodes[number] = None;
                self.return_at.insert(number, Instant::now() + lasts);
            }
            Blow::Clock => {
                let by = self.dice.number(1..300).cast_signed() * if self.dice.chance(0.5) { 1 } else { -1 };
                self.history.note(|| format!("the clock is set by {by} s"));
                world::set_clock(by);
            }
        }
    }
}

fn blows(disasters: &Disasters) -> Vec<Blow> {
    let Disasters { kills, partitions, servers, nodes, clock } = *disasters;
    let all = [
        (kills, Blow::Kill),
        (partitions, Blow::Part),
        (partitions, Blow::PartNode),
        (servers, Blow::Server),
        (nodes, Blow::Node),
        (clock, Blow::Clock),
    ];
    all.into_iter().filter(|(is_on, _)| *is_on).map(|(_, blow)| blow).collect()
}
