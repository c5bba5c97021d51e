//! Jobs fed by actors and jobs that deliver to actors: the programmatic way in and out.
//!
//! [`ActorSource`] is a source whose inlet is an actor: any actor that was granted credit sends it records.
//! [`to_actor`] is the operator that ends a stream in an actor; a [`Delivery`] that is not yet dropped holds a place in
//! its window, so a slow actor holds the stream back instead of filling its own mailbox.
//!
//! Both live in the process that runs the job. What was sent before a failure is not sent again by the source, and
//! what was delivered since the last checkpoint is delivered again by the sink.

use hurtig_dataflow::batch::{Record, Rows};
use hurtig_dataflow::error::OpResult;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Place, Progress, Waker};

use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::time::Timestamp;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Tells a feeding actor how many more records it may send: made by the feeder from its own reference.
pub type GrantCredit = Arc<dyn Fn(usize) + Send + Sync>;

/// What the inlet of an [`ActorSource`] is told.
pub enum Feed<T> {
    /// A feeder introduces itself under a number of its choice; it is granted credit at once, and again as its records
    /// are read.
    Connect {
        /// The feeder's number.
        feeder: u64,
        /// Called with the number of records it may send on top.
        grant: GrantCredit,
    },
    /// Records of a feeder, with their event times if it has any. More than was granted is refused: the inlet stops,
    /// and with it the job's input.
    Records {
        /// The feeder's number.
        feeder: u64,
        /// The records.
        rows: Rows<T>,
    },
    /// A feeder has no more.
    Disconnect {
        /// The feeder's number.
        feeder: u64,
    },
    /// Nobody has more: the job's input ends.
    End,
}

impl<T: Record> ractor::Message for Feed<T> {}

struct Queue<T> {
    waiting: VecDeque<(u64, Rows<T>)>,
    feeders: HashMap<u64, (GrantCredit, usize)>,
    ended: bool,
    refused: Option<String>,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker();
        }
    }
}

/// A source whose records come from actors. Runs as one subtask.
pub struct ActorSource<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

/// The actor behind an [`ActorSource`].
struct Inlet<T> {
    queue: Arc<Mutex<Queue<T>>>,
    window: usize,
}

impl<T: Record> ActorSource<T> {
    /// A source and its inlet. Each feeder may have up to `window` records on the way.
    ///
    /// # Errors
    /// The inlet cannot be started.
    pub async fn new(window: usize) -> Result<(Self, ActorRef<Feed<T>>), SpawnErr> {
        let queue = Arc::new(Mutex::new(Queue {
            waiting: VecDeque::new(),
            feeders: HashMap::new(),
            ended: false,
            refused: None,
            waker: None,
        }));
        let inlet = Inlet { queue: Arc::clone(&queue), window: window.max(1) };
        let (inlet, _) = Actor::spawn(None, inlet, ()).await?;
        Ok((ActorSource { queue }, inlet))
    }
}

impl<T: Record> Actor for Inlet<T> {
    type Msg = Feed<T>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Feed<T>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Feed<T>>,
        message: Feed<T>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut queue = self.queue.lock();
        match message {
            Feed::Connect { feeder, grant } => {
                grant(self.window);
                queue.feeders.insert(feeder, (grant, self.window));
            }
            Feed::Records { feeder, rows } => {
                match queue.feeders.get_mut(&feeder) {
                    Some((_, credit)) if *credit >= rows.len() => {
                        *credit -= rows.len();
                        queue.waiting.push_back((feeder, rows));
                    }
                    known => {
                        let credit = known.map_or(0, |(_, credit)| *credit);
                        queue.refused = Some(format!(
                            "feeder {feeder} sent {} records but was granted {credit}: connect first, and send no more than is granted",
                            rows.len()
                        ));
                    }
                }
                queue.wake();
            }
            Feed::Disconnect { feeder } => drop(queue.feeders.remove(&feeder)),
            Feed::End => {
                queue.ended = true;
                queue.wake();
            }
        }
        Ok(())
    }
}

impl<T: Record> Source for ActorSource<T> {
    type Out = T;
    type Split = ();

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<()>>> {
        Ok(Box::new(FixedSplits::new([()], restored)?))
    }

