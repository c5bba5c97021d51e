use super::*;
use hurtig_dataflow::error::is_fatal;
use hurtig_dataflow::harness::Harness;
use hurtig_dataflow::ids::{Attempt, JobId};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A source with its inlet, read as by a job.
struct Job {
    source: ActorSource<u64>,
    inlet: ActorRef<Feed<u64>>,
    place: Place,
    woken: UnboundedReceiver<()>,
}

type Reader = Box<dyn SplitReader<Out = u64, Split = Option<Position>>>;

impl Job {
    async fn new(window: usize, checkpointing: bool) -> Self {
        let (source, inlet) = ActorSource::new(window).await.unwrap();
        let (wake, woken) = unbounded_channel();
        let place = Place {
            job: JobId(0),
            job_name: "test".into(),
            operator: "desk".into(),
            uid: "desk".into(),
            subtask: 0,
            parallelism: 1,
            attempt: Attempt(1),
            checkpointing,
            batch_size: 16,
            waker: Arc::new(move || wake.send(()).unwrap_or_default()),
            spawner: Arc::new(drop),
        };
        Job { source, inlet, place, woken }
    }

    fn open(&self, from: Option<Position>) -> Reader {
        self.source.open(from, &self.place).unwrap()
    }

    /// A feeder, and what it is granted.
    async fn feeder(&self, feeder: u64) -> UnboundedReceiver<usize> {
        let (granted, grants) = unbounded_channel();
        let grant: GrantCredit = Arc::new(move |count| granted.send(count).unwrap_or_default());
        self.inlet.cast(Feed::Connect { feeder, grant }).unwrap();
        grants
    }

    /// Sends records, each list as a message, and waits until the job has been woken for each.
    async fn feed(&mut self, feeder: u64, messages: &[&[u64]]) {
        for records in messages {
            let rows = Rows::untimed(records.to_vec());
            self.inlet.cast(Feed::Records { feeder, rows }).unwrap();
            self.woken.recv().await.unwrap();
        }
    }
}

/// What polls give until there is no more.
fn read(reader: &mut Reader) -> Vec<Vec<u64>> {
    let rows = |polled| match polled {
        Polled::Rows(rows) => Some(rows.records),
        _ => None,
    };
    std::iter::from_fn(|| rows(reader.poll(4, 0).unwrap())).collect()
}

#[tokio::test]
async fn a_feeder_is_granted_again_what_was_read() {
    let mut job = Job::new(10, true).await;
    let mut reader = job.open(None);
    let mut grants = job.feeder(1).await;
    assert_eq!(grants.recv().await, Some(10));
    job.feed(1, &[&[1, 2, 3, 4, 5], &[6, 7], &[8, 9, 10]]).await;
    assert!(grants.is_empty(), "nothing was read yet");
    // Messages are not torn.
    assert_eq!(read(&mut reader), [vec![1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10]]);
    assert_eq!([grants.recv().await, grants.recv().await, grants.recv().await], [Some(5), Some(2), Some(3)]);
    assert!(matches!(reader.poll(4, 0).unwrap(), Polled::Pending));
    job.feed(1, &[&[11]]).await;
    job.inlet.cast(Feed::End).unwrap();
    job.woken.recv().await.unwrap();
    assert_eq!(read(&mut reader), [[11]]);
    assert!(matches!(reader.poll(4, 0).unwrap(), Polled::End));
}

#[tokio::test]
async fn more_than_was_granted_fails_the_job_for_good() {
    for connected in [true, false] {
        let mut job = Job::new(3, true).await;
        let mut reader = job.open(None);
        if connected {
            job.feeder(7).await;
            job.feed(7, &[&[1, 2]]).await;
        }
        job.feed(7, &[&[3, 4]]).await;
        // What came before is read.
        assert_eq!(read_before_failure(&mut reader), if connected { vec![1, 2] } else { vec![] });
        let granted = if connected { 1 } else { 0 };
        let told = format!(
            "feeder 7 sent 2 records but was granted {granted}: connect first, and send no more than is granted"
        );
        for _ in 0..2 {
            let Err(error) = reader.poll(4, 0) else { panic!("it goes on") };
            assert!(is_fatal(&*error), "the records are lost, so trying again is no use");
            assert_eq!(error.to_string(), told);
            reader = job.open(None);
            read_before_failure(&mut reader);
        }
    }
}

fn read_before_failure(reader: &mut Reader) -> Vec<u64> {
    let mut seen = Vec::new();
    while let Ok(Polled::Rows(rows)) = reader.poll(4, 0) {
        seen.extend(rows.records);
    }
    seen
}

