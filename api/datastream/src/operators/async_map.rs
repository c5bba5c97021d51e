//! Turns each record into another by a future: a request to a service, say. Keeps the records whose futures have not
//! been put out; after a restore their futures are made anew. A watermark never passes a record before it.

mod calls;

use crate::stream::DataStream;
use calls::{Calls, Entry};
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Place, Progress};
use hurtig_dataflow::panics::catch_panic_of;
use hurtig_dataflow::state::{Handle, ItemList, StateStore};
use hurtig_dataflow::time::{MIN_TIMESTAMP, millis};
use hurtig_dataflow::{BoxError, OpResult, Record, Rows, Timestamp};
use parking_lot::Mutex;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// How many futures run at once in each subtask, how long each may take, and in which order results go on.
#[derive(Clone, Copy, Debug)]
pub struct AsyncOptions {
    ordered: bool,
    capacity: usize,
    timeout: Duration,
}

impl AsyncOptions {
    /// Results go on in the order of their records. At most 100 futures at once, for 30 s each.
    pub fn ordered() -> Self {
        AsyncOptions { ordered: true, capacity: 100, timeout: Duration::from_secs(30) }
    }

    /// Results go on as they come, but not past a watermark. At most 100 futures at once, for 30 s each.
    pub fn unordered() -> Self {
        AsyncOptions { ordered: false, ..Self::ordered() }
    }

    /// Sets how many futures run at once in each subtask.
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity.max(1);
        self
    }

    /// Sets how long a future may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<T: Record> DataStream<T> {
    /// Turns each record into another by a future. One that fails or takes too long fails the attempt.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// async fn look_up(id: u64) -> OpResult<String> {
    ///     Ok(format!("user {id}"))
    /// }
    /// let env = Environment::new();
    /// env.from_range(0..10).map_async(AsyncOptions::ordered().with_capacity(20), look_up).print();
    /// ```
    pub fn map_async<U, F, Fut>(&self, options: AsyncOptions, function: F) -> DataStream<U>
    where
        U: Record,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = OpResult<U>> + Send + 'static,
    {
        self.map_async_or(options, function, |_, error| Err(error))
    }

    /// As [`map_async`](DataStream::map_async); `handle` is given the record of a future that failed or took too long
    /// and says what goes on in its place: a record, nothing, or an error that fails the attempt.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10)
    ///     .map_async_or(AsyncOptions::unordered(), |n| async move { Ok(n / 2) }, |n, _| Ok(Some(n)))
    ///     .print();
    /// ```
    pub fn map_async_or<U, F, Fut, H>(&self, options: AsyncOptions, function: F, handle: H) -> DataStream<U>
    where
        U: Record,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = OpResult<U>> + Send + 'static,
        H: Fn(T, BoxError) -> OpResult<Option<U>> + Send + Sync + 'static,
    {
        let (function, handle) = (Arc::new(function), Arc::new(handle));
        self.transform("AsyncMap", move || AsyncMap::new(options, Arc::clone(&function), Arc::clone(&handle)))
    }
}

/// Results of futures by the number of their record, as they come in from other threads.
type Finished<U> = Arc<Mutex<Vec<(u64, OpResult<U>)>>>;

struct AsyncMap<T, U, F, Fut, H> {
    options: AsyncOptions,
    function: Arc<F>,
    handle: Arc<H>,
    place: Option<Place>,
    finished: Finished<U>,
    calls: Calls<T, U>,
    rest: RowsIter<T>,
    /// Records of the checkpoint whose futures are not yet made again.
    restored: Vec<(T, Option<Timestamp>)>,
    /// Whether the watermark of the checkpoint is still to be put out.
    is_fresh: bool,
    inputs: Handle<ItemList<(T, Option<Timestamp>)>>,
    future: PhantomData<fn() -> Fut>,
}

