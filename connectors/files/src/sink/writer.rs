//! Writes one subtask's part files: the first phase.
//!
//! # What a checkpoint needs, and when it goes away
//! The writer's state names every file the checkpoint needs: those kept open, with their lengths, and those closed but
//! not known to be published. It is a union, so that after a restore every writer sees all of it.
//!
//! * A closed file is asked to be published again at every checkpoint until it is gone from its hidden name, so it
//!   does not matter whether the commit of an earlier checkpoint was lost.
//! * A kept file is copied up to its length under a new name when it is continued. The old one is deleted with the
//!   commit of the next checkpoint, from when on nothing needs it; one of another job, as after a restore from a
//!   savepoint, is left to its owner.
//! * Hidden files that the restored checkpoint does not name were written after it by a dead attempt, of
//!   this job or of the one that took the checkpoint; the writer that follows their subtask deletes them when it opens. The state is that of the checkpoint, so this neither depends on
//!   nor disturbs a committer at work. Files of later attempts are never touched, so a writer that is itself outdated
//!   does no harm.
//! * A writer that is dropped deletes what no checkpoint names.

use super::committer::publish;
use super::lock::FolderLock;
use super::open::{OpenPart, sync_folder};
use super::part::{Closed, Committable, Kept, Names, WriterState};
use super::{BucketBy, FileSink, RollingPolicy};
use crate::error::{Error, failed, shown, told};
use hurtig_dataflow::operator::{OpenContext, Place};
use hurtig_dataflow::sink::{SinkContext, SinkWriter};
use hurtig_dataflow::state::{Handle, ItemList};
use hurtig_dataflow::time::millis;
use hurtig_dataflow::{OpResult, Record, Rows, Timestamp};
use hurtig_formats::EncodeFormat;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Writes one subtask's part files.
pub(super) struct Writer<T, E: EncodeFormat<T>> {
    format: E,
    folder: PathBuf,
    rolling: RollingPolicy,
    bucket_by: Option<BucketBy<T>>,
    /// Whether files are published here, because there is no checkpoint to wait for.
    publishes: bool,
    names: Names,
    parallelism: usize,
    counter: u64,
    /// By bucket.
    open: BTreeMap<String, OpenPart<E::Encoder>>,
    /// Closed since the last checkpoint, and whether one names the file as still open.
    fresh: Vec<(Closed, bool)>,
    /// Named by a checkpoint, and not known to be published.
    closed: Vec<Closed>,
    /// Continued under another name.
    replaced: Vec<PathBuf>,
    state: Handle<ItemList<WriterState>>,
    /// Shares the folder until all else is dropped.
    _lock: FolderLock,
}

