//! What an image may take of this node: counted while it arrives, so that a small file cannot become a full disk.
//!
//! An image takes at most half of what is free when it begins to arrive ([`SHARE`]), and is stopped when too little would
//! be left, whoever else writes: less than a twentieth of the disk ([`FLOOR`]), or of a large one less than
//! [`FLOOR_BYTES`].

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::StatVfs;

/// An image takes at most the free space divided by this.
const SHARE: u64 = 2;
/// The disk's size, and its number of files, divided by this is what an image must leave free.
const FLOOR: u64 = 20;
/// No disk is so large that an image must leave more than this free: 1 GiB.
const FLOOR_BYTES: u64 = 1 << 30;
/// Bytes between two looks at what is left.
const STRIDE: u64 = 64 << 20;

/// What one image has taken; its layers share it.
#[derive(Debug)]
pub(crate) struct Budget {
    place: PathBuf,
    most: u64,
    taken: AtomicU64,
    looked_at: AtomicU64,
}

impl Budget {
    /// For an image that comes to `place`.
    ///
    /// # Errors
    /// When the disk cannot be measured, or is nearly full already.
    pub(crate) fn of(place: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(place)?;
        check(&disk)?;
        let most = disk.f_bavail.saturating_mul(disk.f_frsize) / SHARE;
        Ok(Self { place: place.to_owned(), most, taken: AtomicU64::new(0), looked_at: AtomicU64::new(0) })
    }

    /// Counts bytes before they are written.
    ///
    /// # Errors
    /// `QuotaExceeded` when that is more than the image may take.
    pub(crate) fn take(&self, bytes: u64) -> io::Result<()> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if taken > self.most {
            return Err(too_much(&format!(
                "the image takes more than half of the free disk space ({} bytes)",
                self.most
            )));
        }
        if taken >= self.looked_at.load(Ordering::Relaxed).saturating_add(STRIDE) {
            self.looked_at.store(taken, Ordering::Relaxed);
            check(&rustix::fs::statvfs(&self.place)?)?;
        }
        Ok(())
    }

    /// Takes back what was counted and has been removed again.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes counted so far.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// One with a limit that a test says.
    #[cfg(test)]
    pub(super) fn fixed(place: &Path, most: u64) -> Self {
        Self { most, ..Self::of(place).unwrap() }
    }
}

/// Whether a disk has room for more of an image.
fn check(disk: &StatVfs) -> io::Result<()> {
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    if bytes(disk.f_bavail) < floor(bytes(disk.f_blocks)) {
        return Err(too_much("less than 5 % of the disk, or 1 GiB, would be left free"));
    }
    // File systems that make inodes as they need them say 0.
    if disk.f_favail < disk.f_files / FLOOR {
        return Err(too_much("less than 5 % of the disk's inodes would be left free"));
    }
    Ok(())
}

/// How many bytes stay free of a disk of this size.
fn floor(size: u64) -> u64 {
    (size / FLOOR).min(FLOOR_BYTES)
}

pub(super) fn too_much(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

/// Limits what is read: in all, and of a part while that is read.
pub(super) struct Meter<R> {
    inner: R,
    left: u64,
    part: Gauge,
}

/// What the current part of a stream may still have; `u64::MAX` for no limit.
#[derive(Clone)]
pub(super) struct Gauge(Rc<Cell<u64>>);

impl Gauge {
    pub(super) fn open() -> Self {
        Self(Rc::new(Cell::new(u64::MAX)))
    }

    pub(super) fn set(&self, most: u64) {
        self.0.set(most);
    }
}

impl<R: Read> Meter<R> {
    pub(super) fn new(inner: R, most: u64, part: Gauge) -> Self {
        Self { inner, left: most, part }
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(self.part.0.get());
        let room = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 && !buffer.is_empty() {
            let what = if self.left == 0 { "it unpacks to too many bytes" } else { "its headers are too long" };
            return Err(too_much(what));
        }
        let count = self.inner.read(&mut buffer[..room])?;
        self.left -= count as u64;
        if self.part.0.get() != u64::MAX {
            self.part.0.set(self.part.0.get() - count as u64);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_stopped_at_its_share() {
        let directory = tempfile::tempdir().unwrap();
        let budget = Budget::fixed(directory.path(), 100);
        budget.take(60).unwrap();
        assert_eq!(budget.take(50).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        budget.give_back(60);
        budget.take(40).unwrap();
    }

    #[test]
    fn a_disk_that_is_nearly_full_takes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let disk = |free: u64, files: u64| StatVfs {
            f_blocks: 1000,
            f_bavail: free,
            f_files: 1000,
            f_favail: files,
            ..rustix::fs::statvfs(directory.path()).unwrap()
        };
        let ok = |free, files| check(&disk(free, files)).is_ok();
        assert_eq!([ok(50, 50), ok(49, 50), ok(50, 49)], [true, false, false]);
        assert!(check(&StatVfs { f_files: 0, f_favail: 0, ..disk(50, 50) }).is_ok());
    }

    #[test]
    fn small_disks_keep_a_share_free_and_large_ones_no_more_than_a_gibibyte() {
        assert_eq!(floor(10 << 30), (10 << 30) / 20);
        assert_eq!(floor(2 << 40), 1 << 30);
    }

    #[test]
    fn a_meter_fails_where_a_limit_is_and_does_not_just_end() {
        let gauge = Gauge::open();
        let mut meter = Meter::new(io::repeat(0), 10, gauge.clone());
        gauge.set(4);
        assert_eq!(meter.read(&mut [0; 8]).unwrap(), 4);
        assert!(meter.read(&mut [0; 8]).unwrap_err().to_string().contains("headers"));
        gauge.set(u64::MAX);
        assert_eq!(meter.read(&mut [0; 8]).unwrap(), 6);
        assert!(meter.read(&mut [0; 8]).unwrap_err().to_string().contains("too many bytes"));
    }
}
