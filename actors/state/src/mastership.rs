//! Which of a job's masters may complete checkpoints: the one that came last.
//!
//! ```text
//! <location>/<job>/masters/<20 digits>          a claim: made once (`PutMode::Create`), by the master of this number
//! <location>/<job>/masters/<20 digits>.found    the checkpoints that its last attempt has found
//! ```
//!
//! A master claims the number after the newest one and only then looks which checkpoints there are. It writes down those
//! it has found, [confirms](Mastership::confirm) that no newer claim is there, and only then begins. To complete a
//! checkpoint a master publishes it and only then confirms again; what
//! the checkpoint holds for sinks is committed after that, or not at all.
//!
//! # Why it is safe
//! Let an older master find no newer claim. Then the newer one's claim comes later, so it looks for checkpoints later
//! still, finds the one that was published, and starts from it: what the older one commits belongs to the newer one's
//! past. If the older one finds a newer claim, it commits nothing.
//!
//! A checkpoint that an older master publishes too late, which is one that a newer one has not found, counts for nobody:
//! the newer one has deleted what sinks had prepared for it. It is not listed among what was found, and a master looks at
//! the newest such list that there is. One that has not written its list, or not confirmed it, has deleted nothing. So it
//! is with attempts of one master: each begins with a list of the checkpoints that are known to it.
//!
//! A savepoint with which a job stops is listed as well before it is committed: it lies elsewhere, and no master would look
//! for it there.
//!
//! # Decisions
//! * 2026-11: the lists. A late checkpoint has an older attempt, and so it was thought to count as older than all that come
//!   after it. Simulated clusters found that a newer master, or attempt, may end before it has completed any.
//!
//! The argument needs of the store that creation is exclusive and that a request sees what was answered before it.

use crate::directory::{Directory, join};
use crate::error::Error;
use crate::metadata::CheckpointMetadata;
use crate::store::CheckpointStore;
use bytes::Bytes;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId};
use object_store::PutMode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest claim.
const LIMIT_BYTES: u64 = 4 * 1024;

/// Longest list of checkpoints.
const FOUND_LIMIT_BYTES: u64 = 16 << 20;

const FOUND_SUFFIX: &str = ".found";

const FOUND_HEADING: &[u8] = b"hurtig found 1\n";

/// A master's claim to a job.
#[derive(Clone, Debug)]
pub struct Mastership {
    directory: Directory,
    number: u32,
    /// As it was written last.
    found: Arc<Mutex<Found>>,
}

