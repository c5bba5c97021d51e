//! A stream and what can be said about it that needs no operator: names, parallelism, how its records travel.

use crate::environment::Environment;
use crate::keyed::{KeyedStream, Keys};
use hurtig_dataflow::graph::{
    Chaining, CommitterFactory, Logic, NodeId, OperatorFactory, SlotSharingGroup, StreamEdge, StreamNode,
};
use hurtig_dataflow::operator::{Operator, OutputTag, TwoInputOperator, erase, erase_two};
use hurtig_dataflow::partition::Partitioning;
use hurtig_dataflow::sink::{Sink, SinkOperator};
use hurtig_dataflow::wire::RowsCodec;
use hurtig_dataflow::{Key, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a stream's records come from.
#[derive(Clone)]
pub(crate) struct Upstream {
    node: NodeId,
    output: Option<Arc<str>>,
    partitioning: Option<Partitioning>,
}

impl Upstream {
    pub(crate) fn of(node: NodeId) -> Self {
        Upstream { node, output: None, partitioning: None }
    }
}

/// A stream of records of one type. Clones and transformations read the same records.
pub struct DataStream<T> {
    pub(crate) env: Environment,
    upstreams: Vec<Upstream>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        DataStream { env: self.env.clone(), upstreams: self.upstreams.clone(), record: PhantomData }
    }
}

/// Sets what an operation is called and how it is spread.
macro_rules! settings {
    () => {
        /// Names the operation for people.
        pub fn name(self, name: &str) -> Self {
            self.change(|node| node.name = name.to_string());
            self
        }

        /// Names the operation for checkpoints: as long as the uid stays, its state is found again.
        pub fn uid(self, uid: &str) -> Self {
            self.change(|node| node.uid = Some(uid.to_string()));
            self
        }

        /// Sets the number of subtasks.
        pub fn set_parallelism(self, parallelism: usize) -> Self {
            self.change(|node| node.parallelism = Some(parallelism));
            self
        }

        /// Sets the largest number of subtasks, whatever the job's parallelism.
        pub fn set_max_parallelism(self, most: usize) -> Self {
            self.change(|node| node.max_subtasks = Some(most));
            self
        }

        /// Keeps the operation in subtasks of its own.
        pub fn disable_chaining(self) -> Self {
            self.change(|node| node.chaining = Chaining::Never);
            self
        }

        /// Parts the operation from those before it, but not from those after it.
        pub fn start_new_chain(self) -> Self {
            self.change(|node| node.chaining = Chaining::Head);
            self
        }

        /// Puts the operation, and those after it that say nothing else, into slots of their own, which may ask for
        /// processor cores and memory.
        pub fn slot_sharing_group(self, group: impl Into<SlotSharingGroup>) -> Self {
            let group = group.into();
            self.change(|node| node.slot_group = Some(group));
            self
        }
    };
}

/// Settings of the operation whose output the stream is.
///
/// # Panics
/// The stream is a union, which is no operation: name its inputs.
impl<T: Record> DataStream<T> {
    fn change(&self, change: impl FnOnce(&mut StreamNode)) {
        match &self.upstreams[..] {
            [upstream] => self.env.change(upstream.node, change),
            _ => panic!("a union is no operation of its own: name or set its inputs"),
        }
    }

    settings!();
}

/// How records travel to the next operation.
impl<T: Record> DataStream<T> {
    pub(crate) fn new(env: Environment, upstreams: Vec<Upstream>) -> Self {
        DataStream { env, upstreams, record: PhantomData }
    }

    pub(crate) fn partitioned(&self, partitioning: Partitioning) -> Self {
        let mut stream = self.clone();
        for upstream in &mut stream.upstreams {
            upstream.partitioning = Some(partitioning.clone());
        }
        stream
    }

    /// Evenly over all subtasks of the next operation, record by record.
    pub fn rebalance(&self) -> Self {
        self.partitioned(Partitioning::rebalance::<T>())
    }

