//! The durable log: one SQLite table with a row for each revision that is still of use.
//!
//! A row is a write: `value` is null for a delete. Rows are only ever appended, and removed once compacted; so a commit
//! touches one end of one B-tree. A transaction is durable when [`Database::commit`] returns (`synchronous=FULL`).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, params};

use super::OpenError;
use crate::Revision;

/// Marks the file as ours ("Crcl").
const APPLICATION_ID: i64 = 0x4372_636c;
/// The version of the tables below.
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    PRAGMA journal_mode = MEMORY;
    PRAGMA synchronous = OFF;
    BEGIN IMMEDIATE;
    PRAGMA application_id = 0x4372636c;
    PRAGMA user_version = 1;
    CREATE TABLE changes (
        revision        INTEGER PRIMARY KEY,
        create_revision INTEGER NOT NULL,
        expires         INTEGER,
        key             TEXT NOT NULL,
        value           BLOB
    ) STRICT;
    CREATE TABLE state (compacted INTEGER NOT NULL) STRICT;
    INSERT INTO state VALUES (1);
    COMMIT;
    PRAGMA journal_mode = WAL;
";
/// Checkpoints are ours to time; a commit waits for the disk.
const SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -4096;
";

/// A row of the log.
pub(super) struct Change {
    pub(super) revision: Revision,
    pub(super) create_revision: Revision,
    /// When the key is to be deleted, in seconds since 1970.
    pub(super) expires: Option<u64>,
    pub(super) key: Arc<str>,
    /// `None` for a delete.
    pub(super) value: Option<Bytes>,
}

/// What one transaction changes.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) append: Vec<Change>,
    /// Rows that nothing refers to any more.
    pub(super) remove: Vec<Revision>,
    /// The oldest revision that can still be read afterwards.
    pub(super) compacted: Option<Revision>,
}

/// An open, locked database.
pub(super) struct Database {
    connection: Connection,
    /// How many pages the write-ahead log has since the last commit.
    log_pages: Arc<AtomicUsize>,
    path: PathBuf,
    /// Held for as long as the database is open.
    _lock: Option<File>,
}

impl Database {
    /// Opens, or creates, the database in a directory, and keeps every other process out of it.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| OpenError::Directory { path: directory.into(), source })?;
        let lock = lock(&directory.join("store.lock"))?;
        let path = directory.join("store.db");
        if is_empty(&path) {
            let log = directory.join("store.db-wal");
            if !is_empty(&log) {
                // SQLite would play it into the new database.
                return Err(OpenError::Orphan { path: log });
            }
            create(directory, &path)?;
        }
        let connection = connect(&path)?;
        let mut database = Self { connection, log_pages: Arc::default(), path, _lock: Some(lock) };
        database.prepare()?;
        Ok(database)
    }

    /// Prepares the file for use, or refuses it, unchanged, when it is not ours.
    fn prepare(&mut self) -> Result<(), OpenError> {
        let fail = |source| database_error(&self.path, source);
        let connection = &self.connection;
        let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        match (application, version) {
            (APPLICATION_ID, SCHEMA_VERSION) => {}
            (APPLICATION_ID, found) => {
                return Err(OpenError::Version { path: self.path.clone(), found, known: SCHEMA_VERSION });
            }
            _ => return Err(OpenError::Foreign { path: self.path.clone() }),
        }
        connection.execute_batch(SETTINGS).map_err(fail)?;
        let log_pages = self.log_pages.clone();
        let note = move |_: &mut Wal, pages| {
            log_pages.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        self.connection.wal_hook(Some(note)).map_err(|source| database_error(&self.path, source))
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The oldest revision that can be read.
    pub(super) fn compacted(&self) -> Result<Revision, OpenError> {
        self.connection
            .query_row("SELECT compacted FROM state", [], |row| unsigned(row.get(0)?))
            .map_err(|source| database_error(&self.path, source))
    }

    /// Reads the whole log, oldest first.
    pub(super) fn load(&self, mut each: impl FnMut(Change)) -> Result<(), OpenError> {
        let fail = |source| database_error(&self.path, source);
        let mut statement = self
            .connection
            .prepare("SELECT revision, create_revision, expires, key, value FROM changes ORDER BY revision")
            .map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            each(read_change(row).map_err(fail)?);
        }
        Ok(())
    }

    /// Commits a transaction; it is on disk when this returns.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> rusqlite::Result<()> {
        let sql = self.connection.transaction()?;
        {
            let mut insert = sql.prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for change in &transaction.append {
                insert.execute(params![
                    signed(change.revision),
                    signed(change.create_revision),
                    change.expires.map(signed),
                    &*change.key,
                    change.value.as_deref(),
                ])?;
            }
            let mut remove = sql.prepare_cached("DELETE FROM changes WHERE revision = ?1")?;
            for &revision in &transaction.remove {
                remove.execute([signed(revision)])?;
            }
            if let Some(compacted) = transaction.compacted {
                sql.prepare_cached("UPDATE state SET compacted = ?1")?.execute([signed(compacted)])?;
            }
        }
        sql.commit()
    }

    /// How many pages the write-ahead log had after the last commit.
    pub(super) fn log_pages(&self) -> usize {
        self.log_pages.load(Ordering::Relaxed)
    }

    /// Moves the write-ahead log into the database file; the next commit starts it anew.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        checkpoint(&self.connection)
    }

    /// Empties the write-ahead log and closes the file.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection.close().map_err(|(_, err)| err)
    }
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |file| file.len() == 0)
}

/// Creates a database aside and puts it in place when it is complete: two waits for the disk rather than ten.
fn create(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let new = directory.join("store.db.new");
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::File { path, source }
    };
    // An earlier attempt may have been cut short.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(fail(&new))?;
    let connection = connect(&new)?;
    connection.execute_batch(SCHEMA).map_err(|source| database_error(&new, source))?;
    connection.close().map_err(|(_, source)| database_error(&new, source))?;
    file.sync_all().map_err(fail(&new))?;
    fs::rename(&new, path).map_err(fail(path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail(directory))
}

/// Opens a connection to an existing file.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    };
    open().map_err(|source| database_error(path, source))
}

/// Moves committed pages from the write-ahead log into the database file, without waiting for anyone.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let fail = |source| OpenError::File { path: path.into(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

fn database_error(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { path: path.into() },
        _ => OpenError::Database { path: path.into(), source },
    }
}

fn read_change(row: &rusqlite::Row<'_>) -> rusqlite::Result<Change> {
    Ok(Change {
        revision: unsigned(row.get(0)?)?,
        create_revision: unsigned(row.get(1)?)?,
        expires: row.get::<_, Option<i64>>(2)?.map(unsigned).transpose()?,
        key: row.get_ref(3)?.as_str()?.into(),
        value: row.get_ref(4)?.as_blob_or_null()?.map(Bytes::copy_from_slice),
    })
}

/// SQLite's integers are signed; revisions and times stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> rusqlite::Result<u64> {
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))
}
