//! Jobs fed by actors and jobs that deliver to actors: the programmatic way in and out.
//!
//! [`ActorSource`] is a source whose inlet is an actor: any actor that was granted credit sends it records.
//! [`to_actor`] is the operator that ends a stream in an actor; a [`Delivery`] that is not yet dropped holds a place in
//! its window, so a slow actor holds the stream back instead of filling its own mailbox.
//!
//! Both live in the process that runs the job. In a job with checkpoints the source keeps what was read until a
//! checkpoint holds it, and reads it again after a failure; without, each record is read at most once. What was
//! delivered since the last checkpoint is delivered again by the sink.

use hurtig_dataflow::batch::{Record, Rows};
use hurtig_dataflow::error::{Fatal, OpResult};
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Place, Progress, Waker};
use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::time::Timestamp;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Records that wait for a checkpoint to hold them at most; none is read until one does.
const MOST_KEPT: usize = 1 << 20;

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
    /// Records of a feeder, with their event times if it has any. More than was granted is refused, and the job fails.
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

/// What feeders have sent, message by message. The messages are counted, so that a position is a number.
struct Queue<T> {
    /// Tells this queue from that of a process that has taken a savepoint.
    name: u64,
    /// Messages that were not read, and before them those that may have to be read again.
    messages: VecDeque<(u64, Rows<T>)>,
    /// Number of the first of them.
    first: u64,
    /// Number of the first that was never read.
    unread: u64,
    /// Records before that one.
    kept: usize,
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

    /// Forgets the messages before a number: they are not read again.
    fn forget(&mut self, before: u64) {
        while self.first < before.min(self.unread)
            && let Some((_, rows)) = self.messages.pop_front()
        {
            self.kept -= rows.len();
            self.first += 1;
        }
    }
}

impl<T: Record> Queue<T> {
    /// The message of a number, if it has come and may be read. Its feeder is granted as many records as it holds, but
    /// once only.
    fn read(&mut self, number: u64) -> Option<Rows<T>> {
        let is_new = number == self.unread;
        if is_new && self.kept >= MOST_KEPT {
            return None;
        }
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let (feeder, rows) = self.messages.get(at)?;
        if is_new {
            self.unread += 1;
            self.kept += rows.len();
            if let Some((grant, credit)) = self.feeders.get_mut(feeder) {
                *credit += rows.len();
                grant(rows.len());
            }
        }
        Some(rows.clone())
    }

    fn has_all_been_read(&self, next: u64) -> bool {
        next == self.first + self.messages.len() as u64
    }
}

/// How far an [`ActorSource`] has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    queue: u64,
    next: u64,
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
        #[allow(
            clippy::disallowed_methods,
            reason = "a position must not be taken for one of another process's queue"
        )]
        let name = rand::random();
        let queue = Arc::new(Mutex::new(Queue {
            name,
            messages: VecDeque::new(),
            first: 0,
            unread: 0,
            kept: 0,
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
                        queue.messages.push_back((feeder, rows));
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
    /// `None` is the beginning.
    type Split = Option<Position>;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<Self::Split>>> {
        Ok(Box::new(FixedSplits::new([None], restored)?))
    }

    fn open(
        &self,
        split: Self::Split,
        place: &Place,
    ) -> OpResult<Box<dyn SplitReader<Out = T, Split = Self::Split>>> {
        let mut queue = self.queue.lock();
        let next = match split {
            // That of another process is of no use: its feeders have gone, and these begin anew.
            Some(position) if position.queue == queue.name => position.next,
            _ => queue.first,
        };
        if next < queue.first && place.checkpointing {
            return Err("what actors have sent before the last checkpoint is not kept: start the job anew, with feeders that send it again".into());
        }
        queue.waker = Some(Arc::clone(&place.waker));
        let next = next.max(queue.first);
        let (keeps, barriers) = (place.checkpointing, VecDeque::new());
        Ok(Box::new(Outlet { queue: Arc::clone(&self.queue), next, keeps, barriers }))
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

/// Reads the queue.
struct Outlet<T> {
    queue: Arc<Mutex<Queue<T>>>,
    /// Number of the message to be read next.
    next: u64,
    /// Whether messages may have to be read again.
    keeps: bool,
    /// What was next at the barriers of checkpoints that are not known to be complete.
    barriers: VecDeque<(CheckpointId, u64)>,
}

impl<T: Record> SplitReader for Outlet<T> {
    type Out = T;
    type Split = Option<Position>;

    fn poll(&mut self, max: usize, _: Timestamp) -> OpResult<Polled<T>> {
        let mut queue = self.queue.lock();
        let mut batch = Rows::default();
        while batch.len() < max
            && let Some(mut rows) = queue.read(self.next)
        {
            self.next += 1;
            batch.append(&mut rows);
        }
        if !self.keeps {
            queue.forget(self.next);
        }
        if !batch.is_empty() {
            return Ok(Polled::Rows(batch));
        }
        if let Some(reason) = &queue.refused {
            return Err(Box::new(Fatal(reason.clone().into())));
        }
        let has_ended = queue.ended && queue.has_all_been_read(self.next);
        Ok(if has_ended { Polled::End } else { Polled::Pending })
    }

    fn position(&self) -> Option<Position> {
        Some(Position { queue: self.queue.lock().name, next: self.next })
    }

    fn on_barrier(&mut self, checkpoint: CheckpointId) {
        self.barriers.push_back((checkpoint, self.next));
    }

    fn on_complete(&mut self, checkpoint: CheckpointId) {
        while let Some((barrier, next)) = self.barriers.pop_front_if(|(barrier, _)| *barrier <= checkpoint) {
            if barrier == checkpoint {
                self.queue.lock().forget(next);
            }
        }
    }
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

#[cfg(test)]
mod tests;
