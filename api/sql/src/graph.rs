//! Plans as operations of a job.

use crate::changes::{ChangesCodec, by_key, forward};
use crate::connector::{ScanInput, ScanRequest, SinkInput, TableSink};
use crate::connectors::BatchesSource;
use crate::error::SqlError;
use crate::operators::{
    Aggregate, Calc, JoinOperator, LookupJoin, Over, OverTime, Pack, Rank, Session, Sort, TemporalJoin,
    TimeSort, Unpack, WindowAssigner,
};
use crate::plan::stream::{Emit, Join, JoinKind, Node, Op, Physical};
use crate::{Changes, catalog};
use arrow::array::AsArray;
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use hurtig_dataflow::graph::{Chaining, Logic, NodeId, OperatorFactory, StreamEdge, StreamNode};
use hurtig_dataflow::operator::{erase, erase_two};
use hurtig_dataflow::partition::Partitioning;
use hurtig_dataflow::time::MIN_TIMESTAMP;
use hurtig_dataflow::watermark::{WatermarkGenerator, WatermarkStrategy};
use hurtig_dataflow::wire::RowsCodec;
use hurtig_dataflow::{Timestamp, key::hash_key};
use hurtig_datastream::Environment;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a plan has become.
#[derive(Clone)]
pub(crate) struct Built {
    /// The operations whose output it is.
    nodes: Vec<NodeId>,
    schema: SchemaRef,
    /// Whether rows are in an order that more than one subtask would lose.
    is_ordered: bool,
}

/// Adds operations to a job.
pub(crate) struct GraphBuilder<'a> {
    pub(crate) env: &'a Environment,
    pub(crate) is_batch: bool,
    pub(crate) idle_after: Option<Duration>,
    /// How often each uid was asked for.
    pub(crate) uids: HashMap<String, usize>,
}

/// Follows a table's watermark.
struct SqlWatermark {
    expr: Physical,
    largest: Timestamp,
}

impl WatermarkGenerator<Changes> for SqlWatermark {
    fn on_batch(&mut self, records: &[Changes], _: &[Timestamp]) {
        for changes in records {
            let rows = changes.batch.num_rows();
            // What cannot be computed does not move the watermark; where it is read as a column, it fails the job.
            let Ok(array) = self.expr.evaluate(&changes.batch).and_then(|value| value.into_array(rows))
            else {
                continue;
            };
            let zone = match array.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => continue,
            };
            let Ok(array) = cast(&array, &DataType::Timestamp(TimeUnit::Millisecond, zone)) else { continue };
            if let Some(time) = max(array.as_primitive::<TimestampMillisecondType>()) {
                self.largest = self.largest.max(time);
            }
        }
    }

    fn watermark(&self) -> Timestamp {
        self.largest
    }
}

