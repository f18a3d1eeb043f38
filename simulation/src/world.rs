//! The kernel's clock and dice, as the thread of a simulation sees them: time is tokio's paused clock, and random bytes
//! come from the seed. So whatever asks the kernel (hash maps, UIDs, jitter, time stamps) answers the same in every run of
//! a seed, and no product code needs to know.
//!
//! These two functions stand in for those of the C library in binaries that link this crate, which are tests only. Other
//! threads get what the kernel says, asked past the library. This is the only unsafe code outside `runtime::sys`.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};
use tokio::time::Instant;

/// 1 June 2026: when every simulation begins.
const BEGINNING: Duration = Duration::from_secs(1_780_272_000);
/// How long the machine has run by then.
const UPTIME: Duration = Duration::from_secs(1_000_000);
const REALTIME: c_int = 0;
const MONOTONIC: c_int = 1;

thread_local! {
    /// The state of the dice; `None` on threads that are part of no simulation.
    static DICE: Cell<Option<u64>> = const { Cell::new(None) };
    /// When tokio's clock began, while it is asked.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Seconds by which the wall clock was set wrong.
    static WRONG: Cell<i64> = const { Cell::new(0) };
}

/// Makes this thread a part of the simulation of a seed.
pub fn enter(seed: u64) {
    DICE.set(Some(seed));
}

/// Has time follow tokio's paused clock from now on. Call it where tokio runs, and [`leave`] before that ends.
pub fn follow_tokio() {
    BEGAN.set(Some(Instant::now()));
}

/// Time stands still again.
pub fn leave() {
    BEGAN.set(None);
}

/// Sets the wall clock forward, or back.
pub fn set_clock(by_seconds: i64) {
    WRONG.set(WRONG.get() + by_seconds);
}

/// How long the simulation has gone on, by tokio's clock.
pub fn elapsed() -> Duration {
    // While tokio is asked, nobody may ask again.
    let began = BEGAN.take();
    let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed());
    BEGAN.set(began);
    elapsed
}

/// The next bytes of the dice (SplitMix64).
fn throw(state: u64, out: &mut [u8]) -> u64 {
    out.chunks_mut(8).fold(state, |state, chunk| {
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        state
    })
}

fn time(clock: c_int) -> Option<Timespec> {
    DICE.get()?;
    let now = match clock {
        REALTIME => (BEGINNING + elapsed()).checked_add_signed(WRONG.get()),
        MONOTONIC => Some(UPTIME + elapsed()),
        _ => None,
    }?;
    Some(Timespec { tv_sec: now.as_secs().cast_signed(), tv_nsec: now.subsec_nanos().into() })
}

trait Signed: Sized {
    fn checked_add_signed(self, seconds: i64) -> Option<Self>;
}

impl Signed for Duration {
    fn checked_add_signed(self, seconds: i64) -> Option<Self> {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { self.checked_sub(by) } else { self.checked_add(by) }
    }
}

/// getrandom(2).
///
/// # Safety
/// As the manual page has it: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller says that so many bytes may be written there, and bytes need no alignment.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if let Some(state) = DICE.get() {
        DICE.set(Some(throw(state, out)));
        return length.cast_signed();
    }
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(out));
    read.map_or(-1, |()| length.cast_signed())
}

/// clock_gettime(2).
///
/// # Safety
/// As the manual page has it: `out` points to a `timespec`, which on 64-bit Linux is what rustix calls one.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut Timespec) -> c_int {
    let now = time(clock).or_else(|| {
        let known = ClockId::try_from(clock).ok()?;
        Some(rustix::time::clock_gettime(known))
    });
    let Some(now) = now else { return -1 };
    // SAFETY: the caller says that it points to a time that may be written.
    unsafe { out.write(now) };
    0
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::SystemTime;

    use super::*;

    fn simulated(seed: u64) -> (Vec<u64>, Vec<u32>, SystemTime) {
        let thread = std::thread::spawn(move || {
            enter(seed);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let seen = runtime.block_on(async {
                follow_tokio();
                let map: HashMap<u32, ()> = (0..50).map(|key| (key, ())).collect();
                let first = std::time::Instant::now();
                tokio::time::sleep(Duration::from_secs(3600)).await;
                assert_eq!(first.elapsed().as_secs(), 3600);
                let random = vec![rand::random(), rand::random()];
                (random, map.into_keys().collect(), SystemTime::now())
            });
            leave();
            seen
        });
        thread.join().unwrap()
    }

    #[test]
    fn the_kernel_answers_by_the_seed_and_on_virtual_time() {
        let (first, again, other) = (simulated(1), simulated(1), simulated(2));
        assert_eq!(first, again);
        assert_ne!((&first.0, &first.1), (&other.0, &other.1));
        assert_eq!(first.2, SystemTime::UNIX_EPOCH + BEGINNING + Duration::from_secs(3600));
    }

    #[test]
    fn other_threads_ask_the_kernel() {
        assert_ne!(rand::random::<u128>(), rand::random::<u128>());
        let apart = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + BEGINNING).unwrap();
        assert!(apart > Duration::from_secs(1));
        set_clock(0);
        assert_eq!(elapsed(), Duration::ZERO);
    }
}
