//! Snapshots that are written while the state changes, against a model: whatever is done to the state, however much of it
//! is outside memory, and whichever checkpoints fail, what is restored from one that is complete is the state at its
//! barrier.

use super::*;
use crate::harness::cold;
use crate::key::hash_key;
use crate::snapshot::{OperatorSnapshot, redistribute};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MAX_PARALLELISM: u32 = 16;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    Change(u16, u32),
    GetOrInsert(u16),
    Remove(u16),
    /// So many keys from one on: tables grow.
    InsertMany(u16, u16),
    RemoveMany(u16, u16),
    InsertInto(i64, u16, u32),
    RemoveFrom(i64, u16),
    Settle(i64, usize),
    Take(i64),
    Register(i64, u16),
    Delete(i64, u16),
    Fire(i64, usize),
    Broadcast(u8, Option<u32>),
    Barrier(bool),
    Drain(usize),
    Abandon,
    Complete,
    Restart(usize),
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0u16..40;
    prop_oneof![
        6 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        4 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
        3 => key().prop_map(Step::GetOrInsert),
        5 => key().prop_map(Step::Remove),
        1 => (0u16..400, 1u16..300).prop_map(|(from, count)| Step::InsertMany(from, count)),
        1 => (0u16..400, 1u16..300).prop_map(|(from, count)| Step::RemoveMany(from, count)),
        6 => (0i64..5, key(), any::<u32>()).prop_map(|(at, key, value)| Step::InsertInto(at, key, value)),
        3 => (0i64..5, key()).prop_map(|(at, key)| Step::RemoveFrom(at, key)),
        1 => (0i64..5, 0usize..5).prop_map(|(at, rows)| Step::Settle(at, rows)),
        2 => (0i64..5).prop_map(Step::Take),
        6 => (0i64..9, key()).prop_map(|(at, key)| Step::Register(at, key)),
        3 => (0i64..9, key()).prop_map(|(at, key)| Step::Delete(at, key)),
        2 => (0i64..9, 1usize..40).prop_map(|(at, most)| Step::Fire(at, most)),
        2 => (0u8..9, any::<Option<u32>>()).prop_map(|(key, value)| Step::Broadcast(key, value)),
        4 => prop::bool::weighted(0.2).prop_map(Step::Barrier),
        8 => (0usize..60).prop_map(Step::Drain),
        1 => Just(Step::Abandon),
        3 => Just(Step::Complete),
        1 => (1usize..6).prop_map(Step::Restart),
        1 => Just(Step::HandOver),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    table: BTreeMap<u16, u32>,
    panes: BTreeMap<(i64, u16), u32>,
    timers: BTreeSet<(i64, u16)>,
    broadcast: BTreeMap<u8, u32>,
}

#[derive(Clone, Copy)]
struct Handles {
    table: Handle<KeyedTable<u16, u32>>,
    panes: Handle<NamespacedTable<u16, u32>>,
    timers: Handle<Timers<u16>>,
    broadcast: Handle<BroadcastTable<u8, u32>>,
}

fn declare(states: &mut StateStore) -> Handles {
    Handles {
        table: states.keyed("table").unwrap(),
        panes: states.namespaced("panes").unwrap(),
        timers: states.timers("timers").unwrap(),
        broadcast: states.broadcast("broadcast").unwrap(),
    }
}

fn contents(states: &mut StateStore, at: Handles, into: &mut Model) {
    states.get(at.table).for_each(|key, value| assert!(into.table.insert(*key, *value).is_none()));
    for (pane, table) in states.get(at.panes).between(Timestamp::MIN, Timestamp::MAX) {
        table.for_each(|key, value| assert!(into.panes.insert((pane, *key), *value).is_none()));
    }
    while let Some(timer) = states.get_mut(at.timers).pop_due(Timestamp::MAX) {
        assert!(into.timers.insert(timer));
    }
    into.broadcast = states.get(at.broadcast).iter().map(|(key, value)| (*key, *value)).collect();
}

/// A store with so many bytes of memory, or as many as it takes.
fn store(range: KeyGroupRange, restored: Vec<StateSnapshot>, memory: Option<usize>) -> StateStore {
    let states = StateStore::new(range, restored);
    memory.into_iter().fold(states, |states, bytes| states.spilling(cold::spill(bytes)))
}

