//! Who leads: election among standby JobManagers by objects in the checkpoint store. It asks of the store what local
//! files and S3 both give: an object is created by one only, and a request sees what was answered before it.
//!
//! ```text
//! <location>/leader/epoch-<20 digits>   a claim: made once (`PutMode::Create`), by the one who leads in this epoch
//! <location>/leader/beat-<20 digits>    its heartbeat: written again and again by the same one, never by another
//! ```
//!
//! A contender looks at the newest epoch. When its heartbeat has not changed for the lease's duration, by the
//! contender's own clock, it claims the next epoch. So no two clocks need agree on the time. The leader renews: it
//! writes its heartbeat and then looks for a newer epoch. If there is none it leads for the lease's duration, less a
//! margin, from before the write; if there is one it has been deposed, for good. The newest claim is never deleted,
//! so epochs only grow; a leader deletes those before its own.
//!
//! # Why it is safe
//! *One epoch has one leader*, since its claim is created once. A contender that slept while its epoch was claimed,
//! followed and deleted can create it again, but looks for a newer one afterwards and finds it.
//!
//! *Two leaders never act at once.* Let B claim the epoch after A's. A's right to act stems from a renewal: a
//! heartbeat written, then no newer epoch found. If the heartbeat was answered before B's last look ahead of its
//! claim, B saw it there, or an equal one, at least the lease's duration ago, so A's right is over. If it was answered
//! later, B looks at it once more after the claim. If that look shows another heartbeat than before, B waits for the
//! lease's duration from its claim; A's right, which began before the claim was there to be found, ends by then. If
//! that look shows no other, A's heartbeat is answered after it, so A looks for a newer epoch after B's claim, finds
//! it, and has no right.
//!
//! # Its limits
//! * Clocks that run at rates more than a tenth apart break the second argument.
//! * Acting takes time. A leader that is stopped between looking at [`Lease::leads_until`] and what it does then
//!   acts too late, as with every lease. So what a leader does is to carry its epoch, and who is asked refuses an
//!   epoch older than the newest it has seen. The lease makes two leaders rare; the epoch makes them harmless.
//! * A store that shows old content (network file systems that cache directories, object stores without
//!   strong consistency), or in which a request takes effect after it was given up, breaks the second argument too.
//!   The first one needs no more than that creation is exclusive and that listing shows old claims.
//! * A leader that dies is followed after the lease's duration and up to a quarter of it for the look that saw its
//!   last heartbeat.

mod election;

use crate::directory::{Directory, is_file_name};
use crate::error::Error;
use crate::store::CheckpointStore;
use bytes::Bytes;
use election::{Election, Next, Seen};
use hurtig_dataflow::ids::LeaderEpoch;
use object_store::PutMode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest claim or heartbeat.
const LIMIT_BYTES: u64 = 4 * 1024;

/// Time since some fixed moment, by a clock that is never set.
pub type MonotonicClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Who contends, and for how long a lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Name of the contender, unique for ever: another one for each start of a process.
    pub holder: String,
    /// Where others reach it.
    pub address: String,
    /// How long a leader may be silent before it is followed. All contenders must have the same. The leader is to
    /// renew about three times within it.
    pub duration: Duration,
}

/// A leader, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The epoch that it claimed.
    pub epoch: LeaderEpoch,
    /// Its name; empty if its claim cannot be read.
    pub holder: String,
    /// Where it is reached; empty if its claim cannot be read.
    pub address: String,
}

/// What a contender is after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads, until [`Lease::leads_until`].
    Leading(LeaderEpoch),
    /// It does not, or not yet.
    Standby {
        /// Who has claimed the newest epoch, which may be this one; `None` if nobody ever has.
        leader: Option<Leader>,
        /// When to look again.
        look_again_in: Duration,
    },
}

/// What has become of a lease that was to be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It holds, until [`Lease::leads_until`].
    Leading(LeaderEpoch),
    /// It is lost for good: stop what the leader does. To contend again, [`acquire`](Lease::acquire).
    Deposed {
        /// Who has followed; `None` if this contender did not lead at all.
        by: Option<Leader>,
    },
}