impl CheckpointStore {
    /// Claims a job for a master, whose name is unlike all others'. Its number is the one wanted, or the one after the
    /// newest claim if that is greater.
    ///
    /// # Errors
    /// The store failed, and the call may be repeated; or another master has claimed the job meanwhile.
    pub async fn claim(&self, job: JobId, wanted: u32, master: &str) -> Result<Mastership, Error> {
        let directory = self.below(&format!("{job}/masters"));
        let content = Bytes::from(format!("hurtig master 1\n{master}\n"));
        loop {
            let number = newest(&directory).await?.map_or(wanted, |newest| wanted.max(newest + 1));
            match directory.put(&name(number), vec![content.clone()], PutMode::Create).await {
                Ok(()) => {}
                Err(Error::Conflict { .. }) => match directory.get(&name(number), LIMIT_BYTES).await {
                    // A first try has succeeded although its answer was lost.
                    Ok(found) if found == content => {}
                    Ok(_) | Err(Error::NotFound { .. }) => continue,
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
            let mastership = Mastership { directory, number, found: Arc::default() };
            mastership.confirm().await?;
            mastership.delete_older().await;
            return Ok(mastership);
        }
    }
}

impl Mastership {
    /// The master's number: greater than those of all masters before.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Finds out whether no other master has come since.
    ///
    /// # Errors
    /// [`Error::Deposed`]: one has, and this one is to end. The store failed: the call may be repeated.
    pub async fn confirm(&self) -> Result<(), Error> {
        // One whose claim is not there was followed by one that deleted it.
        match newest(&self.directory).await? {
            Some(newest) if newest == self.number => Ok(()),
            _ => Err(Error::Deposed { path: self.directory.url.clone() }),
        }
    }

    /// What this master has to go on from. Of attempts before `first_attempt`, checkpoints that later masters find and this
    /// one has not are too late from now on.
    ///
    /// # Errors
    /// The store failed, or another master has come: this one must not begin.
    pub async fn take_over(
        &self,
        store: &CheckpointStore,
        job: JobId,
        first_attempt: Attempt,
    ) -> Result<TakenOver, Error> {
        let before = self.newest_found().await?;
        let newest = store.checkpoint_ids(job).await?.into_iter().max().unwrap_or(0);
        let (mut completed, late): (Vec<_>, Vec<_>) =
            store.list(job).await?.into_iter().partition(|checkpoint| before.counts(checkpoint));
        let checkpoints = completed.iter().map(|found| (found.checkpoint, found.attempt)).collect();
        let savepoint = match before.savepoint {
            Some(stopped) if completed.first().is_none_or(|newest| stopped.is_newer_than(newest)) => {
                completed.insert(0, CheckpointStore::load(&stopped.location).await?.1);
                Some(stopped)
            }
            _ => None,
        };
        let next_checkpoint = before.next_checkpoint.max(newest.saturating_add(1));
        self.write_found(Found { first_attempt, next_checkpoint, checkpoints, savepoint }).await?;
        // What stays does no harm.
        self.delete_where(|file| number_found(file).is_some_and(|number| number < self.number)).await;
        for checkpoint in late {
            tracing::info!(%job, checkpoint = checkpoint.checkpoint, "a checkpoint of a deposed master is deleted");
            let _ = store.delete(&checkpoint).await;
        }
        Ok(TakenOver { completed, next_checkpoint })
    }

    /// Another attempt of this master begins, from one of these checkpoints: what attempts before it have published and
    /// this master does not know of is too late from now on.
    ///
    /// # Errors
    /// The store failed, or another master has come: the attempt must not begin.
    pub async fn begin(
        &self,
        attempt: Attempt,
        first_checkpoint: CheckpointId,
        completed: &[Arc<CheckpointMetadata>],
    ) -> Result<(), Error> {
        let checkpoints = completed.iter().filter(|known| !known.savepoint);
        let checkpoints = checkpoints.map(|known| (known.checkpoint, known.attempt)).collect();
        let savepoint = completed.iter().rfind(|known| known.savepoint).map(|known| StoppedWith::new(known));
        let found =
            Found { first_attempt: attempt, next_checkpoint: first_checkpoint, checkpoints, savepoint };
        self.write_found(found).await
    }

    /// The job stops with a savepoint, which was published. As [`confirm`](Mastership::confirm): what the savepoint holds
    /// for sinks may be committed after that. Should the job not get to its end, it goes on from the savepoint.
    ///
    /// # Errors
    /// As [`confirm`](Mastership::confirm).
    pub async fn stop_with(&self, savepoint: &CheckpointMetadata) -> Result<(), Error> {
        let found = Found { savepoint: Some(StoppedWith::new(savepoint)), ..self.found.lock().clone() };
        self.write_found(found).await
    }

    /// Writes it down, and makes sure that whoever comes reads it.
    async fn write_found(&self, found: Found) -> Result<(), Error> {
        self.directory.put(&found_name(self.number), vec![found.write()?], PutMode::Overwrite).await?;
        *self.found.lock() = found;
        self.confirm().await
    }

    /// What the last master has found that has come so far.
    async fn newest_found(&self) -> Result<Found, Error> {
        let files = self.directory.files().await?;
        let newest = files.iter().filter_map(|file| number_found(file.location.filename()?)).max();
        match newest {
            Some(number) => self.read_found(&found_name(number)).await,
            None => Ok(Found::default()),
        }
    }

    async fn read_found(&self, name: &str) -> Result<Found, Error> {
        let bytes = self.directory.get(name, FOUND_LIMIT_BYTES).await?;
        Found::read(&bytes).ok_or_else(|| Error::Corrupt {
            path: join(&self.directory.url, name),
            reason: "it does not list the checkpoints that a master has found".into(),
        })
    }

    /// The job has ended: deletes this master's claim, and those before. A master that is late finds that its own is not
    /// there. If the job has stopped with a savepoint they stay: a JobManager that has not heard of the end starts another
    /// master, which must not go on from a checkpoint before.
    ///
    /// # Errors
    /// [`Error::Deposed`]: for another master the job has not ended, and nothing is deleted. The store failed: the call may
    /// be repeated.
    pub async fn end(&self) -> Result<(), Error> {
        self.confirm().await?;
        if self.found.lock().savepoint.is_some() {
            return Ok(());
        }
        self.delete_where(|file| {
            number_of(file).or(number_found(file)).is_some_and(|number| number <= self.number)
        })
        .await;
        self.directory.remove_if_empty().await;
        Ok(())
    }

    /// Deletes claims of masters before. What stays does no harm.
    async fn delete_older(&self) {
        self.delete_where(|file| number_of(file).is_some_and(|number| number < self.number)).await;
    }

    async fn delete_where(&self, is_old: impl Fn(&str) -> bool) {
        for file in self.directory.files().await.unwrap_or_default() {
            if let Some(old) = file.location.filename().filter(|file| is_old(file)) {
                let _ = self.directory.remove_file(old).await;
            }
        }
    }
}

/// What a master goes on from.
#[derive(Clone, Debug)]
pub struct TakenOver {
    /// The completed checkpoints that count, newest first.
    pub completed: Vec<CheckpointMetadata>,
    /// The number of its next checkpoint. None was ever found that had it, so that a checkpoint is never deleted for
    /// another one of the same number, however late the store does it.
    pub next_checkpoint: CheckpointId,
}

/// The checkpoints that an attempt has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Found {
    /// The attempt, or the first one of its master.
    first_attempt: Attempt,
    /// No checkpoint before its master's first has this number or a greater one.
    next_checkpoint: CheckpointId,
    checkpoints: Vec<(CheckpointId, Attempt)>,
    /// The savepoint with which the job was to stop.
    savepoint: Option<StoppedWith>,
}

/// A savepoint whose content for sinks may have been committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoppedWith {
    checkpoint: CheckpointId,
    attempt: Attempt,
    location: String,
}