/// What is restored from a snapshot, over several subtasks.
fn restored(snapshot: &OperatorSnapshot, parallelism: usize, memory: Option<usize>) -> Model {
    let mut model = Model::default();
    for index in 0..parallelism {
        let part = redistribute(std::slice::from_ref(snapshot), index, parallelism, MAX_PARALLELISM);
        let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
        let mut states = store(range, part.states, memory);
        let handles = declare(&mut states);
        states.keep_within_memory().unwrap();
        contents(&mut states, handles, &mut model);
    }
    model
}

struct Run {
    noted: bool,
    memory: Option<usize>,
    states: StateStore,
    at: Handles,
    model: Model,
    now: Timestamp,
    last: CheckpointId,
    /// The newest complete checkpoint: the sum of its snapshots.
    complete: Option<(CheckpointId, OperatorSnapshot, Model)>,
    /// The snapshot under way, what it is to be added to, and the state at its barrier.
    under_way: Option<(CheckpointId, OperatorSnapshot, OperatorSnapshot, Model)>,
    /// Checkpoints that are written, but not complete.
    written: Vec<(CheckpointId, OperatorSnapshot, Model)>,
}

impl Run {
    fn new(noted: bool, memory: Option<usize>) -> Self {
        let mut states = store(KeyGroupRange::all(MAX_PARALLELISM), Vec::new(), memory);
        if noted {
            states = states.noting_changes(0);
        }
        let at = declare(&mut states);
        let (complete, under_way) = (None, None);
        let (model, written) = (Model::default(), Vec::new());
        Run { noted, memory, states, at, model, now: Timestamp::MIN, last: 0, complete, under_way, written }
    }

    fn table(&mut self) -> &mut KeyedTable<u16, u32> {
        self.states.get_mut(self.at.table)
    }

    fn insert(&mut self, key: u16, value: u32) {
        let old = self.table().insert(hash_key(&key), key, value);
        assert_eq!(old, self.model.table.insert(key, value));
    }

    fn remove(&mut self, key: u16) {
        let old = self.table().remove(hash_key(&key), &key);
        assert_eq!(old, self.model.table.remove(&key));
    }

    fn drain(&mut self, rows: usize) {
        let Some((.., snapshot, _)) = &mut self.under_way else { return };
        let mut out = Vec::new();
        let is_done = self.states.drain(&mut Budget::new(rows, 200), &mut out).unwrap();
        for (state, rows) in out {
            snapshot.states[state].groups.push(rows);
        }
        assert_eq!(is_done, !self.states.is_draining());
        if is_done && let Some((checkpoint, mut sum, snapshot, model)) = self.under_way.take() {
            sum.add(snapshot);
            self.written.push((checkpoint, sum, model));
        }
    }

    fn drain_all(&mut self) {
        while self.under_way.is_some() {
            self.drain(1_000);
        }
    }

