//! One simulation from its beginning to its end.

use std::panic;
use std::time::Duration;

use tokio::time::Instant;

use crate::fortune::Fortune;
use crate::history::History;
use crate::machinery::{self, Server};
use crate::network::Network;
use crate::plan::Plan;
use crate::recorded::Recorded;
use crate::user::User;
use crate::{ending, world};

/// How a simulation ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wrong; empty if all was well.
    pub wrongs: Vec<String>,
    /// The last that happened before.
    pub tail: String,
    /// Of all that happened.
    pub hash: u64,
    /// How much happened.
    pub count: u64,
    /// How long it took, in virtual time.
    pub lasted: Duration,
}

/// Plays a plan on this thread, which should have done nothing before: what it has asked the kernel for is remembered.
///
/// # Panics
/// When the system gives no runtime.
pub fn run(plan: &Plan) -> Outcome {
    world::enter(plan.seed);
    let history = History::default();
    tell_of_panics(&history);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("the system has room for a runtime");
    let lasted = runtime.block_on(async {
        world::follow_tokio();
        tokio::select! {
            biased;
            () = history.went_wrong() => {}
            () = play(plan, &history) => {}
        }
        world::elapsed()
    });
    world::leave();
    // What still runs is not waited for: it may wait for what does not come any more.
    std::mem::forget(runtime);
    Outcome { wrongs: history.wrongs(), tail: history.tail(), hash: history.hash(), count: history.count(), lasted }
}

/// A task that panics is wrong, whoever owns it.
fn tell_of_panics(history: &History) {
    let (history, usual) = (history.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        history.wrong(info.to_string());
        usual(info);
    }));
}

async fn play(plan: &Plan, history: &History) {
    let network = Network::new(plan, history.clone());
    let store = match Recorded::new(plan, history.clone()).await {
        Ok(store) => store,
        Err(err) => return history.wrong(err.to_string()),
    };
    let mut server = Server::new(network.clone(), store.clone(), history.clone());
    server.start().await;
    let components = machinery::components(plan, &network, history);
    let mut fortune = Fortune::new(plan, &network, history, server, components);
    let mut user = User::new(plan, &network, history);
    let end = Instant::now() + plan.storm;
    tokio::join!(user.work(end), fortune.strike(end));
    fortune.smile().await;
    user.tidy().await;
    ending::rest(&store, history).await;
}