    /// Evenly over the share of the next operation's subtasks that lies nearest: fewer channels than
    /// [`rebalance`](DataStream::rebalance).
    pub fn rescale(&self) -> Self {
        self.partitioned(Partitioning::rescale::<T>())
    }

    /// At random over all subtasks of the next operation. The sequence is pseudo-random, the same in each run.
    pub fn shuffle(&self) -> Self {
        let next = AtomicU64::new(0);
        self.partitioned(Partitioning::custom(move |_: &T, channels| {
            // SplitMix64 (Steele, Lea, Flood, 2014).
            let mut z = next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % channels as u64) as usize
        }))
    }

    /// Every record to every subtask of the next operation.
    pub fn broadcast(&self) -> Self {
        self.partitioned(Partitioning::broadcast::<T>())
    }

    /// One to one; the next operation must have the same parallelism.
    pub fn forward(&self) -> Self {
        self.partitioned(Partitioning::forward::<T>())
    }

    /// To the subtask that `choose` picks from the record's key and the number of subtasks.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10).partition_custom(|key, subtasks| *key as usize % subtasks, |n| n / 2).discard();
    /// ```
    pub fn partition_custom<K>(
        &self,
        choose: impl Fn(&K, usize) -> usize + Send + Sync + 'static,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Self {
        self.partitioned(Partitioning::custom(move |record: &T, channels| choose(&key(record), channels)))
    }

    /// Parts the stream by a key: records of equal keys go to the same subtask of the next operation, which keeps state
    /// and timers per key.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100).key_by(|n| n % 7).reduce(|a, b| a + b).print();
    /// ```
    pub fn key_by<K: Key>(&self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyedStream<T, K> {
        let key = Arc::new(key);
        KeyedStream::new(self.partitioned(Partitioning::hash(Arc::clone(&key))), Keys::partitioned(key))
    }

    /// As [`key_by`](DataStream::key_by), for a key that lies within the record and costs something to clone: it is cloned
    /// where it is kept, but not to find out where the record goes.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let words = env.from_collection(["to", "be", "or", "not", "to", "be"].map(str::to_string).to_vec());
    /// words.key_by_ref(|word| word).count().print();
    /// ```
    pub fn key_by_ref<K: Key>(&self, key: impl Fn(&T) -> &K + Send + Sync + 'static) -> KeyedStream<T, K> {
        let key = Arc::new(key);
        let partitioning = Partitioning::hash_ref(Arc::clone(&key));
        let keys = Keys::partitioned(Arc::new(move |record: &T| key(record).clone()));
        KeyedStream::new(self.partitioned(partitioning), keys)
    }

    /// Takes the stream as keyed without sending its records anywhere. They must already lie where
    /// [`key_by`](DataStream::key_by) with the same key would send them.
    pub fn reinterpret_as_keyed<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<T, K> {
        KeyedStream::new(self.clone(), Keys::new(Arc::new(key)))
    }

    /// The records of both streams, in any order.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let small = env.from_range(0..10);
    /// let large = env.from_range(1_000..1_010);
    /// small.union(&large).print();
    /// ```
    ///
    /// # Panics
    /// The streams belong to different environments.
    pub fn union(&self, other: &DataStream<T>) -> DataStream<T> {
        self.same_program(&other.env);
        let mut stream = self.clone();
        stream.upstreams.extend(other.upstreams.iter().cloned());
        stream
    }

    pub(crate) fn same_program(&self, other: &Environment) {
        assert!(self.env.is(other), "streams of two environments cannot meet in one job");
    }

    /// The records that the operation before has put out under a tag.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// let late = OutputTag::<u64>::new("late");
    /// let sums = env
    ///     .from_range(0..100)
    ///     .key_by(|n| n % 2)
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
    ///     .side_output_late_data(&late)
    ///     .reduce(|a, b| a + b);
    /// sums.side_output(&late).print();
    /// ```
    pub fn side_output<S: Record>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let mut upstreams = self.upstreams.clone();
        for upstream in &mut upstreams {
            upstream.output = Some(Arc::clone(tag.name()));
            upstream.partitioning = None;
        }
        DataStream::new(self.env.clone(), upstreams)
    }
}