impl<T: Record, U: Record, F, Fut, H> AsyncMap<T, U, F, Fut, H>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = OpResult<U>> + Send + 'static,
    H: Fn(T, BoxError) -> OpResult<Option<U>> + Send + Sync + 'static,
{
    fn new(options: AsyncOptions, function: Arc<F>, handle: Arc<H>) -> Self {
        AsyncMap {
            options,
            function,
            handle,
            place: None,
            finished: Finished::default(),
            calls: Calls::new(options.ordered),
            rest: RowsIter::default(),
            restored: Vec::new(),
            is_fresh: false,
            inputs: Handle::default(),
            future: PhantomData,
        }
    }

    /// Makes a record's future and lets it run.
    fn start(&mut self, record: T, time: Option<Timestamp>, now: Timestamp) -> OpResult {
        let place = self.place.as_ref().ok_or("the operator was not opened")?;
        let deadline = now.saturating_add(millis(self.options.timeout));
        let number = self.calls.push(record.clone(), time, deadline);
        let mut report =
            Report { number, finished: Arc::clone(&self.finished), place: place.clone(), sent: false };
        let future = (self.function)(record);
        (place.spawner)(Box::pin(async move {
            let result = catch_panic_of(future).await;
            report.send(result);
        }));
        Ok(())
    }

    /// What every call begins with: makes the futures of the checkpoint again, takes in results and time-outs, puts out
    /// what may go.
    fn advance(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult {
        let now = ctx.processing_time();
        for (record, time) in std::mem::take(&mut self.restored) {
            self.start(record, time, now)?;
        }
        if std::mem::take(&mut self.is_fresh) && ctx.watermark() > MIN_TIMESTAMP {
            self.calls.push_watermark(ctx.watermark());
        }
        let finished = std::mem::take(&mut *self.finished.lock());
        for (number, result) in finished {
            self.calls.finish(number, result);
        }
        let timeout = self.options.timeout;
        self.calls.expire(now, || format!("the future took longer than {timeout:?}").into());
        while let Some(entry) = self.calls.pop() {
            match entry {
                Entry::Result(_, time, Ok(result)) => ctx.emit(result, time),
                Entry::Result(record, time, Err(error)) => {
                    if let Some(result) = (self.handle)(record, error)? {
                        ctx.emit(result, time);
                    }
                }
                Entry::Watermark(watermark) => ctx.emit_watermark(watermark),
            }
        }
        Ok(())
    }
}

/// Reports a future's end, whichever way it ends.
struct Report<U> {
    number: u64,
    finished: Finished<U>,
    place: Place,
    sent: bool,
}

impl<U> Report<U> {
    fn send(&mut self, result: OpResult<U>) {
        self.sent = true;
        self.finished.lock().push((self.number, result));
        (self.place.waker)();
    }
}

impl<U> Drop for Report<U> {
    fn drop(&mut self) {
        if !self.sent {
            self.send(Err("the future was dropped before its end".into()));
        }
    }
}

impl<T: Record, U: Record, F, Fut, H> Operator for AsyncMap<T, U, F, Fut, H>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = OpResult<U>> + Send + 'static,
    H: Fn(T, BoxError) -> OpResult<Option<U>> + Send + Sync + 'static,
{
    type In = Rows<T>;
    type Out = Rows<U>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.inputs = ctx.states.list("inputs")?;
        self.restored = std::mem::take(&mut ctx.states.get_mut(self.inputs).items);
        self.is_fresh = ctx.restored;
        self.place = Some(ctx.place.clone());
        Ok(())
    }

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.rest = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.advance(ctx)?;
        while self.calls.len() < self.options.capacity {
            let Some((record, time)) = self.rest.next() else { return Ok(Progress::Done) };
            self.start(record, time, ctx.processing_time())?;
        }
        Ok(if self.rest.size_hint().0 == 0 { Progress::Done } else { Progress::Blocked })
    }

    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.advance(ctx)?;
        self.calls.push_watermark(ctx.watermark());
        self.advance(ctx)?;
        Ok(Progress::Done)
    }

    fn next_processing_time(&self, _: &StateStore) -> Option<Timestamp> {
        let is_restoring = self.is_fresh || !self.restored.is_empty();
        if is_restoring { Some(MIN_TIMESTAMP) } else { self.calls.next_deadline() }
    }

    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.advance(ctx)?;
        Ok(Progress::Done)
    }

    fn on_wake(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.advance(ctx)?;
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.advance(ctx)?;
        Ok(if self.calls.is_empty() { Progress::Done } else { Progress::Blocked })
    }

    fn before_snapshot(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Vec<Vec<u8>>> {
        let restored = self.restored.iter().cloned();
        let items = restored.chain(self.calls.inputs()).collect();
        ctx.states().get_mut(self.inputs).items = items;
        Ok(Vec::new())
    }

    fn forwards_watermarks(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
