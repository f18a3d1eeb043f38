//! The fair queues of one priority level: which request is worked on next (KEP-1040, "fair queuing for server requests").
//!
//! Each queue would, in a fluid world, be worked off at the same rate. A meter `r` says how much work each queue could
//! have had so far, in seat-seconds; a queue's `next` says at which reading its next request starts in that world. The
//! request that would end first is the next to get its seats.
//!
//! Only queues with something in them exist, so it costs nothing to have many. No clock and no task is in here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::config::{Queuing, Response};
use super::deal::Hand;
use super::demand::Integrator;

/// How long a request is taken to be worked on, in seconds, until it is known.
const ESTIMATE: f64 = 0.003;

/// The work that a request is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Seats while it is worked on.
    pub(super) seats: u32,
    /// Seats that it takes for a while after that: its watchers are told.
    pub(super) later: u32,
    pub(super) lingers: Duration,
}

impl Work {
    /// Of so many seats.
    pub(super) fn of(seats: u32) -> Self {
        Self { seats, later: 0, lingers: Duration::ZERO }
    }

    /// The seats that it takes.
    pub(super) fn most(&self) -> u32 {
        self.seats.max(self.later)
    }

    /// In seat-seconds.
    fn total(&self) -> f64 {
        f64::from(self.seats) * ESTIMATE + f64::from(self.later) * self.lingers.as_secs_f64()
    }
}

/// What a request that is worked on gives back at its end.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Option<usize>,
    work: Work,
    began: Instant,
}

impl Ticket {
    pub(super) fn work(&self) -> Work {
        self.work
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }
}

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    queue: usize,
    id: u64,
    /// How many wait in its queue, with it.
    pub(super) length: usize,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are no seats, and no queues either.
    ConcurrencyLimit,
    QueueFull,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Begun {
    Now(Ticket),
    Waits(Place),
    Refused(Refused),
}

/// Those whose turn it is now.
pub(super) type Called<T> = Vec<(T, Ticket)>;

/// Seats and queues of one level.
#[derive(Debug)]
pub(super) struct Queues<T> {
    response: Response,
    limit: u32,
    queues: BTreeMap<usize, Queue<T>>,
    /// The meter, in seat-seconds, and when it was read.
    r: f64,
    read: Instant,
    /// The queue that had its turn last.
    last: usize,
    next_id: u64,
    waiting: usize,
    seats_waiting: u32,
    executing: usize,
    seats_taken: u32,
    /// Seats that are taken for a while yet, though their requests have ended.
    lingering: BinaryHeap<Reverse<(Instant, u32)>>,
    demand: Integrator,
    /// How often the next request did not fit into the seats that were free.
    pub(super) did_not_fit: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Seat-seconds that wait.
    work: f64,
    executing: usize,
    next: f64,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    arrived: f64,
    work: Work,
    who: T,
}

impl<T> Queue<T> {
    /// Nothing starts before it has come.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrived);
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }
}