    fn barrier(&mut self, is_base: bool) {
        self.drain_all();
        self.last += 1;
        let (extent, sum) = match &self.complete {
            Some((checkpoint, sum, _)) if self.noted && !is_base => (Extent::Since(*checkpoint), sum.clone()),
            _ => (Extent::Base, OperatorSnapshot::default()),
        };
        let states = self.states.open_epoch(self.last, extent).unwrap();
        let snapshot = OperatorSnapshot { states, ..Default::default() };
        self.under_way = Some((self.last, sum, snapshot, self.model.clone()));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(key, value) => self.insert(key, value),
            Step::Change(key, value) => {
                let mut ahead = LookAhead::switched_on();
                let hashes = [hash_key(&key)];
                let found = self.states.get_mut(self.at.table).get_mut_ahead(&mut ahead, &hashes, 0, &key);
                assert_eq!(found.as_deref(), self.model.table.get(&key));
                if let Some(found) = found {
                    *found = value;
                    self.model.table.insert(key, value);
                }
            }
            Step::GetOrInsert(key) => {
                *self.table().get_or_insert_with(hash_key(&key), key, || 7) ^= 1;
                *self.model.table.entry(key).or_insert(7) ^= 1;
            }
            Step::Remove(key) => self.remove(key),
            Step::InsertMany(from, count) => (from..from + count).for_each(|key| self.insert(key, 1)),
            Step::RemoveMany(from, count) => (from..from + count).for_each(|key| self.remove(key)),
            Step::InsertInto(pane, key, value) => {
                let table = self.states.get_mut(self.at.panes).namespace(pane);
                assert_eq!(
                    table.insert(hash_key(&key), key, value),
                    self.model.panes.insert((pane, key), value)
                );
            }
            Step::RemoveFrom(pane, key) => {
                let table = self.states.get_mut(self.at.panes).namespace(pane);
                assert_eq!(table.remove(hash_key(&key), &key), self.model.panes.remove(&(pane, key)));
            }
            Step::Settle(pane, rows) => {
                self.states.get_mut(self.at.panes).settle(pane, rows);
            }
            Step::Take(pane) => {
                let rows = self.states.get_mut(self.at.panes).take(pane);
                let rows = rows.into_iter().flat_map(KeyedTable::into_rows);
                let taken: BTreeMap<_, _> = rows.map(|(key, value)| ((pane, key), value)).collect();
                let expected = self.model.panes.extract_if(.., |(found, _), _| *found == pane).collect();
                assert_eq!(taken, expected);
            }
            // A timer that is being fired may be registered once more, and fires once more.
            Step::Register(time, key) if time <= self.now && self.model.timers.contains(&(time, key)) => {}
            Step::Register(time, key) => {
                self.states.get_mut(self.at.timers).register(time, key);
                self.model.timers.insert((time, key));
            }
            Step::Delete(time, key) => {
                self.states.get_mut(self.at.timers).delete(time, &key);
                self.model.timers.remove(&(time, key));
            }
            Step::Fire(time, most) => {
                self.now = self.now.max(time);
                for _ in 0..most {
                    let Some(timer) = self.states.get_mut(self.at.timers).pop_due(self.now) else { break };
                    assert!(timer.0 <= self.now);
                    self.model.timers.remove(&timer);
                }
            }
            Step::Broadcast(key, Some(value)) => {
                let old = self.states.get_mut(self.at.broadcast).insert(key, value);
                assert_eq!(old, self.model.broadcast.insert(key, value));
            }
            Step::Broadcast(key, None) => {
                let old = self.states.get_mut(self.at.broadcast).remove(&key);
                assert_eq!(old, self.model.broadcast.remove(&key));
            }
            Step::Barrier(is_base) => self.barrier(is_base),
            Step::Drain(rows) => self.drain(rows),
            Step::Abandon => {
                self.states.abandon();
                self.under_way = None;
            }
            Step::Complete => {
                if !self.written.is_empty() {
                    // The newest: the ones before it have failed.
                    self.complete = self.written.pop();
                    self.written.clear();
                }
            }
            Step::Restart(parallelism) => self.check(parallelism),
            Step::HandOver => self.hand_over(),
        }
    }

    /// All stops with a checkpoint, and another instance goes on with what is there.
    fn hand_over(&mut self) {
        self.barrier(false);
        self.drain_all();
        self.complete = self.written.pop();
        self.written.clear();
        let Some((checkpoint, sum, _)) = &self.complete else { panic!("it was just taken") };
        let mut restored = sum.states.clone();
        let keyed = restored.iter_mut().filter(|state| state.kind == StateKind::Keyed);
        keyed.for_each(|state| state.groups.clear());
        let empty = StateStore::new(self.states.range(), Vec::new());
        let mut states = std::mem::replace(&mut self.states, empty).hand_over(restored);
        if self.noted {
            states = states.noting_changes(*checkpoint);
        }
        self.at = declare(&mut states);
        self.states = states;
    }

    fn check(&self, parallelism: usize) {
        for (_, sum, model) in self.written.iter().chain(&self.complete) {
            assert_eq!(restored(sum, parallelism, self.memory), *model);
            assert_eq!(restored(sum, parallelism, None), *model);
        }
    }
}

fn run(noted: bool, memory: Option<usize>, steps: Vec<Step>) {
    let mut run = Run::new(noted, memory);
    for (at, step) in steps.into_iter().enumerate() {
        run.step(step);
        // Not after each, so that some is in memory too.
        if at % 3 == 0 {
            run.states.keep_within_memory().unwrap();
        }
    }
    run.drain_all();
    run.check(1);
    run.barrier(false);
    run.drain_all();
    run.check(3);
    let mut found = Model::default();
    contents(&mut run.states, run.at, &mut found);
    assert_eq!(found, run.model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }))]
    #[test]
    fn what_is_restored_is_the_state_at_the_barrier(steps in prop::collection::vec(step(), 0..200)) {
        run(true, None, steps);
    }

    #[test]
    fn it_is_so_too_where_memory_has_no_room(
        steps in prop::collection::vec(step(), 0..200), memory in prop_oneof![Just(0), 0usize..10_000]
    ) {
        run(true, Some(memory), steps);
    }

    #[test]
    fn a_savepoint_of_a_job_without_checkpoints_is_the_state_at_the_barrier(
        steps in prop::collection::vec(step(), 0..200), memory in prop_oneof![Just(None), (0usize..10_000).prop_map(Some)]
    ) {
        run(false, memory, steps);
    }
}

