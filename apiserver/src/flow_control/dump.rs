//! What flow control looks like inside, as tables of text (`/debug/api_priority_and_fairness/`).

use std::fmt::Write as _;

use http::StatusCode;

use super::FlowControl;
use super::config::Response;
use crate::response::{self, Answer};

const BELOW: &str = "/debug/api_priority_and_fairness/";

/// Answers a path of this kind, if it is one.
pub(crate) fn answer(control: &FlowControl, path: &str) -> Option<Answer> {
    let table = match path.strip_prefix(BELOW)? {
        "dump_priority_levels" => levels(control),
        "dump_queues" => queues(control),
        _ => return None,
    };
    Some(response::text(StatusCode::OK, table?))
}

fn levels(control: &FlowControl) -> Option<String> {
    let mut out = String::from(
        "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, SeatsInUse, \
         SeatsWaiting, NominalSeats, LowerSeats, UpperSeats, CurrentSeats\n",
    );
    control.fair()?.each_level(|book| {
        let (now, limits) = (book.level.now(), book.limits);
        let active = match book.spec.response {
            Response::Exempt => "<none>".to_owned(),
            _ => book.level.busy().len().to_string(),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "{}, {active}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}",
            book.level.name,
            book.level.is_idle(),
            book.is_leaving,
            now.waiting,
            now.executing,
            now.seats_taken,
            now.seats_waiting,
            limits.nominal,
            limits.least,
            limits.most,
            now.limit,
        );
    });
    Some(out)
}

fn queues(control: &FlowControl) -> Option<String> {
    let mut out = String::from("PriorityLevelName, Index, PendingRequests, ExecutingRequests, NextDispatchR\n");
    control.fair()?.each_level(|book| {
        for (at, waiting, executing, next) in book.level.busy() {
            let _ = writeln!(out, "{}, {at}, {waiting}, {executing}, {next:.6}", book.level.name);
        }
    });
    Some(out)
}