impl<T> Queues<T> {
    pub(super) fn new(response: Response, limit: u32, now: Instant) -> Self {
        Self {
            response,
            limit,
            queues: BTreeMap::new(),
            r: 0.0,
            read: now,
            last: 0,
            next_id: 0,
            waiting: 0,
            seats_waiting: 0,
            executing: 0,
            seats_taken: 0,
            lingering: BinaryHeap::new(),
            demand: Integrator::new(now),
            did_not_fit: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn seats_taken(&self) -> u32 {
        self.seats_taken
    }

    pub(super) fn seats_waiting(&self) -> u32 {
        self.seats_waiting
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn executing(&self) -> usize {
        self.executing
    }

    pub(super) fn demand(&mut self) -> &mut Integrator {
        &mut self.demand
    }

    /// The queues that have something: number, how many wait, how many are worked on, and the start of the next.
    pub(super) fn busy(&self) -> impl Iterator<Item = (usize, usize, usize, f64)> {
        self.queues.iter().map(|(at, queue)| (*at, queue.waiting.len(), queue.executing, queue.next))
    }

    /// When seats that linger are free again, if somebody waits who may want them.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        (self.waiting > 0).then(|| self.lingering.peek().map(|Reverse((until, _))| *until)).flatten()
    }

    /// A request comes. `who` is kept until its turn.
    pub(super) fn begin(&mut self, now: Instant, hash: u64, work: Work, who: T) -> (Begun, Called<T>) {
        self.advance(now);
        let begun = match self.response {
            Response::Exempt => Begun::Now(self.seat(now, None, work)),
            Response::Reject if self.fits(work.most()) => Begun::Now(self.seat(now, None, work)),
            Response::Reject => Begun::Refused(Refused::ConcurrencyLimit),
            Response::Queue(queuing) => return self.enqueue(now, hash, work, who, queuing),
        };
        (begun, Vec::new())
    }

    fn enqueue(&mut self, now: Instant, hash: u64, work: Work, who: T, queuing: Queuing) -> (Begun, Called<T>) {
        let at = self.choose(hash, queuing);
        let length = self.queues.get(&at).map_or(0, |queue| queue.waiting.len());
        if self.seats_taken >= self.limit && length >= queuing.length {
            return (Begun::Refused(Refused::QueueFull), Vec::new());
        }
        let r = self.r;
        let new = || Queue { waiting: VecDeque::new(), work: 0.0, executing: 0, next: r };
        let fits = self.fits(work.most());
        let queue = self.queues.entry(at).or_insert_with(new);
        if self.waiting == 0 && fits {
            queue.executing += 1;
            queue.next += work.total();
            return (Begun::Now(self.seat(now, Some(at), work)), Vec::new());
        }
        self.next_id += 1;
        let id = self.next_id;
        queue.waiting.push_back(Waiting { id, arrived: r, work, who });
        queue.work += work.total();
        queue.bound();
        self.waiting += 1;
        self.seats_waiting += work.most();
        self.note_demand(now);
        (Begun::Waits(Place { queue: at, id, length: length + 1 }), self.call(now))
    }

    /// Of the queues of its hand the one with the least work that waits.
    fn choose(&mut self, hash: u64, queuing: Queuing) -> usize {
        let hand = Hand::deal(hash, queuing.queues, queuing.hand);
        let cards = hand.cards();
        // The order of the visit changes, so that those that are equal are taken in turn.
        self.next_id += 1;
        let offset = (self.next_id % cards.len() as u64) as usize;
        let mut best = (f64::INFINITY, cards[0]);
        for at in 0..cards.len() {
            let card = cards[(offset + at) % cards.len()];
            let work = self.queues.get(&card).map_or(0.0, |queue| queue.work);
            if work < best.0 {
                best = (work, card);
            }
        }
        best.1
    }

    /// A request has ended.
    pub(super) fn finish(&mut self, now: Instant, ticket: &Ticket) -> Called<T> {
        self.advance(now);
        self.executing -= 1;
        let work = ticket.work;
        if work.later > 0 && !work.lingers.is_zero() {
            self.lingering.push(Reverse((now + work.lingers, work.most())));
        } else {
            self.seats_taken -= work.most();
        }
        self.note_demand(now);
        if let Some(at) = ticket.queue
            && let Some(queue) = self.queues.get_mut(&at)
        {
            queue.executing -= 1;
            let took = now.saturating_duration_since(ticket.began).as_secs_f64();
            queue.next -= f64::from(work.seats) * (ESTIMATE - took);
            queue.bound();
            self.forget_if_idle(at);
        }
        self.call(now)
    }

    /// A request that waited has gone; `false` if its turn had come.
    pub(super) fn leave(&mut self, now: Instant, place: Place) -> (bool, Called<T>) {
        self.advance(now);
        let Some(queue) = self.queues.get_mut(&place.queue) else { return (false, Vec::new()) };
        let Some(at) = queue.waiting.iter().position(|waiting| waiting.id == place.id) else {
            return (false, Vec::new());
        };
        if let Some(gone) = queue.waiting.remove(at) {
            self.unqueue(place.queue, gone.work);
            self.note_demand(now);
        }
        self.forget_if_idle(place.queue);
        // It may have been the one that did not fit.
        (true, self.call(now))
    }

    /// Seats that lingered are free now, or the configuration has changed.
    pub(super) fn settle(&mut self, now: Instant) -> Called<T> {
        self.advance(now);
        self.call(now)
    }

    /// Sets how many seats there are.
    pub(super) fn set_limit(&mut self, now: Instant, limit: u32) -> Called<T> {
        self.advance(now);
        self.limit = limit;
        self.call(now)
    }

    /// Sets what happens to requests without a seat. Those that wait stay in their queues, also when these go.
    pub(super) fn set_response(&mut self, response: Response) {
        self.response = response;
    }

    /// Moves the meter on: what is here has been so since it was read.
    fn advance(&mut self, now: Instant) {
        while let Some(Reverse((until, seats))) = self.lingering.peek().copied()
            && until <= now
        {
            self.lingering.pop();
            self.seats_taken -= seats;
            self.note_demand(now);
        }
        let seconds = now.saturating_duration_since(self.read).as_secs_f64();
        self.read = now;
        if !self.queues.is_empty() {
            let wanted = self.seats_taken + self.seats_waiting;
            self.r += seconds * f64::from(wanted.min(self.limit)) / self.queues.len() as f64;
        }
    }

    fn note_demand(&mut self, now: Instant) {
        self.demand.set(now, f64::from(self.seats_taken + self.seats_waiting));
    }

    /// Whether so many seats are free; a request that wants more than there are waits until it is alone.
    fn fits(&self, seats: u32) -> bool {
        if seats > self.limit { self.executing == 0 } else { self.seats_taken + seats <= self.limit }
    }

    fn seat(&mut self, now: Instant, queue: Option<usize>, work: Work) -> Ticket {
        self.executing += 1;
        self.seats_taken += work.most();
        self.note_demand(now);
        Ticket { queue, work, began: now }
    }

    fn unqueue(&mut self, at: usize, work: Work) {
        self.waiting -= 1;
        self.seats_waiting -= work.most();
        if let Some(queue) = self.queues.get_mut(&at) {
            queue.work = if queue.waiting.is_empty() { 0.0 } else { queue.work - work.total() };
            queue.bound();
        }
    }

    fn forget_if_idle(&mut self, at: usize) {
        if self.queues.get(&at).is_some_and(Queue::is_idle) {
            self.queues.remove(&at);
        }
    }

    /// Gives seats to those whose turn it is, for as long as there are seats.
    fn call(&mut self, now: Instant) -> Called<T> {
        let mut called = Vec::new();
        while self.waiting > 0 && self.seats_taken < self.limit {
            let Some((at, work)) = self.next_in_turn() else { break };
            if !self.fits(work.most()) {
                self.did_not_fit += 1;
                break;
            }
            let Some(queue) = self.queues.get_mut(&at) else { break };
            let Some(waiting) = queue.waiting.pop_front() else { break };
            queue.executing += 1;
            queue.next += work.total();
            self.last = at;
            self.unqueue(at, work);
            called.push((waiting.who, self.seat(now, Some(at), work)));
        }
        called
    }

    /// The queue whose oldest request would end first. Of equal ones, the first behind the one that had its turn last.
    fn next_in_turn(&self) -> Option<(usize, Work)> {
        let behind = self.queues.range(self.last + 1..).chain(self.queues.range(..=self.last));
        let mut best: Option<(f64, usize, Work)> = None;
        for (at, queue) in behind {
            let Some(oldest) = queue.waiting.front() else { continue };
            let end = queue.next + oldest.work.total();
            if best.is_none_or(|(earliest, ..)| end < earliest) {
                best = Some((end, *at, oldest.work));
            }
        }
        best.map(|(_, at, work)| (at, work))
    }
}

#[cfg(test)]
mod tests;