/// Adding operations.
impl<T: Record> DataStream<T> {
    /// The stream that an operation of [`Environment::add`] puts out, whose batches must be [`Rows`] of the record type.
    pub fn of_node(env: &Environment, node: NodeId) -> Self {
        DataStream::new(env.clone(), vec![Upstream::of(node)])
    }

    /// The program that the stream is part of.
    pub fn environment(&self) -> &Environment {
        &self.env
    }

    /// What an operation of [`Environment::add`] reads that reads this stream.
    pub fn edges(&self, port: usize) -> impl Iterator<Item = StreamEdge> {
        self.upstreams.iter().map(move |upstream| StreamEdge {
            from: upstream.node,
            output: upstream.output.clone(),
            port,
            partitioning: upstream.partitioning.clone().unwrap_or_else(Partitioning::forward::<T>),
            explicit: upstream.partitioning.is_some(),
            codec: RowsCodec::<T>::shared(),
        })
    }

    /// Adds an operator with one input. The way to use an operator of one's own.
    pub fn transform<O: Operator<In = Rows<T>, Out = Rows<U>>, U: Record>(
        &self,
        name: &str,
        make: impl Fn() -> O + Send + Sync + 'static,
    ) -> DataStream<U> {
        let factory: OperatorFactory = Arc::new(move || erase(make()));
        self.add(name, Logic::Operator(factory), self.edges(0).collect())
    }

    /// Adds an operator with two inputs.
    ///
    /// # Panics
    /// The streams belong to different environments.
    pub fn transform_two<B: Record, O, U: Record>(
        &self,
        other: &DataStream<B>,
        name: &str,
        make: impl Fn() -> O + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        O: TwoInputOperator<In1 = Rows<T>, In2 = Rows<B>, Out = Rows<U>>,
    {
        self.same_program(&other.env);
        let factory: OperatorFactory = Arc::new(move || erase_two(make()));
        self.add(name, Logic::Operator(factory), self.edges(0).chain(other.edges(1)).collect())
    }

    fn add<U: Record>(&self, name: &str, logic: Logic, inputs: Vec<StreamEdge>) -> DataStream<U> {
        let node = self.env.add(StreamNode {
            name: name.to_string(),
            uid: None,
            parallelism: None,
            max_subtasks: None,
            logic,
            chaining: Chaining::Always,
            slot_group: None,
            inputs,
        });
        DataStream::new(self.env.clone(), vec![Upstream::of(node)])
    }

    /// Writes the stream to a sink.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use hurtig_dataflow::{operator::Place, Rows};
    ///
    /// struct Null;
    /// struct NullWriter;
    /// impl Sink for Null {
    ///     type In = u64;
    ///     fn writer(&self, _: &Place) -> OpResult<Box<dyn SinkWriter<u64>>> {
    ///         Ok(Box::new(NullWriter))
    ///     }
    /// }
    /// impl SinkWriter<u64> for NullWriter {
    ///     fn write(&mut self, _: Rows<u64>, _: &mut SinkContext<'_>) -> OpResult {
    ///         Ok(())
    ///     }
    /// }
    /// let env = Environment::new();
    /// env.from_range(0..10).sink_to(Null).name("null");
    /// ```
    pub fn sink_to<S: Sink<In = T>>(&self, sink: S) -> StreamSink {
        let sink = Arc::new(sink);
        let committers = Arc::clone(&sink);
        let factory: OperatorFactory = Arc::new(move || erase(SinkOperator::new(Arc::clone(&sink))));
        let committer: CommitterFactory = Arc::new(move || committers.committer());
        let node: DataStream<T> = self.add("Sink", Logic::Sink(factory, committer), self.edges(0).collect());
        StreamSink { env: self.env.clone(), node: node.upstreams[0].node }
    }
}

/// A sink of a program; its settings can be changed.
pub struct StreamSink {
    env: Environment,
    node: NodeId,
}

impl StreamSink {
    fn change(&self, change: impl FnOnce(&mut StreamNode)) {
        self.env.change(self.node, change);
    }

