//! Random calls, with restarts in between, against a model that is a few maps.

use hurtig_dataflow::ids::{Attempt, JobId, LeaderEpoch};
use hurtig_metadata::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::tempdir;

const STATES: [&str; 3] = ["created", "running", "failing"];
const KEPT: usize = 2;

#[derive(Clone, Debug)]
enum Call {
    AddProgram { program: u8, time: i64 },
    AddJob { job: u128, program: Option<u8>, time: i64 },
    Change { job: u128, seen: (usize, u32), next: (usize, u32), failure: Option<u8>, end: Option<i64> },
    SetGraph { job: u128, attempt: u32, graph: String },
    AddCheckpoint { job: u128, attempt: u32, id: u64, savepoint: bool, size: u64, subsumed: Vec<u64> },
    ForgetPrograms { before: i64 },
    BeginEpoch { epoch: u64, holder: u8 },
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let (job, attempt, time) = (0..6u128, 1..3u32, 0..20i64);
    let end = prop_oneof![2 => Just(None), 1 => time.clone().prop_map(Some)];
    prop_oneof![
        2 => (0..3u8, time.clone()).prop_map(|(program, time)| Call::AddProgram { program, time }),
        4 => (job.clone(), proptest::option::of(0..3u8), time.clone())
            .prop_map(|(job, program, time)| Call::AddJob { job, program, time }),
        6 => (job.clone(), (0..3usize, attempt.clone()), (0..3usize, attempt.clone()), any::<Option<u8>>(), end)
            .prop_map(|(job, seen, next, failure, end)| Call::Change { job, seen, next, failure, end }),
        1 => (job.clone(), attempt.clone(), "[a-zä]{0,9}")
            .prop_map(|(job, attempt, graph)| Call::SetGraph { job, attempt, graph }),
        4 => (job, attempt, 1..5u64, any::<bool>(), 0..2u64, proptest::collection::vec(1..5u64, 0..3)).prop_map(
            |(job, attempt, id, savepoint, size, subsumed)| Call::AddCheckpoint { job, attempt, id, savepoint, size, subsumed }
        ),
        1 => time.prop_map(|before| Call::ForgetPrograms { before }),
        1 => (0..4u64, 0..2u8).prop_map(|(epoch, holder)| Call::BeginEpoch { epoch, holder }),
        1 => Just(Call::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Job {
    record: JobRecord,
    graph: Option<String>,
    checkpoints: BTreeMap<u64, CheckpointRecord>,
}

#[derive(Debug, Default, PartialEq)]
struct Model {
    jobs: BTreeMap<JobId, Job>,
    programs: BTreeMap<ProgramHash, ProgramRecord>,
    leadership: Option<Leadership>,
}

fn hash(program: u8) -> ProgramHash {
    ProgramHash::of(&[program])
}

fn record(job: u128, program: Option<u8>, time: i64) -> JobRecord {
    JobRecord {
        program: program.map(hash),
        ..JobRecord::new(JobId(job), &format!("job {job}"), "created", time)
    }
}

fn checkpoint(id: u64, savepoint: bool, size_bytes: u64) -> CheckpointRecord {
    let kind = if savepoint { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint };
    CheckpointRecord { id, kind, location: format!("chk-{id}"), triggered_at: 1, completed_at: 2, size_bytes }
}

fn change((state, attempt): (usize, u32), failure: Option<u8>, end: Option<i64>) -> JobChange {
    let failure = failure.map(|number| format!("failure {number}"));
    JobChange { failure, ended_at: end, ..JobChange::to(STATES[state], Attempt(attempt)) }
}

impl Model {
    fn writable(&mut self, job: u128, attempt: u32) -> Result<&mut Job, ErrorKind> {
        let job = self.jobs.get_mut(&JobId(job)).ok_or(ErrorKind::Unknown)?;
        let may = job.record.attempt.0 == attempt && job.record.ended_at.is_none();
        if may { Ok(job) } else { Err(ErrorKind::Stale) }
    }

    /// What the call answers: the jobs it forgets, or the programs it leaves, as text.
    fn take(&mut self, call: &Call) -> Result<String, ErrorKind> {
        match call.clone() {
            Call::AddProgram { program, time } => {
                let new = ProgramRecord {
                    hash: hash(program),
                    name: program.to_string(),
                    size_bytes: 1,
                    uploaded_at: time,
                    last_used_at: time,
                };
                let known = self.programs.entry(new.hash).or_insert(new);
                known.last_used_at = known.last_used_at.max(time);
            }
            Call::AddJob { job, program, time } => {
                if self.jobs.contains_key(&JobId(job)) {
                    return Err(ErrorKind::Invalid);
                }
                if let Some(program) = program {
                    let program = self.programs.get_mut(&hash(program)).ok_or(ErrorKind::Unknown)?;
                    program.last_used_at = program.last_used_at.max(time);
                }
                let record = record(job, program, time);
                self.jobs.insert(record.id, Job { record, graph: None, checkpoints: BTreeMap::new() });
            }
            Call::Change { job: id, seen, next, failure, end } => {
                let job = self.writable(id, seen.1)?;
                if job.record.state != STATES[seen.0] || next.1 < seen.1 {
                    return Err(ErrorKind::Stale);
                }
                let change = change(next, failure, end);
                job.record.state = change.state;
                job.record.attempt = change.attempt;
                job.record.ended_at = end;
                job.record.failure = change.failure.or(job.record.failure.take());
                let Some(_) = end else { return Ok("[]".into()) };
                let mut ended: Vec<_> =
                    self.jobs.values().map(|job| &job.record).filter(|job| job.ended_at.is_some()).collect();
                ended.sort_by_key(|job| (job.id != JobId(id), -job.ended_at.unwrap(), u128::MAX - job.id.0));
                let gone: BTreeSet<JobId> = ended.iter().skip(KEPT).map(|job| job.id).collect();
                self.jobs.retain(|id, _| !gone.contains(id));
                return Ok(format!("{:?}", Vec::from_iter(gone)));
            }
            Call::SetGraph { job, attempt, graph } => self.writable(job, attempt)?.graph = Some(graph),
            Call::AddCheckpoint { job, attempt, id, savepoint, size, subsumed } => {
                let job = self.writable(job, attempt)?;
                let new = checkpoint(id, savepoint, size);
                if job.checkpoints.get(&id).is_some_and(|found| *found != new) {
                    return Err(ErrorKind::Invalid);
                }
                job.checkpoints.insert(id, new);
                job.checkpoints
                    .retain(|id, found| found.kind == CheckpointKind::Savepoint || !subsumed.contains(id));
            }
            Call::ForgetPrograms { before } => {
                let used: BTreeSet<_> = self.jobs.values().filter_map(|job| job.record.program).collect();
                self.programs.retain(|hash, program| program.last_used_at >= before || used.contains(hash));
                return Ok(format!("{:?}", Vec::from_iter(self.programs.keys())));
            }
            Call::BeginEpoch { epoch, holder } => {
                let new = Leadership { epoch: LeaderEpoch(epoch), holder: holder.to_string(), since: 3 };
                match &self.leadership {
                    Some(found) if found.epoch > new.epoch => return Err(ErrorKind::Stale),
                    Some(found) if found.epoch == new.epoch && found.holder != new.holder => {
                        return Err(ErrorKind::Stale);
                    }
                    _ => self.leadership = Some(new),
                }
            }
            Call::Reopen => {}
        }
        Ok(String::new())
    }
}

fn ask(store: &MetadataStore, call: &Call) -> Result<String, Error> {
    let none = |()| String::new();
    match call.clone() {
        Call::AddProgram { program, time } => {
            store.add_program(hash(program), &program.to_string(), 1, time).map(none)
        }
        Call::AddJob { job, program, time } => store.add_job(&record(job, program, time)).map(none),
        Call::Change { job, seen: (state, attempt), next, failure, end } => {
            let seen = Seen { state: STATES[state], attempt: Attempt(attempt) };
            store.change_job(JobId(job), seen, &change(next, failure, end)).map(|gone| format!("{gone:?}"))
        }
        Call::SetGraph { job, attempt, graph } => {
            store.set_graph(JobId(job), Attempt(attempt), &graph).map(none)
        }
        Call::AddCheckpoint { job, attempt, id, savepoint, size, subsumed } => store
            .add_checkpoint(JobId(job), Attempt(attempt), &checkpoint(id, savepoint, size), &subsumed)
            .map(none),
        Call::ForgetPrograms { before } => {
            store.forget_unused_programs(before).map(|left| format!("{left:?}"))
        }
        Call::BeginEpoch { epoch, holder } => {
            store.begin_epoch(LeaderEpoch(epoch), &holder.to_string(), 3).map(none)
        }
        Call::Reopen => Ok(String::new()),
    }
}

/// All that the store holds, as the model has it.
fn content(store: &MetadataStore) -> Result<Model, Error> {
    let mut jobs = BTreeMap::new();
    for record in store.jobs()? {
        let checkpoints = store.checkpoints(record.id)?.into_iter().map(|found| (found.id, found)).collect();
        jobs.insert(record.id, Job { graph: store.graph(record.id)?, record, checkpoints });
    }
    let programs = store.programs()?.into_iter().map(|program| (program.hash, program)).collect();
    Ok(Model { jobs, programs, leadership: store.leadership()? })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_does_what_maps_would_do(calls in proptest::collection::vec(call(), 1..60)) {
        let directory = tempdir().unwrap();
        let open = || MetadataStore::open(directory.path(), Retention { ended_jobs: KEPT as u32 }).unwrap();
        let mut store = Some(open());
        let mut model = Model::default();
        for call in calls {
            if let Call::Reopen = call {
                drop(store.take());
                store = Some(open());
            }
            let store = store.as_ref().unwrap();
            let answer = ask(store, &call).map_err(|error| error.kind());
            prop_assert_eq!(answer, model.take(&call), "{:?}", call);
            prop_assert_eq!(&content(store).unwrap(), &model, "{:?}", call);
        }
    }
}
