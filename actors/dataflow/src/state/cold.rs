//! What is kept outside memory: the seam to a store on disk, and the memory that tables share.
//!
//! A row is in memory or in the store, never in both. What lies in the store is no part of fault tolerance: it goes with
//! the attempt, and a snapshot is made of both places.

use crate::error::BoxError;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A place outside memory, such as a file, for rows that memory has no room for.
pub trait ColdStore: Send + Sync {
    /// A new, empty table. It goes away, with all its rows, when it is dropped.
    ///
    /// # Errors
    /// The store cannot be used.
    fn table(&self) -> Result<Box<dyn ColdTable>, BoxError>;

    /// Bytes of memory that the store itself takes once it is used.
    fn memory(&self) -> usize {
        0
    }
}

/// A row outside memory. Rows are ordered by group, then key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdRow {
    /// Place of its key group in the range of the subtask.
    pub group: u16,
    /// The key as bytes.
    pub key: Vec<u8>,
    /// A number that says when it was changed last; 0 if that need not be known.
    pub changed: u64,
    /// The row as bytes.
    pub row: Vec<u8>,
}

/// Where a look through a key group's rows has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColdCursor {
    /// The number of the last row; 0 when the look is by key alone.
    pub changed: u64,
    /// The key of the last row.
    pub key: Vec<u8>,
}

/// Rows of one table that are outside memory.
pub trait ColdTable: Send {
    /// Adds rows, of which none is there.
    ///
    /// # Errors
    /// The store cannot be written to: the disk is full, for one.
    fn put(&mut self, rows: &[ColdRow]) -> Result<(), BoxError>;

    /// Takes rows out, named by group and key in their order; those that are not there are passed over.
    ///
    /// # Errors
    /// The store cannot be used.
    fn take(&mut self, keys: &[(u16, Vec<u8>)], out: &mut Vec<ColdRow>) -> Result<(), BoxError>;

    /// Up to `most` rows of a group that follow the cursor and have changed within `changed`. They come in the order of
    /// their keys if `by_key`, else of when they have changed, which costs no more than there are.
    ///
    /// # Errors
    /// The store cannot be used.
    fn scan(
        &self,
        group: u16,
        after: Option<&ColdCursor>,
        changed: RangeInclusive<u64>,
        by_key: bool,
        most: usize,
        out: &mut Vec<ColdRow>,
    ) -> Result<(), BoxError>;

    /// Forgets when rows have changed.
    ///
    /// # Errors
    /// The store cannot be used.
    fn forget_changes(&mut self) -> Result<(), BoxError>;

    /// Deletes all rows of groups.
    ///
    /// # Errors
    /// The store cannot be used.
    fn clear(&mut self, groups: RangeInclusive<u16>) -> Result<(), BoxError>;
}

/// Memory that the keyed state of all subtasks of a worker shares.
#[derive(Debug)]
pub struct StateMemory {
    limit: usize,
    used: AtomicUsize,
    holders: AtomicUsize,
}

impl StateMemory {
    /// So many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(StateMemory { limit, used: AtomicUsize::new(0), holders: AtomicUsize::new(0) })
    }

    /// Bytes there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use, as far as they are known: rows' own memory, such as that of strings, is estimated from samples.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// Numbers of state that is kept partly outside memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpillCounts {
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Rows outside memory.
    pub cold_rows: u64,
    /// Bytes of them.
    pub cold_bytes: u64,
    /// Bytes that were moved out of memory since the attempt began.
    pub written_bytes: u64,
    /// Bytes that were moved back.
    pub read_bytes: u64,
    /// Keys that were looked up while some were outside memory.
    pub lookups: u64,
    /// Of them, the ones that were looked for outside memory.
    pub misses: u64,
}

impl SpillCounts {
    /// The share of look-ups that memory alone has answered.
    pub fn hit_ratio(&self) -> f64 {
        match self.lookups {
            0 => 1.0,
            lookups => 1.0 - self.misses as f64 / lookups as f64,
        }
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: SpillCounts) {
        self.memory_bytes += other.memory_bytes;
        self.cold_rows += other.cold_rows;
        self.cold_bytes += other.cold_bytes;
        self.written_bytes += other.written_bytes;
        self.read_bytes += other.read_bytes;
        self.lookups += other.lookups;
        self.misses += other.misses;
    }
}

/// What the tables of one operator instance share: their part of the memory, and where the rest goes.
pub struct Spill {
    memory: Arc<StateMemory>,
    store: Box<dyn ColdStore>,
    own: AtomicUsize,
    is_holder: AtomicBool,
    is_store_counted: AtomicBool,
    pub(super) cold_rows: AtomicU64,
    pub(super) cold_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) misses: AtomicU64,
    has_failed: AtomicBool,
    error: Mutex<Option<BoxError>>,
}

impl Spill {
    /// Memory and a store for the tables of one operator instance.
    pub fn new(memory: Arc<StateMemory>, store: Box<dyn ColdStore>) -> Arc<Self> {
        Arc::new(Spill {
            memory,
            store,
            own: AtomicUsize::new(0),
            is_holder: AtomicBool::new(false),
            is_store_counted: AtomicBool::new(false),
            cold_rows: AtomicU64::new(0),
            cold_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    /// Its numbers.
    pub fn counts(&self) -> SpillCounts {
        SpillCounts {
            memory_bytes: self.own.load(Relaxed) as u64,
            cold_rows: self.cold_rows.load(Relaxed),
            cold_bytes: self.cold_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            lookups: self.lookups.load(Relaxed),
            misses: self.misses.load(Relaxed),
        }
    }

    /// A state has rows that take memory: from here on a part of it is this holder's.
    pub(super) fn hold(&self) {
        if !self.is_holder.swap(true, Relaxed) {
            self.memory.holders.fetch_add(1, Relaxed);
        }
    }

    /// A table of the store.
    pub(super) fn table(&self) -> Result<Box<dyn ColdTable>, BoxError> {
        let table = self.store.table()?;
        if !self.is_store_counted.swap(true, Relaxed) {
            self.adjust(0, self.store.memory());
        }
        Ok(table)
    }

    /// A table takes another amount of memory than it did.
    pub(super) fn adjust(&self, before: usize, now: usize) {
        for of in [&self.own, &self.memory.used] {
            if now > before {
                of.fetch_add(now - before, Relaxed);
            } else {
                of.fetch_sub(before - now, Relaxed);
            }
        }
    }

    /// Bytes this holder may have: what the others leave, and an equal share in any case.
    fn allowance(&self) -> usize {
        let own = self.own.load(Relaxed);
        let others = self.memory.used().saturating_sub(own);
        let share = self.memory.limit / self.memory.holders.load(Relaxed).max(1);
        self.memory.limit.saturating_sub(others).max(share)
    }

    /// Whether so many bytes more are within the allowance.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.own.load(Relaxed) + bytes <= self.allowance()
    }

    /// Notes that the store has failed: what was read since is not to be relied on, and the attempt must end.
    pub(super) fn fail(&self, error: BoxError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.has_failed.store(true, Relaxed);
    }

    /// The store's failure, if there was one.
    pub(super) fn take_error(&self) -> Option<BoxError> {
        if !self.has_failed.load(Relaxed) {
            return None;
        }
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        let own = self.own.load(Relaxed);
        self.adjust(own, 0);
        if self.is_holder.load(Relaxed) {
            self.memory.holders.fetch_sub(1, Relaxed);
        }
    }
}