impl<T: Record, E: EncodeFormat<T>> Writer<T, E> {
    pub(super) fn new(sink: &FileSink<T, E>, folder: PathBuf, place: &Place) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::NotAFolder(shown(&folder)),
            _ => Error::io("write", &folder, error),
        })?;
        let lock = FolderLock::acquire(&folder, place)?;
        Ok(Writer {
            format: sink.format.clone(),
            folder,
            rolling: sink.rolling,
            bucket_by: sink.bucket_by.clone(),
            publishes: sink.publish_when_rolled && !place.checkpointing,
            names: Names::of(place),
            parallelism: place.parallelism.max(1),
            counter: 0,
            open: BTreeMap::new(),
            fresh: Vec::new(),
            closed: Vec::new(),
            replaced: Vec::new(),
            state: Handle::default(),
            _lock: lock,
        })
    }

    /// Where the next file of a bucket lies meanwhile and later. A name that is taken is passed over.
    fn next_paths(&mut self, bucket: &str) -> Result<(PathBuf, PathBuf), Error> {
        let folder = bucket_folder(&self.folder, bucket)?;
        fs::create_dir_all(&folder).map_err(failed("write", &folder))?;
        loop {
            let counter = self.counter;
            self.counter += 1;
            let from = self.names.in_progress(&folder, counter, self.format.extension());
            let to = self.names.published(&folder, counter, self.format.extension());
            if to.symlink_metadata().is_err() && from.symlink_metadata().is_err() {
                return Ok((from, to));
            }
        }
    }

    /// Writes a record to its bucket's file, which is begun if there is none.
    fn write_one(&mut self, bucket: &str, record: &T, now: Timestamp) -> OpResult {
        let part = match self.open.get_mut(bucket) {
            Some(part) => part,
            None => {
                let (from, to) = self.next_paths(bucket).map_err(told)?;
                let part = OpenPart::create(&self.format, from, to, now).map_err(told)?;
                self.open.entry(bucket.to_string()).or_insert(part)
            }
        };
        part.write(record)?;
        if part.bytes() >= self.rolling.bytes {
            self.close(bucket).map_err(told)?;
        }
        Ok(())
    }

    fn close(&mut self, bucket: &str) -> Result<(), Error> {
        let Some(part) = self.open.remove(bucket) else { return Ok(()) };
        let in_checkpoint = part.in_checkpoint;
        let closed = part.close()?;
        if self.publishes {
            publish(&closed)?;
        } else {
            self.fresh.push((closed, in_checkpoint));
        }
        Ok(())
    }

    fn close_all(&mut self, due: impl Fn(&OpenPart<E::Encoder>) -> bool) -> Result<(), Error> {
        let due = self.open.iter().filter(|(_, part)| due(part));
        let buckets: Vec<String> = due.map(|(bucket, _)| bucket.clone()).collect();
        buckets.iter().try_for_each(|bucket| self.close(bucket))
    }

    /// Takes over this writer's part of what the checkpoint names.
    fn restore(&mut self, states: &[WriterState]) -> Result<(), Error> {
        self.counter = states.iter().map(|state| state.counter).max().unwrap_or(0);
        let needed = states.iter().flat_map(|state| {
            let kept = state.kept.iter().map(|kept| &kept.path);
            kept.chain(state.closed.iter().map(|closed| &closed.from))
        });
        let restored_job = states.first().map_or("", |state| &state.job);
        self.delete_left_over(&self.folder, restored_job, &needed.collect())?;
        // Where snapshots were joined, several may name a file; the first decides whose it is.
        let mut seen = BTreeSet::new();
        for (at, state) in states.iter().enumerate() {
            let mine = at % self.parallelism == self.names.subtask;
            for closed in &state.closed {
                // What was published meanwhile is dropped at the next checkpoint.
                if seen.insert(&closed.from) && mine {
                    self.closed.push(closed.clone());
                }
            }
            for kept in &state.kept {
                if seen.insert(&kept.path) && mine {
                    self.go_on_with(kept)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on with a file kept open, in a copy.
    fn go_on_with(&mut self, kept: &Kept) -> Result<(), Error> {
        let (path, to) = self.next_paths(&kept.bucket)?;
        let part = OpenPart::continued(&self.format, path, to, kept.since, &kept.path, kept.bytes)?;
        let name = kept.path.file_name().and_then(|name| Names::parse(name.to_str()?));
        if name.is_some_and(|name| name.job == self.names.job) {
            self.replaced.push(kept.path.clone());
        }
        // At a smaller parallelism a bucket may have several.
        self.close(&kept.bucket)?;
        self.open.insert(kept.bucket.clone(), part);
        Ok(())
    }

    /// Deletes what dead predecessors wrote after the checkpoint.
    fn delete_left_over(
        &self,
        folder: &Path,
        restored_job: &str,
        needed: &BTreeSet<&PathBuf>,
    ) -> Result<(), Error> {
        for entry in folder.read_dir().map_err(failed("read", folder))? {
            let path = entry.map_err(failed("read", folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(name) = Names::parse(name) {
                if self.names.follows(&name, restored_job, self.parallelism) && !needed.contains(&path) {
                    remove(&path)?;
                }
            } else if self.bucket_by.is_some() && path.is_dir() && !path.is_symlink() {
                self.delete_left_over(&path, restored_job, needed)?;
            }
        }
        Ok(())
    }
}

/// Deletes a file that may be gone already.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}

/// The folder of a bucket, which lies in that of the sink.
fn bucket_folder(folder: &Path, bucket: &str) -> Result<PathBuf, Error> {
    let inside = Path::new(bucket).components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(folder.join(bucket)) } else { Err(Error::Bucket(bucket.to_string())) }
}

impl<T: Record, E: EncodeFormat<T>> SinkWriter<T> for Writer<T, E> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.state = ctx.states.union_list("files")?;
        let states = std::mem::take(&mut ctx.states.get_mut(self.state).items);
        self.restore(&states).map_err(told)
    }

    fn write(&mut self, batch: Rows<T>, ctx: &mut SinkContext<'_>) -> OpResult {
        for record in &batch.records {
            match &self.bucket_by {
                None => self.write_one("", record, ctx.now)?,
                Some(bucket_by) => {
                    let bucket = bucket_by(record);
                    self.write_one(&bucket, record, ctx.now)?;
                }
            }
        }
        Ok(())
    }

    fn prepare_commit(&mut self, ctx: &mut SinkContext<'_>) -> OpResult<Vec<Vec<u8>>> {
        if self.rolling.on_checkpoint {
            self.close_all(|_| true).map_err(told)?;
        }
        let mut kept = Vec::new();
        for (bucket, part) in &mut self.open {
            part.sync().map_err(told)?;
            part.in_checkpoint = true;
            let (path, bytes) = (part.path.clone(), part.bytes());
            kept.push(Kept { path, bucket: bucket.clone(), bytes, since: part.since });
        }
        self.closed.retain(|closed| closed.from.symlink_metadata().is_ok());
        self.closed.extend(self.fresh.drain(..).map(|(closed, _)| closed));
        let paths = kept.iter().map(|kept| &kept.path).chain(self.closed.iter().map(|closed| &closed.from));
        // With the folders in which those of buckets were made.
        let folders = paths.flat_map(|path| path.ancestors().skip(1));
        for folder in folders.filter(|folder| folder.starts_with(&self.folder)).collect::<BTreeSet<_>>() {
            sync_folder(folder).map_err(told)?;
        }
        let publish = self.closed.iter().cloned().map(Committable::Publish);
        let delete = self.replaced.iter().cloned().map(Committable::Delete);
        let committables = publish.chain(delete).map(|committable| rmp_serde::to_vec_named(&committable));
        let committables = committables.collect::<Result<Vec<_>, _>>()?;
        let job = self.names.job.clone();
        let state = WriterState { job, counter: self.counter, kept, closed: self.closed.clone() };
        ctx.states.get_mut(self.state).items = vec![state];
        self.replaced.retain(|path| path.symlink_metadata().is_ok());
        Ok(committables)
    }

    fn end(&mut self, _ctx: &mut SinkContext<'_>) -> OpResult {
        self.close_all(|_| true).map_err(told)
    }

    fn next_processing_time(&self) -> Option<Timestamp> {
        let every = millis(self.rolling.every?);
        self.open.values().map(|part| part.since.saturating_add(every)).min()
    }

    fn on_processing_time(&mut self, ctx: &mut SinkContext<'_>) -> OpResult {
        let Some(every) = self.rolling.every.map(millis) else { return Ok(()) };
        self.close_all(|part| part.since.saturating_add(every) <= ctx.now).map_err(told)
    }
}

impl<T, E: EncodeFormat<T>> Drop for Writer<T, E> {
    fn drop(&mut self) {
        let open = self.open.values().map(|part| (&part.path, part.in_checkpoint));
        let fresh = self.fresh.iter().map(|(closed, in_checkpoint)| (&closed.from, *in_checkpoint));
        for (path, _) in open.chain(fresh).filter(|(_, in_checkpoint)| !in_checkpoint) {
            let _ = fs::remove_file(path);
        }
    }
}