/// A contender's part in the election. It acts only when called.
///
/// ```
/// # use hurtig_state::CheckpointStore;
/// use hurtig_state::lease::{Lease, LeaseOptions, Standing};
/// use std::{sync::Arc, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), hurtig_state::Error> {
/// # let started = tokio::time::Instant::now();
/// let store = CheckpointStore::open("memory:lease-example")?;
/// let options = LeaseOptions {
///     holder: "jobmanager-1-7f3a".into(),
///     address: "10.0.0.1:6123".into(),
///     duration: Duration::from_secs(15),
/// };
/// let mut lease = Lease::new(&store, options, Arc::new(move || started.elapsed()))?;
/// let standing = lease.acquire().await?;
/// assert!(matches!(standing, Standing::Leading(epoch) if epoch.0 == 1));
/// lease.release().await?;
/// # Ok(())
/// # }
/// ```
pub struct Lease {
    directory: Directory,
    options: LeaseOptions,
    clock: MonotonicClock,
    election: Election,
    beats: u64,
}

impl Lease {
    /// A contender for the one election of a checkpoint store.
    ///
    /// # Errors
    /// The holder or its address has a line break or is longer than 1,024 bytes.
    pub fn new(store: &CheckpointStore, options: LeaseOptions, clock: MonotonicClock) -> Result<Self, Error> {
        for text in [&options.holder, &options.address] {
            if text.contains('\n') || text.len() > 1024 {
                return Err(Error::InvalidHolder { text: text.clone() });
            }
        }
        let election = Election::new(options.duration);
        Ok(Lease { directory: store.below("leader"), options, clock, election, beats: 0 })
    }

