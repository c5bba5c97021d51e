//! Elections among several contenders on local files, in time that passes only when all wait.

// The allowance for tests in the lint's settings does not reach helpers outside `#[test]` functions.
#![allow(clippy::unwrap_used)]

use hurtig_dataflow::ids::LeaderEpoch;
use hurtig_state::CheckpointStore;
use hurtig_state::lease::{Lease, LeaseOptions, Renewal, Standing};
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};

const LEASE: Duration = Duration::from_secs(10);
/// The look that sees the last heartbeat may come this much after it.
const LOOK: Duration = Duration::from_millis(2500);

fn lease(store: &CheckpointStore, holder: &str) -> Lease {
    let started = Instant::now();
    let options = LeaseOptions { holder: holder.into(), address: format!("{holder}:6123"), duration: LEASE };
    Lease::new(store, options, Arc::new(move || started.elapsed())).unwrap()
}

fn local(directory: &Path) -> CheckpointStore {
    CheckpointStore::open(directory.to_str().unwrap()).unwrap()
}

/// Contends until it leads.
async fn lead(lease: &mut Lease) -> LeaderEpoch {
    loop {
        match lease.acquire().await.unwrap() {
            Standing::Leading(epoch) => return epoch,
            Standing::Standby { look_again_in, .. } => sleep(look_again_in).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_within_the_lease_and_finds_itself_deposed() {
    let directory = tempfile::tempdir().unwrap();
    for store in [local(directory.path()), CheckpointStore::open("memory:lease-deposed").unwrap()] {
        let (mut first, mut second) = (lease(&store, "first"), lease(&store, "second"));
        assert_eq!(lead(&mut first).await, LeaderEpoch(1));
        for _ in 0..20 {
            sleep(LEASE / 3).await;
            assert_eq!(first.renew().await.unwrap(), Renewal::Leading(LeaderEpoch(1)));
            let Standing::Standby { leader, .. } = second.acquire().await.unwrap() else {
                panic!("two leaders")
            };
            let leader = leader.unwrap();
            assert_eq!((leader.holder.as_str(), leader.address.as_str()), ("first", "first:6123"));
        }
        let silent_since = Instant::now();
        assert_eq!(lead(&mut second).await, LeaderEpoch(2));
        assert!(silent_since.elapsed() <= LEASE + LOOK, "after {:?}", silent_since.elapsed());
        assert_eq!(first.leads_until(), None);
        assert!(second.leads_until().is_some());

        let Renewal::Deposed { by: Some(by) } = first.renew().await.unwrap() else { panic!("two leaders") };
        assert_eq!((by.epoch, by.holder.as_str()), (LeaderEpoch(2), "second"));
        assert_eq!(first.renew().await.unwrap(), Renewal::Deposed { by: None });
        assert!(matches!(first.acquire().await.unwrap(), Standing::Standby { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_wakes_up_while_another_claims_is_waited_for() {
    let memory = Arc::new(InMemory::new());
    let slow = ThrottleConfig { wait_put_per_call: LEASE / 4, ..ThrottleConfig::default() };
    let slow = Arc::new(ThrottledStore::new(memory.clone(), slow));
    let mut first = lease(&CheckpointStore::with_store(memory, "root".into(), "test:root"), "first");
    let mut second = lease(&CheckpointStore::with_store(slow, "root".into(), "test:root"), "second");
    lead(&mut first).await;
    second.acquire().await.unwrap();
    sleep(LEASE).await;
    assert_eq!(first.leads_until(), None);
    let (standing, renewal) = tokio::join!(second.acquire(), async {
        // The claim is on its way.
        sleep(LEASE / 8).await;
        first.renew().await
    });
    assert_eq!(renewal.unwrap(), Renewal::Leading(LeaderEpoch(1)));
    assert!(first.leads_until().is_some(), "it could not know");
    assert!(matches!(standing.unwrap(), Standing::Standby { .. }));
    assert_eq!(second.leads_until(), None);
    assert_eq!(lead(&mut second).await, LeaderEpoch(2));
    assert_eq!(first.leads_until(), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_up_is_taken_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = local(directory.path());
    let (mut first, mut second) = (lease(&store, "first"), lease(&store, "second"));
    lead(&mut first).await;
    assert!(matches!(second.acquire().await.unwrap(), Standing::Standby { .. }));
    first.release().await.unwrap();
    assert_eq!(first.leads_until(), None);
    assert_eq!(second.acquire().await.unwrap(), Standing::Leading(LeaderEpoch(2)));
    assert!(matches!(first.acquire().await.unwrap(), Standing::Standby { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_former_leaders_left_is_deleted_and_nonsense_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let store = local(directory.path());
    let folder = directory.path().join("leader");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("epoch-00000000000000000007"), [0xff; 10_000]).unwrap();
    std::fs::write(folder.join("beat-00000000000000000007"), [0xff; 10_000]).unwrap();
    for name in ["epoch-18446744073709551615", "epoch-9", "epoch-", "README"] {
        std::fs::write(folder.join(name), "nonsense").unwrap();
    }
    for epoch in 8..12 {
        assert_eq!(lead(&mut lease(&store, "next")).await, LeaderEpoch(epoch));
    }
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-0000"))
        .collect();
    names.sort();
    assert_eq!(names, ["beat-00000000000000000011", "epoch-00000000000000000011"]);
}

#[tokio::test]
async fn a_holder_that_would_break_the_file_is_refused() {
    let store = CheckpointStore::open("memory:lease-holder").unwrap();
    let options = LeaseOptions { holder: "a\nb".into(), address: String::new(), duration: LEASE };
    let error = Lease::new(&store, options, Arc::new(|| Duration::ZERO)).unwrap_err().to_string();
    assert!(error.contains("cannot stand in a lease"), "{error}");
}

/// What all contenders of a run have done.
#[derive(Default)]
struct Chronicle {
    leaders: BTreeMap<LeaderEpoch, usize>,
    /// Until when each contender believes to lead.
    until: BTreeMap<usize, Instant>,
}

impl Chronicle {
    fn leads(&mut self, contender: usize, epoch: LeaderEpoch, lease: &Lease, started: Instant) {
        let Some(until) = lease.leads_until() else { return };
        let leader = *self.leaders.entry(epoch).or_insert(contender);
        assert_eq!(leader, contender, "two leaders of epoch {epoch}");
        assert_eq!(self.leaders.last_key_value().unwrap().0, &epoch, "epoch {epoch} came after a newer one");
        let now = Instant::now();
        let others = self.until.iter().filter(|(other, until)| **other != contender && **until > now);
        assert_eq!(others.count(), 0, "another still leads when {contender} does");
        self.until.insert(contender, started + until);
    }
}

/// The same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// A common store in memory, and each contender's own way to it with delays up to a good part of the lease. Local
/// files have their own order of things, from the threads that serve them.
#[derive(Clone)]
enum Place {
    Local(Rc<Path>),
    Memory(Arc<InMemory>),
}

impl Place {
    fn store(&self, numbers: &mut Numbers) -> CheckpointStore {
        let memory = match self {
            Place::Local(path) => return local(path),
            Place::Memory(memory) => memory.clone(),
        };
        let slowest_ms = [20, 300, 4000][numbers.below(3) as usize];
        let config = ThrottleConfig {
            wait_put_per_call: numbers.millis(slowest_ms),
            wait_get_per_call: numbers.millis(slowest_ms),
            wait_list_per_call: numbers.millis(slowest_ms),
            ..ThrottleConfig::default()
        };
        CheckpointStore::with_store(Arc::new(ThrottledStore::new(memory, config)), "root".into(), "test:root")
    }
}

/// One contender: leads and renews, sometimes freezes, sometimes gives up, and starts anew when it dies.
async fn contend(contender: usize, place: Place, seed: u64, chronicle: Rc<RefCell<Chronicle>>) {
    let mut numbers = Numbers(seed);
    for life in 0.. {
        let store = place.store(&mut numbers);
        let started = Instant::now();
        let mut lease = lease(&store, &format!("{contender}-{life}"));
        let lifetime = LEASE * 2 + numbers.millis(60_000);
        // A process that is killed stops anywhere, also within a request.
        let _ = timeout(lifetime, async {
            loop {
                let mut epoch = lead(&mut lease).await;
                loop {
                    chronicle.borrow_mut().leads(contender, epoch, &lease, started);
                    let frozen = if numbers.below(8) == 0 { LEASE * 3 } else { Duration::ZERO };
                    sleep(LEASE / 3 + frozen).await;
                    match lease.renew().await.unwrap() {
                        Renewal::Leading(same) => epoch = same,
                        Renewal::Deposed { .. } => break,
                    }
                    if numbers.below(10) == 0 {
                        chronicle.borrow_mut().until.remove(&contender);
                        lease.release().await.unwrap();
                        break;
                    }
                }
            }
        })
        .await;
        // A dead process does nothing any more, whatever it believed.
        chronicle.borrow_mut().until.remove(&contender);
        sleep(numbers.millis(5000)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn never_two_leaders_and_never_long_without_one() {
    for seed in 1..=30 {
        let directory = tempfile::tempdir().unwrap();
        let place = match seed % 10 {
            0 => Place::Local(directory.path().into()),
            _ => Place::Memory(Arc::default()),
        };
        let chronicle = Rc::new(RefCell::new(Chronicle::default()));
        let mut contenders = JoinSet::new();
        let here = LocalSet::new();
        for contender in 0..4 {
            let seed = (seed * 31 + contender as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            contenders.spawn_local_on(contend(contender, place.clone(), seed, chronicle.clone()), &here);
        }
        // The disk is not as patient as the clock.
        let run = Duration::from_secs(if let Place::Local(_) = place { 200 } else { 900 });
        here.run_until(sleep(run)).await;
        // They go on for ever, unless one finds what must not be.
        if let Some(ended) = contenders.try_join_next() {
            panic!("seed {seed}: {ended:?}");
        }
        let epochs = chronicle.borrow().leaders.len();
        assert!(epochs as u64 >= run.as_secs() / 120, "seed {seed}: only {epochs} leaders in {run:?}");
    }
}
