//! A function of neighbours, row by row.

use crate::operators::aggregate::{Accumulator, Aggregator, Input};
use crate::plan::stream::{Frame, OverCall, OverFunction};
use crate::value::{Value, Values};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A function.
pub(super) struct Function {
    call: OverCall,
    aggregator: Option<Aggregator>,
}

/// What a function has come to.
#[derive(Serialize, Deserialize)]
pub(super) struct Running {
    accumulator: Option<Accumulator>,
    /// The rows in the frame: their times and what they gave, for when they leave it.
    history: VecDeque<(i64, Option<Accumulator>, Option<Value>)>,
    rows: i64,
    rank: i64,
    dense_rank: i64,
    last: Option<Box<[u8]>>,
}

/// A function's arguments in a batch.
pub(super) struct Inputs {
    input: Option<Input>,
    values: Option<Values>,
}

impl Function {
    pub(super) fn new(call: OverCall) -> Self {
        let aggregator = match &call.function {
            // Rows leave bounded frames.
            OverFunction::Aggregate(aggregate) => {
                Some(Aggregator::new(aggregate.clone(), !is_bounded(call.frame)))
            }
            _ => None,
        };
        Function { call, aggregator }
    }

    pub(super) fn start(&self) -> Running {
        Running {
            accumulator: self.aggregator.as_ref().map(Aggregator::empty),
            history: VecDeque::new(),
            rows: 0,
            rank: 0,
            dense_rank: 0,
            last: None,
        }
    }

    pub(super) fn inputs(&self, batch: &RecordBatch) -> Result<Inputs, ArrowError> {
        let input =
            self.aggregator.as_ref().map(|aggregator| aggregator.input(batch.columns())).transpose()?;
        let column = match &self.call.function {
            OverFunction::Lag { column, .. } => Some(*column),
            OverFunction::Aggregate(call) => call.args.first().copied(),
            _ => None,
        };
        let values = column.map(|column| Values::of(batch.column(column))).transpose()?;
        Ok(Inputs { input, values })
    }

    /// The results of rows that come next, all of one time if times are told; `first` is the place of the first.
    pub(super) fn advance(
        &self,
        running: &mut Running,
        inputs: &Inputs,
        first: usize,
        orders: &[&[u8]],
        time: Option<i64>,
    ) -> Vec<Option<Value>> {
        let mut results = Vec::with_capacity(orders.len());
        let mut at = 0;
        while at < orders.len() {
            // Rows that are equal in the order are peers.
            let end = (at..orders.len()).find(|next| orders[*next] != orders[at]).unwrap_or(orders.len());
            let is_new = running.last.as_deref() != Some(orders[at]);
            if is_new {
                running.last = Some(orders[at].into());
                running.rank = running.rows + 1;
                running.dense_rank += 1;
            }
            match (&self.call.function, self.call.frame) {
                (OverFunction::Aggregate(_), Frame::Range { before }) => {
                    let time = time.unwrap_or(0);
                    (at..end)
                        .for_each(|row| self.enter(running, inputs, first + row, time, before.is_some()));
                    if let Some(before) = before {
                        while running.history.front().is_some_and(|(other, ..)| *other < time - before) {
                            self.leave(running);
                        }
                    }
                    let result = self.result(running);
                    results.extend((at..end).map(|_| result.clone()));
                }
                (OverFunction::Aggregate(_), frame) => {
                    let before = match frame {
                        Frame::Rows { before } => before,
                        _ => None,
                    };
                    for row in at..end {
                        self.enter(running, inputs, first + row, 0, before.is_some());
                        if before
                            .is_some_and(|before| running.history.len() as u64 > before.saturating_add(1))
                        {
                            self.leave(running);
                        }
                        results.push(self.result(running));
                    }
                }
                (OverFunction::Lag { by, .. }, _) => {
                    for row in at..end {
                        let value = inputs.values.as_ref().and_then(|values| values.get(first + row));
                        running.history.push_back((0, None, value));
                        let by = usize::try_from(*by).unwrap_or(0);
                        if running.history.len() > by + 1 {
                            running.history.pop_front();
                        }
                        let has_enough = running.history.len() > by;
                        results.push(
                            running.history.front().filter(|_| has_enough).and_then(|row| row.2.clone()),
                        );
                    }
                }
                (OverFunction::RowNumber, _) => {
                    results
                        .extend((at..end).map(|row| Some(Value::Int(running.rows + (row - at) as i64 + 1))));
                }
                (OverFunction::Rank, _) => results.extend((at..end).map(|_| Some(Value::Int(running.rank)))),
                (OverFunction::DenseRank, _) => {
                    results.extend((at..end).map(|_| Some(Value::Int(running.dense_rank))));
                }
            }
            running.rows += (end - at) as i64;
            at = end;
        }
        results
    }

    /// The results of a whole partition.
    pub(super) fn evaluate(
        &self,
        inputs: &Inputs,
        orders: &[&[u8]],
        times: Option<&Values>,
    ) -> Vec<Option<Value>> {
        let count = orders.len();
        match &self.call.function {
            OverFunction::Lag { by, .. } if *by < 0 => {
                let ahead = usize::try_from(-by).unwrap_or(usize::MAX);
                let value = |row: usize| {
                    let place = row.checked_add(ahead).filter(|place| *place < count)?;
                    inputs.values.as_ref()?.get(place)
                };
                (0..count).map(value).collect()
            }
            OverFunction::Aggregate(_) if self.call.frame == Frame::All => {
                let mut running = self.start();
                (0..count).for_each(|row| self.enter(&mut running, inputs, row, 0, false));
                vec![self.result(&running); count]
            }
            _ => {
                let mut running = self.start();
                let mut results = Vec::with_capacity(count);
                let mut at = 0;
                while at < count {
                    let end = (at..count).find(|next| orders[*next] != orders[at]).unwrap_or(count);
                    let time = match times.and_then(|times| times.get(at)) {
                        Some(Value::Int(time)) => Some(time),
                        _ => None,
                    };
                    results.extend(self.advance(&mut running, inputs, at, &orders[at..end], time));
                    at = end;
                }
                results
            }
        }
    }

    fn enter(&self, running: &mut Running, inputs: &Inputs, row: usize, time: i64, leaves: bool) {
        let (Some(aggregator), Some(input), Some(accumulator)) =
            (&self.aggregator, &inputs.input, &mut running.accumulator)
        else {
            return;
        };
        aggregator.apply(accumulator, input, &[row as u32], |_| 1);
        if leaves {
            // What the row gave alone is what is taken back.
            let mut alone = aggregator.empty();
            aggregator.apply(&mut alone, input, &[row as u32], |_| -1);
            running.history.push_back((time, Some(alone), None));
        }
    }

    fn leave(&self, running: &mut Running) {
        if let (Some(aggregator), Some(accumulator), Some((_, Some(alone), _))) =
            (&self.aggregator, &mut running.accumulator, running.history.pop_front())
        {
            aggregator.merge(accumulator, alone);
        }
    }

    fn result(&self, running: &Running) -> Option<Value> {
        self.aggregator.as_ref()?.result(running.accumulator.as_ref()?)
    }
}

fn is_bounded(frame: Frame) -> bool {
    matches!(frame, Frame::Rows { before: Some(_) } | Frame::Range { before: Some(_) })
}