    /// Looks who leads, and claims the next epoch if nobody does any more. A claim that has to wait for the former
    /// leader's right to end is [`Standby`](Standing::Standby) with this contender as the leader.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn acquire(&mut self) -> Result<Standing, Error> {
        if self.election.epoch().is_some()
            && let Renewal::Leading(_) = self.renew().await?
        {
            return self.standing().await;
        }
        let started = (self.clock)();
        let seen = self.look().await?;
        if let Next::Claim(epoch) = self.election.on_seen(&seen, started, (self.clock)())
            && self.claim(epoch).await?
        {
            let claimed = (self.clock)();
            let former = self.beat_of(seen.epoch).await?;
            self.election.on_claimed(epoch, former.as_ref() == seen.beat.as_ref(), claimed);
            if let Renewal::Leading(_) = self.renew().await? {
                self.delete_before(epoch).await;
            }
        }
        self.standing().await
    }

    /// Tells the others that the leader is alive, and looks whether they have elected another one.
    ///
    /// # Errors
    /// The store failed: the lease holds until [`leads_until`](Self::leads_until), and the call may be repeated.
    pub async fn renew(&mut self) -> Result<Renewal, Error> {
        let Some(epoch) = self.election.epoch() else { return Ok(Renewal::Deposed { by: None }) };
        let started = (self.clock)();
        self.beat(epoch, "leads").await?;
        match self.newest().await? {
            Some(newest) if newest > epoch => {
                self.election.on_deposed();
                Ok(Renewal::Deposed { by: Some(self.leader_of(newest).await?) })
            }
            _ => {
                self.election.on_renewed(started);
                Ok(Renewal::Leading(epoch))
            }
        }
    }

    /// Gives the lease up, so that another need not wait for its end. Does nothing if there is none.
    ///
    /// # Errors
    /// The store failed: the others will wait for the lease's end.
    pub async fn release(&mut self) -> Result<(), Error> {
        match self.election.on_deposed() {
            Some(epoch) => self.beat(epoch, RELEASED).await,
            None => Ok(()),
        }
    }

    /// The time, by the clock given, until which this contender leads; `None` if it does not lead now.
    pub fn leads_until(&self) -> Option<Duration> {
        self.election.leads_until((self.clock)())
    }

    async fn standing(&mut self) -> Result<Standing, Error> {
        let now = (self.clock)();
        if let (Some(epoch), Some(_)) = (self.election.epoch(), self.election.leads_until(now)) {
            return Ok(Standing::Leading(epoch));
        }
        let leader = match self.newest().await? {
            Some(epoch) => Some(self.leader_of(epoch).await?),
            None => None,
        };
        Ok(Standing::Standby { leader, look_again_in: self.election.look_again_in(now) })
    }

    async fn look(&self) -> Result<Seen, Error> {
        let epoch = self.newest().await?;
        let beat = self.beat_of(epoch).await?;
        let is_released = beat.as_ref().is_some_and(|beat| lines(beat).nth(3) == Some(RELEASED));
        Ok(Seen { epoch, beat, is_released })
    }

    /// Creates the claim of an epoch; whether it is ours then.
    async fn claim(&self, epoch: LeaderEpoch) -> Result<bool, Error> {
        let name = claim_name(epoch);
        let content = Bytes::from(format!("{FORMAT}\n{}\n{}\n", self.options.holder, self.options.address));
        match self.directory.put(&name, vec![content.clone()], PutMode::Create).await {
            Ok(()) => Ok(true),
            // The claim may have succeeded although its first answer was lost, and the store asked again.
            Err(Error::Conflict { .. }) => Ok(self.read(&name).await? == Some(content)),
            Err(error) => Err(error),
        }
    }

    async fn beat(&mut self, epoch: LeaderEpoch, word: &str) -> Result<(), Error> {
        // No two beats are alike, also when it is not known whether one of them was written.
        self.beats += 1;
        let content = format!("{FORMAT}\n{}\n{}\n{word}\n", self.options.holder, self.beats);
        self.directory.put(&beat_name(epoch), vec![content.into()], PutMode::Overwrite).await
    }

    async fn beat_of(&self, epoch: Option<LeaderEpoch>) -> Result<Option<Bytes>, Error> {
        match epoch {
            Some(epoch) => self.read(&beat_name(epoch)).await,
            None => Ok(None),
        }
    }

    async fn leader_of(&self, epoch: LeaderEpoch) -> Result<Leader, Error> {
        let claim = self.read(&claim_name(epoch)).await?.unwrap_or_default();
        let mut words = lines(&claim).skip(1).map(str::to_string);
        let (holder, address) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(Leader { epoch, holder, address })
    }

    /// Content of an object; what is too long to be one of ours reads as empty.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        match self.directory.get(name, LIMIT_BYTES).await {
            Ok(content) => Ok(Some(content)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(Error::Corrupt { .. }) => Ok(Some(Bytes::new())),
            Err(error) => Err(error),
        }
    }

    async fn newest(&self) -> Result<Option<LeaderEpoch>, Error> {
        let files = self.directory.files().await?;
        Ok(files.iter().filter_map(|file| epoch_of(file.location.filename()?, CLAIM)).max())
    }

    /// Deletes what former leaders left. What stays, stays until the next leader comes.
    async fn delete_before(&self, epoch: LeaderEpoch) {
        for file in self.directory.files().await.unwrap_or_default() {
            let Some(name) = file.location.filename().filter(|name| is_file_name(name)) else { continue };
            let is_old = |found: LeaderEpoch| found < epoch;
            if epoch_of(name, CLAIM).or_else(|| epoch_of(name, BEAT)).is_some_and(is_old) {
                let _ = self.directory.remove_file(name).await;
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lease { options, election, .. } = self;
        f.debug_struct("Lease").field("options", options).field("election", election).finish_non_exhaustive()
    }
}

const FORMAT: &str = "hurtig lease 1";
const RELEASED: &str = "released";
const CLAIM: &str = "epoch-";
const BEAT: &str = "beat-";

fn claim_name(epoch: LeaderEpoch) -> String {
    format!("{CLAIM}{:020}", epoch.0)
}

fn beat_name(epoch: LeaderEpoch) -> String {
    format!("{BEAT}{:020}", epoch.0)
}

fn epoch_of(name: &str, prefix: &str) -> Option<LeaderEpoch> {
    let digits = name.strip_prefix(prefix)?;
    // One beyond which there is no other would end all elections: no election has made it.
    let epoch = digits.parse().ok().filter(|epoch| digits.len() == 20 && *epoch < u64::MAX)?;
    Some(LeaderEpoch(epoch))
}

fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(content).unwrap_or_default().lines()
}