impl StoppedWith {
    fn new(savepoint: &CheckpointMetadata) -> Self {
        StoppedWith {
            checkpoint: savepoint.checkpoint,
            attempt: savepoint.attempt,
            location: savepoint.location.clone(),
        }
    }

    /// As by [`CheckpointMetadata::age`].
    fn is_newer_than(&self, other: &CheckpointMetadata) -> bool {
        (self.attempt, self.checkpoint) > (other.attempt, other.checkpoint)
    }
}

impl Found {
    /// Whether a checkpoint is one of them, or of that master or later ones.
    fn counts(&self, checkpoint: &CheckpointMetadata) -> bool {
        let found = (checkpoint.checkpoint, checkpoint.attempt);
        checkpoint.attempt >= self.first_attempt || self.checkpoints.contains(&found)
    }

    fn write(&self) -> Result<Bytes, Error> {
        let mut bytes = FOUND_HEADING.to_vec();
        rmp_serde::encode::write(&mut bytes, self).map_err(|error| Error::Corrupt {
            path: "the list of a job's checkpoints".into(),
            reason: error.to_string(),
        })?;
        Ok(bytes.into())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes.strip_prefix(FOUND_HEADING)?).ok()
    }
}

async fn newest(directory: &Directory) -> Result<Option<u32>, Error> {
    let files = directory.files().await?;
    Ok(files.iter().filter_map(|file| number_of(file.location.filename()?)).max())
}

fn name(number: u32) -> String {
    format!("{number:020}")
}

fn found_name(number: u32) -> String {
    format!("{number:020}{FOUND_SUFFIX}")
}

fn number_found(file: &str) -> Option<u32> {
    number_of(file.strip_suffix(FOUND_SUFFIX)?)
}

