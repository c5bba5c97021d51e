//! Where a program starts: gathers its job graph.

use crate::sources::collection::CollectionSource;
use crate::sources::generator::GeneratorSource;
use crate::sources::iterator::IteratorSource;
use crate::sources::range::RangeSource;
use crate::sources::socket::SocketTextSource;
use crate::stream::{DataStream, Upstream};
use hurtig_dataflow::Record;
use hurtig_dataflow::graph::{Chaining, GraphDefaults, Logic, NodeId, StreamGraph, StreamNode};
use hurtig_dataflow::source::{Source, erase_source};
use hurtig_dataflow::watermark::WatermarkStrategy;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Gathers the job graph of one program. Clones share it.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// let env = Environment::new();
/// env.set_parallelism(2);
/// env.from_range(0..1_000).map(|n| n * n).discard();
/// let graph = env.graph();
/// assert_eq!(graph.nodes.len(), 3);
/// ```
#[derive(Clone, Default)]
pub struct Environment {
    shared: Arc<Mutex<Building>>,
}

#[derive(Default)]
struct Building {
    graph: StreamGraph,
    parallelism: Option<usize>,
    max_parallelism: Option<u32>,
    no_chaining: bool,
}

impl Environment {
    /// An environment without any operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of subtasks of operations that set none themselves.
    pub fn set_parallelism(&self, parallelism: usize) -> &Self {
        self.shared.lock().parallelism = Some(parallelism);
        self
    }

    /// Sets the number of key groups: the largest parallelism the job can ever be rescaled to.
    pub fn set_max_parallelism(&self, max_parallelism: u32) -> &Self {
        self.shared.lock().max_parallelism = Some(max_parallelism);
        self
    }

    /// Keeps operators apart that could be fused into one subtask.
    pub fn disable_chaining(&self) -> &Self {
        self.shared.lock().no_chaining = true;
        self
    }

    /// The parallelism the program has set, if any.
    pub fn parallelism(&self) -> Option<usize> {
        self.shared.lock().parallelism
    }

    /// The number of key groups the program has set, if any.
    pub fn max_parallelism(&self) -> Option<u32> {
        self.shared.lock().max_parallelism
    }

    /// Whether operators may be fused.
    pub fn is_chaining_enabled(&self) -> bool {
        !self.shared.lock().no_chaining
    }

    /// What the job graph is built with; what the program has set goes before `parallelism`.
    pub fn defaults(&self, parallelism: usize) -> GraphDefaults {
        let building = self.shared.lock();
        GraphDefaults {
            parallelism: building.parallelism.unwrap_or(parallelism),
            max_parallelism: building.max_parallelism,
            chaining: !building.no_chaining,
            of_uids: BTreeMap::new(),
        }
    }

    /// The operations gathered so far.
    pub fn graph(&self) -> StreamGraph {
        self.shared.lock().graph.clone()
    }

    /// Whether both are handles of the same program.
    pub(crate) fn is(&self, other: &Environment) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Adds an operation as it is: for APIs that are built on this one.
    pub fn add(&self, node: StreamNode) -> NodeId {
        self.shared.lock().graph.add(node)
    }

    pub(crate) fn change<R>(&self, node: NodeId, change: impl FnOnce(&mut StreamNode) -> R) -> R {
        change(&mut self.shared.lock().graph.nodes[node])
    }

    /// A stream of a source's records.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let numbers = GeneratorSource::new(|index| index).with_count(100);
    /// env.from_source(numbers, WatermarkStrategy::none(), "numbers").print();
    /// ```
    pub fn from_source<S: Source>(
        &self,
        source: S,
        watermarks: WatermarkStrategy<S::Out>,
        name: &str,
    ) -> DataStream<S::Out> {
        self.source(source, watermarks, name, None)
    }

    fn source<S: Source>(
        &self,
        source: S,
        watermarks: WatermarkStrategy<S::Out>,
        name: &str,
        max_subtasks: Option<usize>,
    ) -> DataStream<S::Out> {
        let node = self.add(StreamNode {
            name: name.to_string(),
            uid: None,
            parallelism: None,
            max_subtasks,
            logic: Logic::Source(erase_source(source, watermarks)),
            chaining: Chaining::Always,
            slot_group: None,
            inputs: Vec::new(),
        });
        DataStream::new(self.clone(), vec![Upstream::of(node)])
    }

    /// A stream of the given records, in order: read by one subtask.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec!["to".to_string(), "be".to_string()]).print();
    /// ```
    pub fn from_collection<T: Record>(&self, records: Vec<T>) -> DataStream<T> {
        self.source(CollectionSource::new(records), WatermarkStrategy::none(), "Collection", Some(1))
    }

    /// A stream of the records of iterators, one per subtask: `make` gets the index of the iterator and how many there
    /// are. It must give the same records each time it is called with the same arguments: after a failure the iterator
    /// is made anew and skips what was read.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_iter(|index, of| (0..100u64).skip(index).step_by(of)).discard();
    /// ```
    pub fn from_iter<T: Record, I>(
        &self,
        make: impl Fn(usize, usize) -> I + Send + Sync + 'static,
    ) -> DataStream<T>
    where
        I: Iterator<Item = T> + Send + 'static,
    {
        self.from_source(IteratorSource::new(make), WatermarkStrategy::none(), "Iterator")
    }

    /// A stream of numbers. With `n` subtasks each reads every `n`-th number, so that all go through the range at the
    /// same pace and event times taken from the numbers stay aligned.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(1..101).filter(|n| n % 2 == 0).discard();
    /// ```
    pub fn from_range(&self, range: Range<u64>) -> DataStream<u64> {
        self.from_source(RangeSource::new(range), WatermarkStrategy::none(), "Range")
    }

    /// A stream of generated records.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let source = GeneratorSource::new(|index| (index % 10, index as i64)).with_rate(1_000.0);
    /// let strategy = WatermarkStrategy::monotonous().with_timestamps(|r: &(u64, i64)| r.1);
    /// env.generate(source, strategy).print();
    /// ```
    pub fn generate<T: Record>(
        &self,
        source: GeneratorSource<T>,
        watermarks: WatermarkStrategy<T>,
    ) -> DataStream<T> {
        self.from_source(source, watermarks, "Generator")
    }

    /// A stream of the lines of text that a TCP server sends, for trying things out: what the server has sent is gone
    /// after a failure, so each line arrives at most once. The stream ends when the server closes the connection.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.socket_text("localhost:9999").print();
    /// ```
    pub fn socket_text(&self, address: &str) -> DataStream<String> {
        let source = SocketTextSource::new(address);
        self.source(source, WatermarkStrategy::none(), "Socket", Some(1))
    }
}