    fn open(&self, (): (), place: &Place) -> OpResult<Box<dyn SplitReader<Out = T, Split = ()>>> {
        self.queue.lock().waker = Some(Arc::clone(&place.waker));
        Ok(Box::new(Outlet { queue: Arc::clone(&self.queue) }))
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

struct Outlet<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

impl<T: Record> SplitReader for Outlet<T> {
    type Out = T;
    type Split = ();

    fn poll(&mut self, max: usize, _: Timestamp) -> OpResult<Polled<T>> {
        let mut queue = self.queue.lock();
        let mut batch = Rows::default();
        let mut read: HashMap<u64, usize> = HashMap::new();
        while batch.len() < max
            && let Some((feeder, mut rows)) = queue.waiting.pop_front()
        {
            *read.entry(feeder).or_default() += rows.len();
            batch.append(&mut rows);
        }
        for (feeder, count) in read {
            if let Some((grant, credit)) = queue.feeders.get_mut(&feeder) {
                *credit += count;
                grant(count);
            }
        }
        match batch.is_empty() {
            false => Ok(Polled::Rows(batch)),
            true => match (queue.refused.take(), queue.ended) {
                (Some(reason), _) => Err(reason.into()),
                (None, true) => Ok(Polled::End),
                (None, false) => Ok(Polled::Pending),
            },
        }
    }

    fn position(&self) {}
}

/// Records delivered to an actor. Dropping it tells the job that they are dealt with.
pub struct Delivery<T> {
    /// The records with their event times.
    pub rows: Rows<T>,
    place: Option<Arc<Window>>,
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if let Some(window) = self.place.take() {
            *window.open.lock() -= 1;
            (window.waker)();
        }
    }
}

struct Window {
    open: Mutex<usize>,
    waker: Waker,
}

/// The operator that ends a stream in an actor. `wrap` makes the actor's message of a delivery; at most `window`
/// deliveries are on the way from each subtask.
pub fn to_actor<T: Record, M: ractor::Message>(
    target: ActorRef<M>,
    window: usize,
    wrap: impl Fn(Delivery<T>) -> M + Send + Sync + 'static,
) -> impl Fn() -> ActorSink<T, M> + Send + Sync + 'static {
    let wrap: Wrap<T, M> = Arc::new(wrap);
    move || ActorSink {
        target: target.clone(),
        most: window.max(1),
        wrap: Arc::clone(&wrap),
        window: None,
        waiting: None,
    }
}

type Wrap<T, M> = Arc<dyn Fn(Delivery<T>) -> M + Send + Sync>;

/// Delivers a stream to an actor; see [`to_actor`].
pub struct ActorSink<T, M> {
    target: ActorRef<M>,
    most: usize,
    wrap: Wrap<T, M>,
    window: Option<Arc<Window>>,
    waiting: Option<Rows<T>>,
}

impl<T: Record, M: ractor::Message> ActorSink<T, M> {
    fn deliver(&mut self) -> OpResult<Progress> {
        let (Some(window), Some(rows)) = (&self.window, self.waiting.take()) else {
            return Ok(Progress::Done);
        };
        {
            let mut open = window.open.lock();
            if *open >= self.most {
                self.waiting = Some(rows);
                return Ok(Progress::Blocked);
            }
            *open += 1;
        }
        let delivery = Delivery { rows, place: Some(Arc::clone(window)) };
        let sent = self.target.cast((self.wrap)(delivery));
        sent.map_err(
            |_| "the actor that the stream is delivered to has ended: keep it alive as long as the job",
        )?;
        Ok(Progress::Done)
    }
}

impl<T: Record, M: ractor::Message> Operator for ActorSink<T, M> {
    type In = Rows<T>;
    type Out = Rows<()>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.window = Some(Arc::new(Window { open: Mutex::new(0), waker: Arc::clone(&ctx.place.waker) }));
        Ok(())
    }

    fn process(&mut self, batch: Rows<T>, _: &mut Context<'_, '_, Rows<()>>) -> OpResult<Progress> {
        self.waiting = Some(batch);
        self.deliver()
    }

    fn resume(&mut self, _: &mut Context<'_, '_, Rows<()>>) -> OpResult<Progress> {
        self.deliver()
    }
}
