//! The watchman: hears of the calls of a container that its filter tells of, judges them, and lets them go on or refuses.
//!
//! ```text
//! program --mount()--> kernel: filter says "notify"  --listener--> caller::find > judge::judge --answer--> kernel
//!         (waits)                                                   counts, unusual ones --wire::Reply--> runtime
//! ```
//! Each process that the runtime makes has a filter, and so a listener, of its own; what it forks shares them. A listener
//! ends with the last of them. If the shim ends, its containers do, too: nobody waits for an answer that never comes.
//!
//! Everything is bounded: a container that makes more calls than [`BURST`] in a second waits for the next one, which
//! costs it and nobody else; counts are told once a second; an unusual program is told once.

mod caller;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::container::seccomp::watched::{self, Watched};
use crate::sys::seccomp::{self as notify, Notification};
use crate::wire::WatchRequest;
use crate::{CallCount, SyscallVerdict, UnusualCall, WatchedCalls};
use judge::{Caller, Habits, Judgement, Setting};

/// Calls of one container that are judged in a second.
const BURST: u32 = 500;
/// How often counts are told, and the length of a burst.
const TURN: Duration = Duration::from_secs(1);
/// Programs with calls that are told in a container's life.
const MAX_TOLD: usize = 64;
/// Unusual calls that wait to be told while nobody listens.
const MAX_WAITING: usize = 16;