#[test]
fn a_snapshot_holds_what_has_changed_and_no_more() {
    let mut run = Run::new(true, None);
    (0..1_000).for_each(|key| run.insert(key, 0));
    run.barrier(true);
    run.drain_all();
    run.step(Step::Complete);
    (0..10).for_each(|key| run.insert(key, 1));
    run.remove(10);
    // Has come and gone between the two.
    run.insert(5_000, 1);
    run.remove(5_000);
    run.table().get(hash_key(&500u16), &500);
    run.barrier(false);
    let rows = |run: &mut Run| {
        let mut out = Vec::new();
        assert!(run.states.drain(&mut Budget::unlimited(), &mut out).unwrap());
        run.under_way = None;
        out.iter().map(|(_, rows)| rows.rows).sum::<u32>()
    };
    assert_eq!(rows(&mut run), 11);
    // That one failed; a row more has changed since.
    run.insert(20, 1);
    run.barrier(false);
    assert_eq!(rows(&mut run), 12);
}

#[test]
fn a_state_that_was_not_handed_over_is_an_error_and_not_empty() {
    let mut states = StateStore::new(KeyGroupRange::all(MAX_PARALLELISM), Vec::new());
    states.keyed::<u16, u32>("table").unwrap();
    let mut states = states.hand_over(Vec::new());
    assert!(matches!(states.keyed::<u16, u64>("table"), Err(Error::NotHandedOver(_))));
    assert!(matches!(states.timers::<u16>("timers"), Err(Error::NotHandedOver(_))));
    assert!(states.list::<u16>("list").is_ok());
    assert!(states.keyed::<u16, u32>("table").is_ok());
}

#[test]
fn a_dropped_pane_is_one_entry_and_one_that_no_snapshot_holds_is_none() {
    let mut run = Run::new(true, None);
    for key in 0..1_000 {
        run.step(Step::InsertInto(1, key, 0));
    }
    run.barrier(true);
    run.drain_all();
    run.step(Step::Complete);
    run.step(Step::Take(1));
    run.step(Step::InsertInto(2, 1, 0));
    run.step(Step::Take(2));
    run.barrier(false);
    let mut out = Vec::new();
    assert!(run.states.drain(&mut Budget::unlimited(), &mut out).unwrap());
    assert_eq!(out.len(), 1);
    let rows = &out[0].1;
    assert_eq!((rows.op, rows.first, rows.last, rows.rows), (crate::snapshot::RowOp::Drop, 0, 15, 1));
}

#[test]
fn reading_is_no_change() {
    let mut states = StateStore::new(KeyGroupRange::all(MAX_PARALLELISM), Vec::new()).noting_changes(0);
    let value: ValueState<u32> = ValueState::declare::<u16>(&mut states, "value", None).unwrap();
    let list: ListState<u32> = ListState::declare::<u16>(&mut states, "list", None).unwrap();
    let map: MapState<u16, u32> = MapState::declare::<u16>(&mut states, "map", None).unwrap();
    struct One<'a>(&'a mut StateStore);
    impl KeyScope for One<'_> {
        type Key = u16;
        fn scope(&mut self) -> Scope<'_, u16> {
            Scope::new(self.0, &7, hash_key(&7u16), 0)
        }
    }
    let mut at = One(&mut states);
    value.set(&mut at, 1);
    list.add(&mut at, 2);
    map.insert(&mut at, 3, 4);
    states.open_epoch(1, Extent::Base).unwrap();
    let mut out = Vec::new();
    assert!(states.drain(&mut Budget::unlimited(), &mut out).unwrap());
    assert_eq!(out.len(), 3);
    let mut at = One(&mut states);
    assert_eq!(value.get(&mut at), Some(&1));
    assert_eq!(list.iter(&mut at).count(), 1);
    assert_eq!(map.get(&mut at, &3), Some(&4));
    assert_eq!(map.iter(&mut at).count(), 1);
    states.open_epoch(2, Extent::Since(1)).unwrap();
    out.clear();
    assert!(states.drain(&mut Budget::unlimited(), &mut out).unwrap());
    assert_eq!(out, []);
}
