//! Whether this node answers for an address now. Pure.
//!
//! The first in line does, always. The others ask on the link whether somebody answers; when nobody has for some seconds, they
//! step in, one after another, and step back when somebody answers after all. So an address moves within seconds of the death
//! of its node, long before the cluster takes that node for lost (upstream's MetalLB hears of it by a gossip of its own).
//!
//! ```text
//!            silence                       place 0
//!   Waiting ---------> Answering   Waiting ---------> Answering
//!           <---------                     <---------
//!            somebody else answers          place > 0 and somebody else answers
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Nodes further back in line do not stand in: they wait until the cluster has another line.
const LINE: usize = 4;
/// Ticks of silence after which the second in line steps in; each one behind it waits so much longer.
const SILENCE: u32 = 3;
/// How often an address that has moved is announced, once a tick: some switches miss the first.
const ANNOUNCEMENTS: u32 = 3;

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Send {
    /// Who has this address?
    Question(IpAddr),
    /// Here is this address.
    Announcement(IpAddr),
}

impl Send {
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Question(address) | Self::Announcement(address) => address,
        }
    }
}

#[derive(Debug)]
struct Standing {
    place: usize,
    answers: bool,
    /// Ticks since somebody else was heard of.
    silent: u32,
    /// Announcements that are still to be sent.
    announcements: u32,
}

/// All addresses for which this node may answer.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    all: BTreeMap<IpAddr, Standing>,
}

impl Standings {
    /// Takes over what was decided: this node's place for each address.
    pub(crate) fn set(&mut self, places: &BTreeMap<IpAddr, usize>) {
        self.all.retain(|address, _| places.contains_key(address));
        for (address, place) in places.iter().filter(|(_, place)| **place < LINE) {
            let standing = self.all.entry(*address).or_insert_with(|| Standing::new(*place));
            standing.place = *place;
            if *place == 0 {
                standing.begin();
            }
        }
        self.all.retain(|address, _| places[address] < LINE);
    }

    /// Whether this node answers for an address.
    pub(crate) fn answers(&self, address: IpAddr) -> bool {
        self.all.get(&address).is_some_and(|standing| standing.answers)
    }

    /// The addresses that are looked after.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.all.keys().copied()
    }

    /// Whether there is something to do with time.
    pub(crate) fn needs_time(&self) -> bool {
        self.all.values().any(|standing| standing.place > 0 || standing.announcements > 0)
    }

    /// Somebody else has said that it has this address; true when this node steps back for it.
    pub(crate) fn heard(&mut self, address: IpAddr) -> bool {
        let Some(standing) = self.all.get_mut(&address) else { return false };
        standing.silent = 0;
        if standing.place == 0 {
            // It steps back when it hears this.
            standing.announcements = standing.announcements.max(1);
            return false;
        }
        std::mem::take(&mut standing.answers)
    }

    /// A tick has passed; what is to be sent now.
    pub(crate) fn tick(&mut self) -> Vec<Send> {
        self.all.iter_mut().flat_map(|(address, standing)| standing.tick(*address)).collect()
    }
}

impl Standing {
    fn new(place: usize) -> Self {
        Self { place, answers: false, silent: 0, announcements: 0 }
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.answers, true) {
            self.announcements = ANNOUNCEMENTS;
        }
    }

    fn tick(&mut self, address: IpAddr) -> Vec<Send> {
        let mut sends = Vec::new();
        if self.place > 0 {
            self.silent = self.silent.saturating_add(1);
            let patience = SILENCE * u32::try_from(self.place).unwrap_or(u32::MAX);
            if self.silent > patience {
                self.begin();
            }
            sends.push(Send::Question(address));
        }
        if self.announcements > 0 {
            self.announcements -= 1;
            sends.push(Send::Announcement(address));
        }
        sends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn at(place: usize) -> Standings {
        let mut standings = Standings::default();
        standings.set(&BTreeMap::from([(ADDRESS, place)]));
        standings
    }

    #[test]
    fn the_first_in_line_answers_at_once_and_says_so_a_few_times() {
        let mut first = at(0);
        assert!(first.answers(ADDRESS));
        let sent: Vec<Send> = (0..6).flat_map(|_| first.tick()).collect();
        assert_eq!(sent, [Send::Announcement(ADDRESS); 3]);
        assert!(!first.needs_time(), "nothing ticks while nothing is to be done");
        assert!(!first.heard(ADDRESS) && first.answers(ADDRESS), "somebody else is told, not followed");
        assert_eq!(first.tick(), [Send::Announcement(ADDRESS)]);
    }

    #[test]
    fn the_next_in_line_steps_in_after_silence_and_back_when_somebody_answers() {
        for place in 1..LINE {
            let mut standings = at(place);
            let mut ticks = 0;
            while !standings.answers(ADDRESS) {
                assert_eq!(standings.tick()[0], Send::Question(ADDRESS));
                ticks += 1;
            }
            assert_eq!(ticks, SILENCE as usize * place + 1);
            assert!(standings.heard(ADDRESS) && !standings.answers(ADDRESS));
            for _ in 0..20 {
                standings.tick();
                standings.heard(ADDRESS);
            }
            assert!(!standings.answers(ADDRESS), "while somebody answers it waits");
        }
        assert_eq!(at(LINE).addresses().count(), 0, "nobody asks who would hardly ever be needed");
    }

    #[test]
    fn who_stood_in_goes_on_without_a_gap_when_it_becomes_the_first() {
        let mut standings = at(1);
        (0..10).for_each(|_| drop(standings.tick()));
        standings.set(&BTreeMap::from([(ADDRESS, 0)]));
        assert!(standings.answers(ADDRESS) && standings.tick().is_empty());
        standings.set(&BTreeMap::new());
        assert!(!standings.answers(ADDRESS));
    }
}