/// What the watchman has of one container.
pub(super) struct Watch {
    request: WatchRequest,
    started: Instant,
    listeners: Vec<OwnedFd>,
    habits: Habits,
    told: BTreeSet<(String, &'static str)>,
    counts: BTreeMap<(&'static str, SyscallVerdict), u64>,
    unusual: Vec<UnusualCall>,
    reported: Option<Instant>,
    burst: Burst,
}

/// Calls judged since the beginning of a turn.
struct Burst {
    begun: Instant,
    judged: u32,
}

impl Watch {
    pub(super) fn new(request: WatchRequest) -> Self {
        let now = Instant::now();
        Self {
            request,
            started: now,
            listeners: Vec::new(),
            habits: Habits::default(),
            told: BTreeSet::new(),
            counts: BTreeMap::new(),
            unusual: Vec::new(),
            reported: None,
            burst: Burst { begun: now, judged: 0 },
        }
    }

    /// Begins to hear of one more process's calls. The first is the container's.
    pub(super) fn add(&mut self, listener: OwnedFd) {
        if self.listeners.is_empty() && self.counts.is_empty() {
            self.started = Instant::now();
        }
        self.listeners.push(listener);
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The listeners to wait for; none for the rest of a turn whose burst is used up.
    pub(super) fn listeners(&self, now: Instant) -> &[OwnedFd] {
        if self.burst.has_room(now) { &self.listeners } else { &[] }
    }

    /// When there is something to do without any call: to listen again, or to tell.
    pub(super) fn due(&self, now: Instant, heard: bool) -> Option<Duration> {
        let left = |since: Instant| (since + TURN).saturating_duration_since(now);
        let listen = (!self.burst.has_room(now)).then(|| left(self.burst.begun));
        let tell = (heard && !self.counts.is_empty()).then(|| self.reported.map_or(Duration::ZERO, left));
        listen.into_iter().chain(tell).min()
    }

    /// What is to be told, if it is time; `last` is the last chance.
    pub(super) fn report(&mut self, now: Instant, last: bool) -> Option<WatchedCalls> {
        let early = self.reported.is_some_and(|reported| now < reported + TURN);
        if self.counts.is_empty() || (early && !last) {
            return None;
        }
        self.reported = Some(now);
        let count = |((call, verdict), count): ((&str, SyscallVerdict), u64)| CallCount {
            call: call.to_owned(),
            verdict,
            count,
        };
        let counts = std::mem::take(&mut self.counts).into_iter().map(count).collect();
        Some(WatchedCalls { counts, unusual: std::mem::take(&mut self.unusual) })
    }

    /// Forgets a listener whose processes are gone.
    pub(super) fn close(&mut self, listener: RawFd) {
        self.listeners.retain(|known| known.as_raw_fd() != listener);
    }

    /// Forgets all: the container has ended.
    pub(super) fn end(&mut self) {
        self.listeners.clear();
    }

    /// Judges and answers the next call of a listener.
    pub(super) fn serve(&mut self, listener: RawFd) {
        let Some(index) = self.listeners.iter().position(|known| known.as_raw_fd() == listener) else { return };
        self.burst.count(Instant::now());
        if let Err(err) = self.hear(index) {
            // Its processes' calls fail from now on, rather than to wait for ever.
            eprintln!("watch: {err}");
            self.listeners.remove(index);
        }
    }

    fn hear(&mut self, index: usize) -> std::io::Result<()> {
        let Some(heard) = notify::receive(self.listeners[index].as_fd())? else { return Ok(()) };
        let caller = caller::find(heard.thread);
        if !notify::still_waits(self.listeners[index].as_fd(), heard.id) {
            return Ok(());
        }
        let verdict = match watched::find(heard.call) {
            Some(call) => self.judge(call, caller),
            None => unexpected(&heard),
        };
        notify::answer(self.listeners[index].as_fd(), heard.id, verdict != SyscallVerdict::Refused)
    }

    fn judge(&mut self, call: &'static Watched, caller: Option<Caller>) -> SyscallVerdict {
        let WatchRequest { enforce, quiet, capabilities } = self.request;
        let setting = Setting { capabilities, age: self.started.elapsed(), quiet };
        let verdict = match (judge::judge(call, caller.as_ref(), &setting, &self.habits), &caller) {
            (Judgement::Expected, Some(caller)) => {
                self.habits.learn(caller, call);
                SyscallVerdict::Expected
            }
            (Judgement::Expected, None) => SyscallVerdict::Expected,
            (Judgement::Unusual(why), _) => {
                let program = caller.map_or_else(String::new, |caller| format!("{} ({})", caller.name, caller.file));
                self.tell(
                    UnusualCall { call: call.name.to_owned(), program, reason: why.to_string(), refused: enforce },
                    call.name,
                );
                if enforce { SyscallVerdict::Refused } else { SyscallVerdict::Unusual }
            }
        };
        *self.counts.entry((call.name, verdict)).or_default() += 1;
        verdict
    }

    /// Keeps an unusual call to be told, unless it has been.
    fn tell(&mut self, unusual: UnusualCall, call: &'static str) {
        let is_room = self.told.len() < MAX_TOLD && self.unusual.len() < MAX_WAITING;
        if is_room && self.told.insert((unusual.program.clone(), call)) {
            self.unusual.push(unusual);
        }
    }
}

/// The filter tells of what the table has; a filter by another version of this program may tell of more.
fn unexpected(heard: &Notification) -> SyscallVerdict {
    eprintln!("watch: call {} is not known", heard.call);
    SyscallVerdict::Expected
}

impl Burst {
    fn has_room(&self, now: Instant) -> bool {
        self.judged < BURST || now >= self.begun + TURN
    }

    fn count(&mut self, now: Instant) {
        if now >= self.begun + TURN {
            *self = Self { begun: now, judged: 0 };
        }
        self.judged += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(enforce: bool) -> Watch {
        Watch::new(WatchRequest { enforce, quiet: Duration::ZERO, capabilities: 0 })
    }

    fn caller(name: &str) -> Option<Caller> {
        Some(Caller { name: name.to_owned(), file: "/bin/x".to_owned(), age: Duration::from_secs(9) })
    }

    fn mount() -> &'static Watched {
        watched::named("mount").unwrap()
    }

    #[test]
    fn every_call_is_counted_and_a_program_is_told_once() {
        let mut watch = watch(false);
        for _ in 0..1000 {
            assert_eq!(watch.judge(mount(), caller("x")), SyscallVerdict::Unusual);
        }
        let report = watch.report(Instant::now(), false).unwrap();
        assert_eq!(report.counts.iter().map(|one| one.count).collect::<Vec<_>>(), [1000]);
        assert_eq!(report.unusual.len(), 1);
        assert_eq!(report.unusual[0].program, "x (/bin/x)");
        watch.judge(mount(), caller("x"));
        let next = watch.report(Instant::now() + TURN, false).unwrap();
        assert!(next.unusual.is_empty());
    }

    #[test]
    fn what_waits_to_be_told_is_bounded_and_told_once_a_turn() {
        let mut watch = watch(true);
        for number in 0..1000 {
            assert_eq!(watch.judge(mount(), caller(&format!("x{number}"))), SyscallVerdict::Refused);
        }
        let now = Instant::now();
        assert_eq!(watch.report(now, false).unwrap().unusual.len(), MAX_WAITING);
        watch.judge(mount(), caller("x"));
        assert!(watch.report(now + TURN / 2, false).is_none());
        assert_eq!(watch.due(now, true), Some(TURN));
        assert_eq!(watch.due(now, false), None);
        assert!(watch.report(now + TURN / 2, true).is_some());
    }

    #[test]
    fn a_flood_of_calls_waits_for_the_next_turn() {
        let mut watch = watch(false);
        let now = Instant::now();
        let (read, _) = rustix::pipe::pipe().unwrap();
        watch.add(read);
        for _ in 0..BURST {
            assert_eq!(watch.listeners(now).len(), 1);
            watch.burst.count(now);
        }
        assert!(watch.listeners(now).is_empty());
        assert!(watch.due(now, false).is_some_and(|wait| wait <= TURN));
        assert_eq!(watch.listeners(now + 2 * TURN).len(), 1);
    }
}