impl GraphBuilder<'_> {
    /// A name for checkpoints that is the same as long as what the operator does and reads is.
    fn uid(&mut self, text: &str) -> String {
        let uid = format!("sql-{:016x}", hash_key(text));
        let count = self.uids.entry(uid.clone()).or_default();
        *count += 1;
        if *count == 1 { uid } else { format!("{uid}-{count}") }
    }

    fn edges(&self, input: &Built, port: usize, partitioning: &Partitioning) -> Vec<StreamEdge> {
        let edge = |from: &NodeId| StreamEdge {
            from: *from,
            output: None,
            port,
            partitioning: partitioning.clone(),
            explicit: false,
            codec: ChangesCodec::shared(Arc::clone(&input.schema)),
        };
        input.nodes.iter().map(edge).collect()
    }

    fn add(
        &mut self,
        node: &Node,
        operator: OperatorFactory,
        inputs: Vec<StreamEdge>,
        is_ordered: bool,
    ) -> Built {
        let uid = self.uid(&node.lineage());
        let id = self.env.add(StreamNode {
            name: node.op.name().to_string(),
            uid: Some(uid),
            parallelism: None,
            max_subtasks: is_ordered.then_some(1),
            logic: Logic::Operator(operator),
            chaining: Chaining::Always,
            slot_group: None,
            inputs,
        });
        Built { nodes: vec![id], schema: Arc::clone(&node.schema), is_ordered }
    }

    /// Adds a plan.
    pub(crate) fn build(&mut self, node: &Node) -> Result<Built, SqlError> {
        if let Op::Join(join) = &node.op
            && let JoinKind::Lookup { outer } = join.kind
        {
            return self.lookup(node, join, outer);
        }
        let inputs = node.inputs.iter().map(|input| self.build(input)).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::clone(&node.schema);
        let input_schema = |at: usize| Arc::clone(&node.inputs[at].schema);
        let is_append_only = |at: usize| node.inputs[at].properties.is_append_only;
        let (partitioning, operator): (Partitioning, OperatorFactory) = match &node.op {
            Op::Scan { table, columns, watermark } => {
                return self.scan(node, table, columns, watermark.clone());
            }
            Op::Values(batch) => {
                let source = BatchesSource::new(vec![Changes::append_only(batch.clone())]);
                let request = ScanRequest { columns: Vec::new(), watermarks: WatermarkStrategy::none() };
                let scan = crate::connector::Scan::of(source, request).with_max_subtasks(1);
                return Ok(self.source(node, scan));
            }
            Op::Union => {
                return Ok(Built {
                    nodes: inputs.iter().flat_map(|input| input.nodes.iter().copied()).collect(),
                    schema,
                    is_ordered: false,
                });
            }
            Op::Calc { predicate, columns } => {
                let (predicate, columns) = (predicate.clone(), columns.clone());
                let make = move || {
                    let (predicate, columns) = (predicate.clone(), columns.clone());
                    erase(Calc { predicate, columns, schema: Arc::clone(&schema) })
                };
                (forward(), Arc::new(make))
            }
            Op::Window { window, time } => {
                let (window, time) = (*window, *time);
                (
                    forward(),
                    Arc::new(move || erase(WindowAssigner { window, time, schema: Arc::clone(&schema) })),
                )
            }
            Op::Aggregate { groups, calls, emit } => {
                let (groups, calls, emit) = (groups.clone(), calls.clone(), *emit);
                let (keys, append) = (groups.clone(), is_append_only(0));
                let make = move || match emit {
                    Emit::Session { time, gap, is_processing_time } => erase(Session::new(
                        groups.clone(),
                        calls.clone(),
                        time,
                        gap,
                        is_processing_time,
                        Arc::clone(&schema),
                    )),
                    _ => erase(Aggregate::new(
                        groups.clone(),
                        calls.clone(),
                        emit,
                        append,
                        Arc::clone(&schema),
                    )),
                };
                (by_key(keys), Arc::new(make))
            }
            Op::Rank { partition, order, from, to, has_number, window_end } => {
                let (partition, order) = (partition.clone(), order.clone());
                let (bounds, has_number, window_end) = ((*from, *to), *has_number, *window_end);
                let (keys, append, input) = (partition.clone(), is_append_only(0), input_schema(0));
                let make = move || {
                    erase(Rank::new(
                        partition.clone(),
                        order.clone(),
                        bounds,
                        has_number,
                        window_end,
                        append,
                        Arc::clone(&input),
                        Arc::clone(&schema),
                    ))
                };
                (by_key(keys), Arc::new(make))
            }
            Op::Over { partition, order, calls, time } => {
                let (partition, order, calls) = (partition.clone(), order.clone(), calls.clone());
                let (keys, input, time, at_end) = (partition.clone(), input_schema(0), *time, self.is_batch);
                let make = move || {
                    let (partition, order, calls) = (partition.clone(), order.clone(), calls.clone());
                    let (input, schema) = (Arc::clone(&input), Arc::clone(&schema));
                    match time {
                        Some(time) => erase(OverTime::new(partition, order, time, calls, input, schema)),
                        None => erase(Over::new(partition, order, calls, at_end, input, schema)),
                    }
                };
                (by_key(keys), Arc::new(make))
            }
            Op::Sort { order, skip, fetch } => {
                let (order, skip, fetch) = (order.clone(), *skip, *fetch);
                let make = move || erase(Sort::new(order.clone(), skip, fetch, Arc::clone(&schema)));
                let edges = self.edges(&inputs[0], 0, &by_key(Vec::new()));
                return Ok(self.add(node, Arc::new(make), edges, true));
            }
            Op::TimeSort { time, order } => {
                let (time, order) = (*time, order.clone());
                let make = move || erase(TimeSort::new(time, order.clone(), Arc::clone(&schema)));
                let edges = self.edges(&inputs[0], 0, &by_key(Vec::new()));
                return Ok(self.add(node, Arc::new(make), edges, true));
            }
            Op::Join(join) => {
                let operator = self.join(node, join);
                let (left, right): (Vec<usize>, Vec<usize>) = join.keys.iter().copied().unzip();
                let mut edges = self.edges(&inputs[0], 0, &by_key(left));
                edges.extend(self.edges(&inputs[1], 1, &by_key(right)));
                return Ok(self.add(node, operator, edges, false));
            }
        };
        let is_ordered = inputs[0].is_ordered && matches!(node.op, Op::Calc { .. });
        let edges = self.edges(&inputs[0], 0, &partitioning);
        Ok(self.add(node, operator, edges, is_ordered))
    }

    fn scan(
        &mut self,
        node: &Node,
        table: &Arc<catalog::Table>,
        columns: &[usize],
        watermark: Option<Physical>,
    ) -> Result<Built, SqlError> {
        let watermarks = match watermark {
            None => WatermarkStrategy::none(),
            Some(expr) => {
                let make = move || SqlWatermark { expr: Arc::clone(&expr), largest: MIN_TIMESTAMP };
                let strategy = WatermarkStrategy::custom(make);
                match self.idle_after {
                    Some(after) => strategy.with_idleness(after),
                    None => strategy,
                }
            }
        };
        let request = ScanRequest { columns: columns.to_vec(), watermarks };
        let scan = table.connector.scan(&table.definition, request)?;
        Ok(self.source(node, scan))
    }

    fn source(&mut self, node: &Node, scan: crate::connector::Scan) -> Built {
        let uid = self.uid(&node.lineage());
        let source = match scan.input {
            ScanInput::Source(source) => source,
            ScanInput::Node { node: from, columns } => {
                return self.unpack(node, from, uid, None, Some(columns));
            }
        };
        let source = self.env.add(StreamNode {
            name: node.op.name().to_string(),
            uid: Some(format!("{uid}-source")),
            parallelism: None,
            max_subtasks: scan.max_subtasks,
            logic: Logic::Source(source),
            chaining: Chaining::Always,
            slot_group: None,
            inputs: Vec::new(),
        });
        self.unpack(node, source, uid, scan.max_subtasks, None)
    }

    fn unpack(
        &mut self,
        node: &Node,
        from: NodeId,
        uid: String,
        max_subtasks: Option<usize>,
        columns: Option<Vec<usize>>,
    ) -> Built {
        let edge = StreamEdge {
            from,
            output: None,
            port: 0,
            partitioning: Partitioning::forward::<Changes>(),
            explicit: false,
            codec: RowsCodec::<Changes>::shared(),
        };
        let id = self.env.add(StreamNode {
            name: "Batches".into(),
            uid: Some(uid),
            parallelism: None,
            max_subtasks,
            logic: Logic::Operator(Arc::new(move || erase(Unpack { columns: columns.clone() }))),
            chaining: Chaining::Always,
            slot_group: None,
            inputs: vec![edge],
        });
        Built { nodes: vec![id], schema: Arc::clone(&node.schema), is_ordered: false }
    }

    fn join(&self, node: &Node, join: &Join) -> OperatorFactory {
        let side =
            |at: usize| (Arc::clone(&node.inputs[at].schema), node.inputs[at].properties.is_append_only);
        let ((left, left_append), (right, right_append)) = (side(0), side(1));
        let (join, schema, is_batch) = (join.clone(), Arc::clone(&node.schema), self.is_batch);
        Arc::new(move || match join.kind {
            JoinKind::AsOf { left_time, right_time, outer } => {
                let (left_keys, right_keys) = join.keys.iter().copied().unzip();
                erase_two(TemporalJoin {
                    left_keys,
                    right_keys,
                    left_time,
                    right_time,
                    outer,
                    filter: join.filter.clone(),
                    left: Arc::clone(&left),
                    right: Arc::clone(&right),
                    schema: Arc::clone(&schema),
                    waiting: Default::default(),
                    versions: Default::default(),
                })
            }
            _ => erase_two(JoinOperator::new(
                join.clone(),
                (Arc::clone(&left), left_append),
                (Arc::clone(&right), right_append),
                is_batch,
                Arc::clone(&schema),
            )),
        })
    }

    /// A join that reads the right side's table by itself.
    fn lookup(&mut self, node: &Node, join: &Join, outer: bool) -> Result<Built, SqlError> {
        let left = self.build(&node.inputs[0])?;
        let mut calcs = Vec::new();
        let mut side = &node.inputs[1];
        let (table, columns) = loop {
            match &side.op {
                Op::Scan { table, columns, .. } => break (table, columns),
                Op::Calc { predicate, columns } => {
                    calcs.push((predicate.clone(), columns.clone(), Arc::clone(&side.schema)));
                    side = &side.inputs[0];
                }
                other => {
                    let message = format!("a lookup join with a {} on its right side", other.name());
                    return Err(SqlError::unsupported(message)
                        .with_hint("join a table, with conditions and projections at most"));
                }
            }
        };
        calcs.reverse();
        let request = ScanRequest { columns: columns.clone(), watermarks: WatermarkStrategy::none() };
        let scan = table.connector.scan(&table.definition, request)?;
        let read_all = scan.read_all.ok_or_else(|| {
            SqlError::unsupported(format!(
                "table '{}' cannot be looked up: it does not end",
                table.definition.name
            ))
        })?;
        let (join, schema) = (join.clone(), Arc::clone(&node.schema));
        let right = Arc::clone(&node.inputs[1].schema);
        let make = move || {
            let (left_keys, right_keys) = join.keys.iter().copied().unzip();
            let prepare =
                calcs.iter().cloned().map(|(predicate, columns, schema)| Calc { predicate, columns, schema });
            erase(LookupJoin {
                read_all: Arc::clone(&read_all),
                prepare: prepare.collect(),
                left_keys,
                right_keys,
                outer,
                filter: join.filter.clone(),
                right: Arc::clone(&right),
                schema: Arc::clone(&schema),
                rows: Default::default(),
            })
        };
        let edges = self.edges(&left, 0, &forward());
        Ok(self.add(node, Arc::new(make), edges, left.is_ordered))
    }

    /// Adds a sink behind a plan.
    pub(crate) fn sink(
        &mut self,
        name: &str,
        plan: &Node,
        make: impl FnOnce(SinkInput) -> Result<TableSink, SqlError>,
    ) -> Result<(), SqlError> {
        let built = self.build(plan)?;
        let key = plan.properties.keys.first().cloned();
        let input = SinkInput { is_append_only: plan.properties.is_append_only, key };
        // All changes of a row go through one subtask, so that they are seen in order.
        let partitioning = match &input {
            _ if built.is_ordered => forward(),
            SinkInput { is_append_only: false, key: Some(key) } => by_key(key.clone()),
            SinkInput { is_append_only: false, key: None } => {
                by_key((0..plan.schema.fields().len()).collect())
            }
            _ => forward(),
        };
        let sink = make(input)?;
        let most = if built.is_ordered { Some(1) } else { sink.max_subtasks };
        let inputs = self.edges(&built, 0, &partitioning);
        let uid = self.uid(&format!("{name}<-{}", plan.lineage()));
        let pack = self.env.add(StreamNode {
            name: "Rows".into(),
            uid: Some(uid.clone()),
            parallelism: None,
            max_subtasks: most,
            logic: Logic::Operator(Arc::new(|| erase(Pack))),
            chaining: Chaining::Always,
            slot_group: None,
            inputs,
        });
        let edge = StreamEdge {
            from: pack,
            output: None,
            port: 0,
            partitioning: Partitioning::forward::<Changes>(),
            explicit: false,
            codec: RowsCodec::<Changes>::shared(),
        };
        self.env.add(StreamNode {
            name: format!("Sink: {name}"),
            uid: Some(format!("{uid}-sink")),
            parallelism: None,
            max_subtasks: most,
            logic: Logic::Sink(sink.operator, sink.committer),
            chaining: Chaining::Always,
            slot_group: None,
            inputs: vec![edge],
        });
        Ok(())
    }

    /// The plan's changes as a stream's records.
    pub(crate) fn stream(&mut self, plan: &Node) -> Result<NodeId, SqlError> {
        let built = self.build(plan)?;
        let inputs = self.edges(&built, 0, &forward());
        let uid = self.uid(&format!("stream<-{}", plan.lineage()));
        Ok(self.env.add(StreamNode {
            name: "Rows".into(),
            uid: Some(uid),
            parallelism: None,
            max_subtasks: built.is_ordered.then_some(1),
            logic: Logic::Operator(Arc::new(|| erase(Pack))),
            chaining: Chaining::Always,
            slot_group: None,
            inputs,
        }))
    }
}