fn number_of(name: &str) -> Option<u32> {
    // One beyond which there is no other would end the job: no master has made it.
    name.parse().ok().filter(|number| name.len() == 20 && *number < u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::METADATA_VERSION;

    fn store() -> (tempfile::TempDir, CheckpointStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(directory.path().to_str().unwrap()).unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn who_comes_later_deposes_who_was_there() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(first.number(), 1);
        first.confirm().await.unwrap();

        let second = store.claim(JobId(7), 1, "b").await.unwrap();
        assert_eq!(second.number(), 2);
        second.confirm().await.unwrap();
        assert!(matches!(first.confirm().await, Err(Error::Deposed { .. })));
    }

    #[tokio::test]
    async fn a_number_that_is_wanted_is_given_unless_it_is_taken() {
        let (_directory, store) = store();
        assert_eq!(store.claim(JobId(7), 5, "a").await.unwrap().number(), 5);
        assert_eq!(store.claim(JobId(7), 3, "b").await.unwrap().number(), 6);
        assert_eq!(store.claim(JobId(8), 3, "c").await.unwrap().number(), 3);
    }

    #[tokio::test]
    async fn a_claim_that_was_deleted_and_made_again_is_worth_nothing() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        let second = store.claim(JobId(7), 1, "b").await.unwrap();
        let content = Bytes::from_static(b"hurtig master 1\na\n");
        first.directory.put(&name(1), vec![content], PutMode::Create).await.unwrap();
        assert!(first.confirm().await.is_err());
        second.confirm().await.unwrap();
    }

    /// A checkpoint without operators.
    async fn publish(store: &CheckpointStore, checkpoint: CheckpointId, attempt: u32) {
        store.publish(&metadata(checkpoint, attempt)).await.unwrap();
    }

    fn metadata(checkpoint: CheckpointId, attempt: u32) -> CheckpointMetadata {
        CheckpointMetadata {
            job: JobId(7),
            checkpoint,
            attempt: Attempt(attempt),
            version: METADATA_VERSION,
            savepoint: false,
            triggered_at: 1,
            completed_at: 2,
            max_parallelism: 128,
            key_hash_version: 1,
            is_final: false,
            vertices: Vec::new(),
            sources: Vec::new(),
            location: String::new(),
        }
    }

    /// Has the job stop with a savepoint.
    async fn stop(store: &CheckpointStore, mastership: &Mastership, checkpoint: CheckpointId, attempt: u32) {
        let mut savepoint = CheckpointMetadata { savepoint: true, ..metadata(checkpoint, attempt) };
        savepoint.location = store.publish(&savepoint).await.unwrap();
        mastership.stop_with(&savepoint).await.unwrap();
    }

    async fn takes_over(store: &CheckpointStore, mastership: &Mastership, attempt: u32) -> (Vec<u64>, u64) {
        let taken = mastership.take_over(store, JobId(7), Attempt(attempt)).await.unwrap();
        (taken.completed.iter().map(|found| found.checkpoint).collect(), taken.next_checkpoint)
    }

    #[tokio::test]
    async fn what_a_deposed_master_publishes_counts_for_no_later_one() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(takes_over(&store, &first, 10).await, (vec![], 1));
        publish(&store, 1, 10).await;
        let second = store.claim(JobId(7), 2, "b").await.unwrap();
        // Of a master that was deposed before the second has looked: it counts.
        publish(&store, 2, 11).await;
        assert_eq!(takes_over(&store, &second, 20).await, (vec![2, 1], 3));
        publish(&store, 3, 11).await;
        let third = store.claim(JobId(7), 3, "c").await.unwrap();
        assert!(second.take_over(&store, JobId(7), Attempt(20)).await.is_err());
        assert_eq!(takes_over(&store, &third, 30).await, (vec![2, 1], 4));
        // It was deleted, and its number is not given again, although the third has completed none.
        let fourth = store.claim(JobId(7), 4, "d").await.unwrap();
        assert_eq!(takes_over(&store, &fourth, 40).await, (vec![2, 1], 4));
        publish(&store, 4, 40).await;
        let fifth = store.claim(JobId(7), 5, "e").await.unwrap();
        assert_eq!(takes_over(&store, &fifth, 50).await, (vec![4, 2, 1], 5));
    }

    #[tokio::test]
    async fn what_an_attempt_publishes_after_the_next_has_begun_counts_for_no_later_master() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(takes_over(&store, &first, 10).await, (vec![], 1));
        publish(&store, 1, 10).await;
        let known: Vec<_> = store.list(JobId(7)).await.unwrap().into_iter().map(Arc::new).collect();
        first.begin(Attempt(11), 1, &known).await.unwrap();
        publish(&store, 2, 10).await;
        let second = store.claim(JobId(7), 2, "b").await.unwrap();
        assert!(first.begin(Attempt(12), 1, &known).await.is_err());
        assert_eq!(takes_over(&store, &second, 20).await, (vec![1], 3));
    }

    #[tokio::test]
    async fn a_master_that_ends_before_it_has_begun_makes_nothing_late() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(takes_over(&store, &first, 10).await, (vec![], 1));
        store.claim(JobId(7), 2, "b").await.unwrap();
        publish(&store, 1, 10).await;
        let third = store.claim(JobId(7), 3, "c").await.unwrap();
        assert_eq!(takes_over(&store, &third, 30).await, (vec![1], 2));
    }

    #[test]
    fn what_was_found_is_read_as_it_was_written() {
        let stopped = StoppedWith { checkpoint: 8, attempt: Attempt(6), location: "there".into() };
        let checkpoints = vec![(8, Attempt(6)), (2, Attempt(1))];
        let full =
            Found { first_attempt: Attempt(7), next_checkpoint: 9, checkpoints, savepoint: Some(stopped) };
        for found in [Found::default(), full] {
            let written = found.write().unwrap();
            assert_eq!(Found::read(&written), Some(found));
            assert_eq!(Found::read(&written[1..]), None);
            assert_eq!(Found::read(&written[..written.len() - 1]), None);
        }
    }

    #[tokio::test]
    async fn a_job_that_does_not_get_to_its_end_goes_on_from_the_savepoint_it_stopped_with() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(takes_over(&store, &first, 10).await, (vec![], 1));
        publish(&store, 1, 10).await;
        stop(&store, &first, 2, 10).await;
        let second = store.claim(JobId(7), 2, "b").await.unwrap();
        let taken = second.take_over(&store, JobId(7), Attempt(20)).await.unwrap();
        assert_eq!(taken.completed.iter().map(|found| found.savepoint).collect::<Vec<_>>(), [true, false]);
        // As long as it is the newest.
        let third = store.claim(JobId(7), 3, "c").await.unwrap();
        assert_eq!(takes_over(&store, &third, 30).await.0, [2, 1]);
        publish(&store, 3, 30).await;
        let fourth = store.claim(JobId(7), 4, "d").await.unwrap();
        assert_eq!(takes_over(&store, &fourth, 40).await.0, [3, 1]);
    }

    #[tokio::test]
    async fn a_deposed_master_ends_the_job_for_nobody() {
        let (_directory, store) = store();
        let first = store.claim(JobId(7), 1, "a").await.unwrap();
        assert_eq!(takes_over(&store, &first, 10).await, (vec![], 1));
        let second = store.claim(JobId(7), 2, "b").await.unwrap();
        assert_eq!(takes_over(&store, &second, 20).await, (vec![], 1));
        assert!(matches!(first.end().await, Err(Error::Deposed { .. })));
        second.confirm().await.unwrap();
        second.end().await.unwrap();
        assert!(second.directory.files().await.unwrap().is_empty());

        let third = store.claim(JobId(7), 3, "c").await.unwrap();
        publish(&store, 1, 30).await;
        stop(&store, &third, 2, 30).await;
        third.end().await.unwrap();
        let fourth = store.claim(JobId(7), 4, "d").await.unwrap();
        assert_eq!(takes_over(&store, &fourth, 40).await.0, [2, 1]);
    }

    #[tokio::test]
    async fn of_many_that_come_at_once_one_is_left() {
        let (_directory, store) = store();
        let claims = (0..20).map(|master| {
            let store = &store;
            async move { store.claim(JobId(7), 1, &master.to_string()).await }
        });
        let claims = futures::future::join_all(claims).await;
        let left: Vec<Mastership> = claims.into_iter().flatten().collect();
        let newest = left.iter().map(Mastership::number).max().unwrap();
        for mastership in left {
            assert_eq!(mastership.confirm().await.is_ok(), mastership.number() == newest);
        }
    }
}
