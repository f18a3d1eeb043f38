use proptest::prelude::*;

use super::*;

const QUEUES: Queuing = Queuing { queues: 64, hand: 4, length: 50 };

fn queues(limit: u32, queuing: Queuing) -> Queues<u64> {
    Queues::new(Response::Queue(queuing), limit, Instant::now())
}

/// A hash whose hand has no queue in common with those of the others.
fn apart(flows: u64) -> Vec<u64> {
    let mut taken = std::collections::HashSet::new();
    let mut hashes = Vec::new();
    let mut hash = 1_u64;
    while (hashes.len() as u64) < flows {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let hand = Hand::deal(hash >> 4, QUEUES.queues, QUEUES.hand);
        if hand.cards().iter().all(|card| !taken.contains(card)) {
            taken.extend(hand.cards().iter().copied());
            hashes.push(hash >> 4);
        }
    }
    hashes
}

#[test]
fn a_flood_of_one_flow_does_not_hold_up_another() {
    let now = Instant::now();
    let mut queues = queues(2, QUEUES);
    let [flood, other] = apart(2)[..] else { unreachable!("two were asked for") };
    let mut seats: Vec<Ticket> = Vec::new();
    for who in 0..100 {
        match queues.begin(now, flood, Work::of(1), who).0 {
            Begun::Now(ticket) => seats.push(ticket),
            Begun::Waits(_) => {}
            Begun::Refused(why) => panic!("{why:?}"),
        }
    }
    assert_eq!((seats.len(), queues.waiting()), (2, 98));
    assert!(matches!(queues.begin(now, other, Work::of(1), 1000).0, Begun::Waits(_)));
    // The one that came last is among the first to be called, since its flow has had nothing.
    let mut called = Vec::new();
    for turn in 1..=6 {
        let seat = seats.remove(0);
        for (who, ticket) in queues.finish(now + turn * Duration::from_millis(10), &seat) {
            called.push(who);
            seats.push(ticket);
        }
    }
    assert!(called.len() == 6 && called.contains(&1000), "{called:?}");
}

#[test]
fn a_full_queue_turns_away_and_a_level_without_queues_does_at_once() {
    let now = Instant::now();
    let mut one = queues(1, Queuing { queues: 1, hand: 1, length: 2 });
    assert!(matches!(one.begin(now, 0, Work::of(1), 0).0, Begun::Now(_)));
    assert!(matches!(one.begin(now, 0, Work::of(1), 1).0, Begun::Waits(Place { length: 1, .. })));
    assert!(matches!(one.begin(now, 0, Work::of(1), 2).0, Begun::Waits(Place { length: 2, .. })));
    assert!(matches!(one.begin(now, 0, Work::of(1), 3).0, Begun::Refused(Refused::QueueFull)));
    let mut none: Queues<u64> = Queues::new(Response::Reject, 1, now);
    let Begun::Now(seat) = none.begin(now, 0, Work::of(1), 0).0 else { panic!("there is a seat") };
    assert!(matches!(none.begin(now, 0, Work::of(1), 1).0, Begun::Refused(Refused::ConcurrencyLimit)));
    none.finish(now, &seat);
    assert!(matches!(none.begin(now, 0, Work::of(1), 2).0, Begun::Now(_)));
}

#[test]
fn a_wide_request_waits_for_its_seats_and_one_that_is_too_wide_until_it_is_alone() {
    let now = Instant::now();
    let mut queues = queues(4, QUEUES);
    let Begun::Now(narrow) = queues.begin(now, 1, Work::of(1), 0).0 else { panic!("there are seats") };
    assert!(matches!(queues.begin(now, 2, Work::of(10), 1).0, Begun::Waits(_)));
    let called = queues.finish(now, &narrow);
    assert_eq!(called.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [1]);
    assert!(matches!(queues.begin(now, 3, Work::of(1), 2).0, Begun::Waits(_)), "it takes all there are");
}

#[test]
fn seats_linger_while_watchers_are_told() {
    let now = Instant::now();
    let mut queues = queues(2, QUEUES);
    let work = Work { seats: 1, later: 2, lingers: Duration::from_millis(5) };
    let Begun::Now(seat) = queues.begin(now, 1, work, 0).0 else { panic!("there are seats") };
    assert!(queues.finish(now, &seat).is_empty());
    assert_eq!(queues.seats_taken(), 2);
    assert!(matches!(queues.begin(now, 2, Work::of(1), 1).0, Begun::Waits(_)));
    let free = queues.wakes_at().unwrap();
    assert_eq!(free, now + Duration::from_millis(5));
    assert_eq!(queues.settle(free).len(), 1);
    assert_eq!((queues.seats_taken(), queues.wakes_at()), (1, None));
}