    settings!();
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;
    use hurtig_dataflow::partition::Pattern;

    #[test]
    fn a_program_becomes_chains_cut_where_keys_and_settings_say() {
        let env = Environment::new();
        env.set_parallelism(2);
        let odd = env.from_range(0..10).map(|n| n + 1).filter(|n| n % 2 == 1).name("odd").uid("odd");
        odd.key_by(|n| n % 3).reduce(|a, b| a + b).disable_chaining().discard();
        odd.union(&env.from_range(5..6)).rebalance().for_each(|_| {}).set_parallelism(1);
        let job = env.graph().job_graph("test", &env.defaults(1)).unwrap();
        let names: Vec<_> = job.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
        assert_eq!(names, ["Range -> Map -> odd", "Reduce", "Discard", "Range", "ForEach"]);
        let patterns: Vec<_> = job.edges.iter().map(|edge| edge.partitioning.pattern).collect();
        assert_eq!(patterns, [Pattern::Hash, Pattern::Forward, Pattern::Rebalance, Pattern::Rebalance]);
        assert_eq!(job.vertices[0].chain[2].uid, "odd");
    }

    #[test]
    fn groups_and_settings_cut_chains_and_a_job_needs_slots_for_each_group() {
        let env = Environment::new();
        env.set_parallelism(3);
        let heavy = env.from_range(0..10).map(|n| n + 1).slot_sharing_group("heavy").filter(|n| *n > 3);
        let tail = heavy.map(|n| n + 2).name("tail").start_new_chain();
        let few = tail.map(|n| n + 3).name("few").set_max_parallelism(2);
        few.slot_sharing_group("default").discard();
        let job = env.graph().job_graph("test", &env.defaults(1)).unwrap();
        let vertices: Vec<_> = job
            .vertices
            .iter()
            .map(|vertex| (vertex.name.as_str(), vertex.slot_group.as_str(), vertex.parallelism))
            .collect();
        let expected = [
            ("Range", "default", 3),
            ("Map -> Filter", "heavy", 3),
            ("tail", "heavy", 3),
            ("few", "default", 2),
            ("Discard", "default", 3),
        ];
        assert_eq!(vertices, expected);
        // Of each group as many as its widest operation has subtasks.
        assert_eq!(job.slots(), 3 + 3);
    }

    #[test]
    fn ways_to_the_next_operation_are_those_that_were_asked_for() {
        let env = Environment::new();
        env.set_parallelism(2);
        let numbers = env.from_range(0..10);
        numbers.partition_custom(|key, subtasks| *key as usize % subtasks, |n| n / 2).discard();
        numbers.shuffle().discard();
        numbers.broadcast().discard();
        let keyed = numbers.forward().map(|n| n).key_by(|n| n % 3).reduce(|a, b| a + b).disable_chaining();
        keyed.reinterpret_as_keyed(|n| n % 3).reduce(|a, b| a + b).discard();
        let job = env.graph().job_graph("test", &env.defaults(1)).unwrap();
        let patterns: Vec<_> = job.edges.iter().map(|edge| edge.partitioning.pattern).collect();
        let expected =
            [Pattern::Custom, Pattern::Custom, Pattern::Broadcast, Pattern::Hash, Pattern::Forward];
        assert_eq!(patterns, expected);
        // What is forwarded, or taken as keyed, is chained.
        let names: Vec<_> = job.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
        assert_eq!(names, ["Range -> Map", "Discard", "Discard", "Discard", "Reduce", "Reduce -> Discard"]);
    }

    #[test]
    fn to_forward_to_another_parallelism_is_refused() {
        let env = Environment::new();
        env.from_range(0..10)
            .set_parallelism(2)
            .forward()
            .map(|n| n)
            .name("other")
            .set_parallelism(3)
            .discard();
        let refused = env.graph().job_graph("test", &env.defaults(1)).map(drop).unwrap_err().to_string();
        assert!(refused.contains("'Range' (parallelism 2) forwards to 'other' (parallelism 3)"), "{refused}");
    }
}
