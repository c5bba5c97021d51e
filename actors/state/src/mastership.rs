//! Which of a job's masters may complete checkpoints: the one that came last.
//!
//! ```text
//! <location>/<job>/masters/<20 digits>    a claim: made once (`PutMode::Create`), by the master of this number
//! ```
//!
//! A master claims the number after the newest one and only then looks which checkpoints there are. To complete a
//! checkpoint a master publishes it and only then [confirms](Mastership::confirm) that no newer claim is there; what
//! the checkpoint holds for sinks is committed after that, or not at all.
//!
//! # Why it is safe
//! Let an older master find no newer claim. Then the newer one's claim comes later, so it looks for checkpoints later
//! still, finds the one that was published, and starts from it: what the older one commits belongs to the newer one's
//! past. If the older one finds a newer claim, it commits nothing.
//!
//! A checkpoint that an older master publishes too late stays. It has that master's attempt, and of two checkpoints the
//! one of the newer attempt counts as the newer, whatever their numbers.
//!
//! The argument needs of the store that creation is exclusive and that a request sees what was answered before it.

use crate::directory::Directory;
use crate::error::Error;
use crate::store::CheckpointStore;
use bytes::Bytes;
use hurtig_dataflow::ids::JobId;
use object_store::PutMode;

/// Longest claim.
const LIMIT_BYTES: u64 = 4 * 1024;

/// A master's claim to a job.
#[derive(Clone, Debug)]
pub struct Mastership {
    directory: Directory,
    number: u32,
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
            let mastership = Mastership { directory, number };
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

    /// Deletes the claims to a job that has ended. A master that is late finds that its own is not there.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn end(&self) -> Result<(), Error> {
        self.directory.remove_all().await
    }

    /// Deletes claims of masters before. What stays does no harm.
    async fn delete_older(&self) {
        for file in self.directory.files().await.unwrap_or_default() {
            if let Some(older) = file.location.filename().filter(|file| number_of(file) < Some(self.number)) {
                let _ = self.directory.remove_file(older).await;
            }
        }
    }
}

async fn newest(directory: &Directory) -> Result<Option<u32>, Error> {
    let files = directory.files().await?;
    Ok(files.iter().filter_map(|file| number_of(file.location.filename()?)).max())
}

fn name(number: u32) -> String {
    format!("{number:020}")
}

fn number_of(name: &str) -> Option<u32> {
    // One beyond which there is no other would end the job: no master has made it.
    name.parse().ok().filter(|number| name.len() == 20 && *number < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