#[derive(Clone, Debug)]
enum Step {
    Begin { flow: u64, seats: u32, lingers: u64 },
    Finish(usize),
    Leave(usize),
    Pass(u64),
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u64, 1..6_u32, 0..3_u64).prop_map(|(flow, seats, lingers)| Step::Begin { flow, seats, lingers }),
        3 => (0..64_usize).prop_map(Step::Finish),
        1 => (0..64_usize).prop_map(Step::Leave),
        1 => (0..20_u64).prop_map(Step::Pass),
        1 => (1..12_u32).prop_map(Step::Limit),
    ]
}

/// Plays requests that come, end and go away; whatever happens, seats are kept within the limit and given back, and
/// nobody who waits is forgotten.
struct Play {
    queues: Queues<u64>,
    now: Instant,
    next: u64,
    seated: Vec<Ticket>,
    waiting: Vec<(u64, Place)>,
}

impl Play {
    fn called(&mut self, called: Called<u64>) {
        for (who, ticket) in called {
            let at = self.waiting.iter().position(|(waiting, _)| *waiting == who).expect("only those who wait");
            self.waiting.remove(at);
            self.seated.push(ticket);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Begin { flow, seats, lingers } => {
                self.next += 1;
                let later = if lingers > 0 { seats + 1 } else { 0 };
                let work = Work { seats, later, lingers: Duration::from_millis(lingers) };
                let had = (self.queues.seats_taken(), self.queues.limit());
                let (begun, called) = self.queues.begin(self.now, flow * 7919, work, self.next);
                match begun {
                    Begun::Now(ticket) => {
                        assert!(had.0 + work.most() <= had.1 || self.seated.is_empty(), "beyond the limit");
                        self.seated.push(ticket);
                    }
                    Begun::Waits(place) => self.waiting.push((self.next, place)),
                    Begun::Refused(why) => assert_eq!(why, Refused::QueueFull),
                }
                self.called(called);
            }
            Step::Finish(at) if !self.seated.is_empty() => {
                let seat = self.seated.swap_remove(at % self.seated.len());
                let called = self.queues.finish(self.now, &seat);
                self.called(called);
            }
            Step::Leave(at) if !self.waiting.is_empty() => {
                let (_, place) = self.waiting.swap_remove(at % self.waiting.len());
                let (left, called) = self.queues.leave(self.now, place);
                assert!(left, "who waits can leave");
                self.called(called);
            }
            Step::Pass(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                let called = self.queues.settle(self.now);
                self.called(called);
            }
            Step::Limit(limit) => {
                let called = self.queues.set_limit(self.now, limit);
                self.called(called);
            }
            Step::Finish(_) | Step::Leave(_) => {}
        }
    }

    fn check(&self) {
        let queues = &self.queues;
        assert_eq!((queues.waiting(), queues.executing()), (self.waiting.len(), self.seated.len()));
        let seated: u32 = self.seated.iter().map(|ticket| ticket.work.most()).sum();
        let lingering: u32 = queues.lingering.iter().map(|Reverse((_, seats))| seats).sum();
        assert_eq!(queues.seats_taken, seated + lingering);
        let idle = self.seated.is_empty() && lingering == 0;
        assert!(!idle || self.waiting.is_empty(), "somebody waits and nobody has a seat");
        assert!(queues.queues.values().all(|queue| !queue.is_idle() && queue.next.is_finite()));
    }
}

proptest! {
    #[test]
    fn seats_are_kept_within_the_limit_and_always_given_back(steps in prop::collection::vec(step(), 1..200)) {
        let queuing = Queuing { queues: 8, hand: 3, length: 3 };
        let now = Instant::now();
        let queues = Queues::new(Response::Queue(queuing), 5, now);
        let mut play = Play { queues, now, next: 0, seated: Vec::new(), waiting: Vec::new() };
        for step in &steps {
            play.take(step);
            play.check();
        }
        // Everybody has a turn in the end: each request that ends calls others until none is left.
        let mut turns = 0;
        while !play.seated.is_empty() || !play.waiting.is_empty() {
            play.take(&Step::Pass(10));
            play.take(&Step::Finish(0));
            play.check();
            turns += 1;
            prop_assert!(turns < 1000, "somebody starves");
        }
        play.take(&Step::Pass(1000));
        prop_assert_eq!(play.queues.seats_taken(), 0);
        prop_assert!(play.queues.is_idle() && play.queues.queues.is_empty());
    }
}