#[tokio::test]
async fn what_no_complete_checkpoint_holds_is_read_again_after_a_failure() {
    let mut job = Job::new(100, true).await;
    let mut grants = job.feeder(1).await;
    assert_eq!(grants.recv().await, Some(100));
    let mut reader = job.open(None);
    job.feed(1, &[&[1, 2, 3, 4], &[5, 6]]).await;
    assert_eq!(read(&mut reader), [vec![1, 2, 3, 4], vec![5, 6]]);
    // No checkpoint is complete, so the job begins anew; nobody is granted anything for it.
    let (before, _) = (grants.recv().await, grants.recv().await);
    assert_eq!(before, Some(4));
    let mut reader = job.open(None);
    assert_eq!(read(&mut reader), [vec![1, 2, 3, 4], vec![5, 6]]);
    assert!(grants.is_empty());
    reader.on_barrier(1);
    let (position, kept) = (reader.position(), job.source.queue.lock().messages.len());
    job.feed(1, &[&[7]]).await;
    assert_eq!(read(&mut reader), [[7]]);
    reader.on_barrier(2);
    reader.on_complete(1);
    assert_eq!((kept, job.source.queue.lock().messages.len()), (2, 1), "what the checkpoint holds has gone");
    job.feed(1, &[&[8]]).await;
    let mut reader = job.open(position);
    assert_eq!(read(&mut reader), [vec![7, 8]]);
    // From before that checkpoint nothing is left.
    assert!(job.source.open(Some(Position { next: 1, ..position.unwrap() }), &job.place).is_err());
    // The position of another process says nothing here.
    assert_eq!(read(&mut job.open(Some(Position { queue: 1, next: 5_000 }))), [vec![7, 8]]);
}

#[tokio::test]
async fn without_checkpoints_each_record_is_read_once() {
    let mut job = Job::new(100, false).await;
    job.feeder(1).await;
    let mut reader = job.open(None);
    job.feed(1, &[&[1, 2, 3, 4]]).await;
    assert_eq!(read(&mut reader), [[1, 2, 3, 4]]);
    job.feed(1, &[&[5]]).await;
    assert_eq!(job.source.queue.lock().messages.len(), 1);
    assert_eq!(read(&mut job.open(None)), [[5]]);
}

#[tokio::test]
async fn a_source_keeps_so_many_records_and_reads_on_when_a_checkpoint_holds_them() {
    let mut job = Job::new(2 * MOST_KEPT, true).await;
    job.feeder(1).await;
    let mut reader = job.open(None);
    let most: Vec<u64> = (0..MOST_KEPT as u64).collect();
    job.feed(1, &[&most, &[1, 2]]).await;
    assert_eq!(read(&mut reader).len(), 1);
    reader.on_barrier(1);
    assert!(matches!(reader.poll(4, 0).unwrap(), Polled::Pending));
    reader.on_complete(1);
    assert_eq!(read(&mut reader), [[1, 2]]);
}

/// Passes deliveries to the test.
struct Desk;

struct Delivered(Delivery<u64>);

impl ractor::Message for Delivered {}

impl Actor for Desk {
    type Msg = Delivered;
    type State = tokio::sync::mpsc::UnboundedSender<Delivery<u64>>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<Delivered>,
        desk: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Delivered>,
        Delivered(delivery): Delivered,
        desk: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        desk.send(delivery)?;
        Ok(())
    }
}

async fn desk() -> (ActorRef<Delivered>, UnboundedReceiver<Delivery<u64>>) {
    let (desk, deliveries) = unbounded_channel();
    (Actor::spawn(None, Desk, desk).await.unwrap().0, deliveries)
}

fn push(sink: &mut Harness<()>, records: &[u64]) {
    sink.push_batch(0, Rows::untimed(records.to_vec()));
}

#[tokio::test]
async fn a_slow_actor_holds_the_stream_back_until_it_has_dealt_with_a_delivery() {
    let (desk, mut deliveries) = desk().await;
    let (wake, mut woken) = unbounded_channel();
    let waker: Waker = Arc::new(move || wake.send(()).unwrap_or_default());
    let mut sink = Harness::new(to_actor(desk, 2, Delivered)).with_place(move |place| place.waker = waker);
    for n in 1..=4 {
        push(&mut sink, &[n]);
    }
    let first = deliveries.recv().await.unwrap();
    let second = deliveries.recv().await.unwrap();
    assert_eq!([&first.rows.records, &second.rows.records], [&[1], &[2]]);
    // Woken without a reason, it still waits.
    sink.wake();
    assert!(deliveries.is_empty() && woken.is_empty());
    drop(second);
    woken.recv().await.unwrap();
    sink.wake();
    assert_eq!(deliveries.recv().await.unwrap().rows.records, [3]);
    drop(first);
    woken.recv().await.unwrap();
    sink.wake();
    assert_eq!(deliveries.recv().await.unwrap().rows.records, [4]);
}

#[tokio::test]
#[should_panic(
    expected = "the actor that the stream is delivered to has ended: keep it alive as long as the job"
)]
async fn an_actor_that_has_ended_fails_the_job() {
    let (desk, _deliveries) = desk().await;
    let mut sink = Harness::new(to_actor(desk.clone(), 2, Delivered));
    desk.stop_and_wait(None, None).await.unwrap();
    push(&mut sink, &[1]);
}

#[tokio::test]
#[should_panic(
    expected = "the actor that the stream is delivered to has ended: keep it alive as long as the job"
)]
async fn an_actor_that_ends_while_the_stream_waits_for_it_fails_the_job() {
    let (desk, deliveries) = desk().await;
    let (wake, mut woken) = unbounded_channel();
    let waker: Waker = Arc::new(move || wake.send(()).unwrap_or_default());
    let mut sink =
        Harness::new(to_actor(desk.clone(), 1, Delivered)).with_place(move |place| place.waker = waker);
    push(&mut sink, &[1]);
    push(&mut sink, &[2]);
    // What the actor still had goes with it, and that wakes the stream.
    desk.stop_and_wait(None, None).await.unwrap();
    drop(deliveries);
    woken.recv().await.unwrap();
    sink.wake();
}
