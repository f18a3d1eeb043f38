//! `simulation SEED`: plays one seed and says how it ended. Exit status 1 if something was wrong.

use std::process::ExitCode;

use simulation::plan::Plan;
use simulation::run::{Outcome, run};

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: simulation SEED");
        return ExitCode::from(2);
    };
    if std::env::var_os("SIMULATION_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("SIMULATION_LOG");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    // A thread that has asked the kernel for nothing yet.
    let played = std::thread::Builder::new().name("simulation".into()).stack_size(16 << 20).spawn(move || {
        let plan = Plan::of(seed);
        (run(&plan), plan)
    });
    let Ok((outcome, plan)) = played.expect("the system can start a thread").join() else {
        println!("seed {seed}: the simulation itself failed");
        return ExitCode::FAILURE;
    };
    report(seed, &plan, &outcome)
}

fn report(seed: u64, plan: &Plan, outcome: &Outcome) -> ExitCode {
    let Outcome { wrongs, tail, hash, count, lasted } = outcome;
    println!("seed {seed}: {hash:016x} of {count} events in {} s", lasted.as_secs());
    let wants_all = std::env::var_os("SIMULATION_LINES").is_some();
    if wants_all || !wrongs.is_empty() {
        println!("{tail}\n{plan:?}");
    }
    if wrongs.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("WRONG with seed {seed}:");
    wrongs.iter().for_each(|wrong| println!("  {wrong}"));
    println!("to play it again: SIMULATION_SEED={seed} cargo nextest run -p coracle-simulation");
    ExitCode::FAILURE
}
