//! Hostile content under checksums that are right: readers say what is wrong, and neither panic nor believe lengths.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::codec::{CHANGE_BYTES, checksum};
use super::files::{Faults, Files, StoreFile};
use super::sector::{SECTOR, Salt};
use super::segment::{self, Next, Segment};
use super::snapshot;
use super::{Place, StoreId};
use crate::embedded::OpenError;
use crate::embedded::change::Change;

const STORE: StoreId = StoreId([3; 16]);

fn files() -> (TempDir, Files) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let files = Files::new(directory.path(), Faults::default());
    (directory, files)
}

fn put(revision: u64, key: &str, value: &'static [u8]) -> Change {
    let (key, value) = (Arc::from(key), Some(Bytes::from_static(value)));
    Change { revision, create_revision: revision, expires: None, key, value }
}

fn reader(files: &Files) -> Result<segment::Reader, OpenError> {
    segment::Reader::new(files.open_to_read(&segment::name(1)).unwrap(), STORE, Place::beginning(STORE))
}

/// Reads a segment to its end and returns how many changes it has.
fn count(files: &Files) -> Result<usize, OpenError> {
    let (mut reader, mut place, mut count) = (reader(files)?, Place::beginning(STORE), 0);
    loop {
        match reader.next(place)? {
            Next::Record(record) => {
                place = record.after;
                count += record.changes.len();
            }
            Next::End { .. } => return Ok(count),
        }
    }
}

fn is_damage(err: &OpenError) -> bool {
    matches!(err, OpenError::Damaged { .. })
}

/// Puts a record of any bytes into a segment, cut into sectors as they should be.
fn plant(files: &Files, bytes: &[u8]) {
    let mut segment = Segment::create(files, STORE, Place::beginning(STORE), 64 << 10, 0).unwrap();
    segment.append(1, bytes).unwrap();
}

#[test]
fn records_read_as_they_were_written() {
    let (_directory, files) = files();
    let mut place = Place::beginning(STORE);
    let mut segment = Segment::create(&files, STORE, place, 64 << 10, 0).unwrap();
    for number in 0..5 {
        let changes: Vec<_> = (0..number).map(|at| put(place.revision + 1 + at, "/a", &[1; 700])).collect();
        let (bytes, after) = segment::encode(place, None, &changes);
        assert!(segment.fits(bytes.len()));
        segment.append(after.record, &bytes).unwrap();
        place = after;
    }
    assert_eq!(count(&files).unwrap(), 10);
    assert_eq!(place.record, 5);
}

proptest! {
    #[test]
    fn a_record_of_any_bytes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 1..1500)) {
        let (_directory, files) = files();
        plant(&files, &bytes);
        // It may look like the beginning of a longer one.
        prop_assert!(count(&files).map_or_else(|err| is_damage(&err), |count| count == 0));
    }

    #[test]
    fn a_record_whose_checksum_was_made_to_fit_is_read_or_refused(
        tail in prop::collection::vec(any::<u8>(), 0..300),
        numbers in prop::array::uniform3(0u64..4),
    ) {
        let (_directory, files) = files();
        let mut bytes = (tail.len() as u32).to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend(&tail);
        let sum = checksum(Place::beginning(STORE).checksum, &[&bytes[..4], &bytes[8..]]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        plant(&files, &bytes);
        prop_assert!(count(&files).map_or_else(|err| is_damage(&err), |count| count == 0));
    }

    #[test]
    fn a_snapshot_of_any_blocks_is_refused(
        blocks in prop::collection::vec((0u32..5, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..4),
    ) {
        let (directory, files) = files();
        let file = files.create("snapshot").unwrap();
        let header = snapshot::Header { store: STORE, place: Place::beginning(STORE), oldest: 1, made: 0 };
        snapshot::Writer::new(&file, &header).unwrap();
        let mut bytes = fs::read(directory.path().join("snapshot")).unwrap();
        let mut sum = u32::from_le_bytes(*bytes.last_chunk().unwrap());
        for (kind, content, lies) in blocks {
            let length = if lies { u32::MAX } else { content.len() as u32 };
            let head = [kind.to_le_bytes(), length.to_le_bytes()].concat();
            sum = checksum(sum, &[&head, &content]);
            bytes.extend(head);
            bytes.extend(sum.to_le_bytes());
            bytes.extend(content);
        }
        fs::write(directory.path().join("snapshot"), bytes).unwrap();
        let read = snapshot::Reader::new(files.open_to_read("snapshot").unwrap()).and_then(|reader| reader.read(|_| {}));
        prop_assert!(is_damage(&read.unwrap_err()));
    }

    #[test]
    fn files_of_any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (directory, files) = files();
        fs::write(directory.path().join(segment::name(1)), &bytes).unwrap();
        prop_assert!(count(&files).is_err());
        let file = fs::File::open(directory.path().join(segment::name(1))).unwrap();
        prop_assert!(snapshot::Reader::new(StoreFile::from_file(file, "any".into())).is_err());
        prop_assert!(super::Mark::read(&files.open_to_read(&segment::name(1)).unwrap()).is_err());
    }
}

#[test]
fn a_segment_of_a_newer_version_is_told_apart_from_damage() {
    let (directory, files) = files();
    drop(Segment::create(&files, STORE, Place::beginning(STORE), 4096, 0).unwrap());
    let path = directory.path().join(segment::name(1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&9_u32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(count(&files), Err(OpenError::Damaged { .. })));
    let sector = Salt::new(STORE, 1).cut(0, &bytes[8..SECTOR], 0);
    bytes[..SECTOR].copy_from_slice(&sector);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(count(&files), Err(OpenError::Version { found: 9, .. })));
}

#[test]
fn what_a_change_takes_beside_its_content_is_known() {
    let mut bytes = Vec::new();
    put(2, "", b"").encode(&mut bytes);
    assert_eq!(bytes.len(), CHANGE_BYTES);
}
