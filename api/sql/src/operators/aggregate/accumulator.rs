//! What an aggregate function keeps of a group.

use crate::plan::stream::{Call, Function};
use crate::value::{Form, Value, ValueHasher, Values, form_of};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

/// Values and how often each is there.
pub(crate) type Multiset = HashMap<Value, i64, BuildHasherDefault<ValueHasher>>;

/// What is kept for one call of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Accumulator {
    Count(i64),
    Int {
        sum: i64,
        count: i64,
    },
    Decimal {
        sum: i128,
        count: i64,
    },
    Float {
        sum: f64,
        count: i64,
    },
    Moments {
        count: i64,
        sum: f64,
        squares: f64,
    },
    /// The smallest or largest value of rows that are only ever added, and the first or last.
    Single(Option<Value>),
    /// Values in their order, for what has to give way to the next one when it is taken away.
    Ordered(BTreeMap<Value, i64>),
    /// Values in the order of their arrival.
    List(Vec<(Value, i64)>),
    Bools {
        trues: i64,
        falses: i64,
    },
    /// The values that were counted, and what is made of each of them once.
    Distinct {
        values: Multiset,
        inner: Box<Accumulator>,
    },
}

/// A call with what is known of its input.
#[derive(Clone, Debug)]
pub(crate) struct Aggregator {
    pub(crate) call: Call,
    /// Whether rows are only ever added.
    is_append_only: bool,
    form: Form,
}

/// A call's input in one batch.
pub(crate) struct Input {
    values: Option<Values>,
    filter: Option<BooleanArray>,
}

impl Aggregator {
    pub(crate) fn new(call: Call, is_append_only: bool) -> Self {
        let form = form_of(&call.input);
        Aggregator { call, is_append_only, form }
    }

    /// A call's input in the columns of a batch.
    pub(crate) fn input(&self, columns: &[ArrayRef]) -> Result<Input, ArrowError> {
        let values = self.call.args.first().map(|at| Values::of(&columns[*at])).transpose()?;
        let filter = self.call.filter.map(|at| columns[at].as_boolean().clone());
        Ok(Input { values, filter })
    }

    /// What is kept of nothing.
    pub(crate) fn empty(&self) -> Accumulator {
        let plain = self.empty_inner();
        match self.call.is_distinct && !self.is_indifferent() {
            true => Accumulator::Distinct { values: Multiset::default(), inner: Box::new(plain) },
            false => plain,
        }
    }

    /// Whether it makes no difference how often a value is there.
    fn is_indifferent(&self) -> bool {
        matches!(self.call.function, Function::Min | Function::Max | Function::BoolAnd | Function::BoolOr)
    }

    fn empty_inner(&self) -> Accumulator {
        match &self.call.function {
            Function::Count => Accumulator::Count(0),
            Function::Sum | Function::Sum0 | Function::Avg => match self.form {
                Form::Int => Accumulator::Int { sum: 0, count: 0 },
                Form::Decimal => Accumulator::Decimal { sum: 0, count: 0 },
                _ => Accumulator::Float { sum: 0.0, count: 0 },
            },
            Function::Variance { .. } => Accumulator::Moments { count: 0, sum: 0.0, squares: 0.0 },
            Function::Min | Function::Max if !self.is_append_only => Accumulator::Ordered(BTreeMap::new()),
            Function::First | Function::Last if !self.is_append_only => Accumulator::List(Vec::new()),
            Function::Min | Function::Max | Function::First | Function::Last => Accumulator::Single(None),
            Function::ListAgg { .. } => Accumulator::List(Vec::new()),
            Function::BoolAnd | Function::BoolOr => Accumulator::Bools { trues: 0, falses: 0 },
        }
    }

    /// Takes rows in, or out where their weight is below zero.
    pub(crate) fn apply(
        &self,
        accumulator: &mut Accumulator,
        input: &Input,
        rows: &[u32],
        weight: impl Fn(usize) -> i64,
    ) {
        let counts = |row: usize| match &input.filter {
            Some(filter) => filter.is_valid(row) && filter.value(row),
            None => true,
        };
        let rows = rows.iter().map(|row| *row as usize).filter(|row| counts(*row));
        let Some(values) = &input.values else {
            if let Accumulator::Count(count) = accumulator {
                *count += rows.map(weight).sum::<i64>();
            }
            return;
        };
        let rows = rows.filter(|row| !values.is_null(*row));
        match (accumulator, values) {
            (Accumulator::Count(count), _) => *count += rows.map(weight).sum::<i64>(),
            (Accumulator::Int { sum, count }, Values::Int(values, _)) => {
                for row in rows {
                    let weight = weight(row);
                    *count += weight;
                    *sum = sum.wrapping_add(values[row].wrapping_mul(weight));
                }
            }
            (Accumulator::Float { sum, count }, Values::Float(values, _)) => {
                for row in rows {
                    let weight = weight(row);
                    *count += weight;
                    *sum += values[row] * weight as f64;
                }
            }
            (accumulator, values) => {
                for row in rows {
                    if let Some(value) = values.get(row) {
                        self.add(accumulator, value, weight(row));
                    }
                }
            }
        }
    }

    /// Takes one value in, or out.
    pub(crate) fn add(&self, accumulator: &mut Accumulator, value: Value, weight: i64) {
        match accumulator {
            Accumulator::Count(count) => *count += weight,
            Accumulator::Int { sum, count } => {
                if let Value::Int(value) = value {
                    *count += weight;
                    *sum = sum.wrapping_add(value.wrapping_mul(weight));
                }
            }
            Accumulator::Decimal { sum, count } => {
                if let Value::Decimal(value) = value {
                    *count += weight;
                    *sum = sum.wrapping_add(value.wrapping_mul(i128::from(weight)));
                }
            }
            Accumulator::Float { sum, count } => {
                *count += weight;
                *sum += self.as_float(&value) * weight as f64;
            }
            Accumulator::Moments { count, sum, squares } => {
                let value = self.as_float(&value);
                *count += weight;
                *sum += value * weight as f64;
                *squares += value * value * weight as f64;
            }
            Accumulator::Single(kept) => {
                let replaces = match (&self.call.function, &kept) {
                    (_, None) => true,
                    (Function::Min, Some(kept)) => value < *kept,
                    (Function::Max, Some(kept)) => value > *kept,
                    (Function::First, _) => false,
                    _ => true,
                };
                if replaces {
                    *kept = Some(value);
                }
            }
            Accumulator::Ordered(values) => {
                use std::collections::btree_map::Entry;
                match values.entry(value) {
                    Entry::Vacant(entry) => {
                        entry.insert(weight);
                    }
                    Entry::Occupied(mut entry) => {
                        *entry.get_mut() += weight;
                        if *entry.get() == 0 {
                            entry.remove();
                        }
                    }
                }
            }
            Accumulator::List(values) => {
                // What is taken away is the earliest of its like; it may be still to come.
                let mut left = weight;
                while left != 0 {
                    let opposite =
                        |(other, count): &(Value, i64)| *other == value && (*count < 0) != (left < 0);
                    let Some(at) = values.iter().position(opposite) else {
                        values.push((value, left));
                        return;
                    };
                    let sum = values[at].1 + left;
                    if sum == 0 || (sum < 0) == (left < 0) {
                        values.remove(at);
                        left = sum;
                    } else {
                        values[at].1 = sum;
                        left = 0;
                    }
                }
            }
            Accumulator::Bools { trues, falses } => match value {
                Value::Bool(true) => *trues += weight,
                _ => *falses += weight,
            },
            Accumulator::Distinct { values, inner } => {
                let count = values.entry(value.clone()).or_insert(0);
                let before = *count;
                *count += weight;
                let after = *count;
                if after == 0 {
                    values.remove(&value);
                }
                match (before > 0, after > 0) {
                    (false, true) => self.add(inner, value, 1),
                    (true, false) => self.add(inner, value, -1),
                    _ => {}
                }
            }
        }
    }

    /// Takes in what was kept of other rows, which came later.
    pub(crate) fn merge(&self, into: &mut Accumulator, other: Accumulator) {
        match (into, other) {
            (Accumulator::Count(a), Accumulator::Count(b)) => *a += b,
            (Accumulator::Int { sum, count }, Accumulator::Int { sum: more, count: rows }) => {
                *sum = sum.wrapping_add(more);
                *count += rows;
            }
            (Accumulator::Decimal { sum, count }, Accumulator::Decimal { sum: more, count: rows }) => {
                *sum = sum.wrapping_add(more);
                *count += rows;
            }
            (Accumulator::Float { sum, count }, Accumulator::Float { sum: more, count: rows }) => {
                *sum += more;
                *count += rows;
            }
            (
                Accumulator::Moments { count, sum, squares },
                Accumulator::Moments { count: rows, sum: more, squares: more_squares },
            ) => {
                *count += rows;
                *sum += more;
                *squares += more_squares;
            }
            (Accumulator::Bools { trues, falses }, Accumulator::Bools { trues: t, falses: f }) => {
                *trues += t;
                *falses += f;
            }
            (into, Accumulator::Single(Some(value))) => self.add(into, value, 1),
            (into, Accumulator::Ordered(values)) => {
                values.into_iter().for_each(|(value, weight)| self.add(into, value, weight));
            }
            (into, Accumulator::List(values)) => {
                values.into_iter().for_each(|(value, weight)| self.add(into, value, weight));
            }
            (into, Accumulator::Distinct { values, .. }) => {
                values.into_iter().for_each(|(value, weight)| self.add(into, value, weight));
            }
            // State of another program: refused when it was restored.
            _ => {}
        }
    }

    fn as_float(&self, value: &Value) -> f64 {
        match value {
            Value::Int(value) => *value as f64,
            Value::Float(value) => *value,
            Value::Decimal(value) => {
                let scale = match self.call.input {
                    DataType::Decimal128(_, scale) => i32::from(scale),
                    _ => 0,
                };
                *value as f64 / 10f64.powi(scale)
            }
            _ => 0.0,
        }
    }

    /// The result.
    pub(crate) fn result(&self, accumulator: &Accumulator) -> Option<Value> {
        let function = &self.call.function;
        match accumulator {
            Accumulator::Count(count) => Some(Value::Int(*count)),
            Accumulator::Int { count: 0, .. } if *function == Function::Sum0 => Some(Value::Int(0)),
            Accumulator::Int { count: 0, .. }
            | Accumulator::Decimal { count: 0, .. }
            | Accumulator::Float { count: 0, .. } => None,
            Accumulator::Int { sum, count } => match function {
                Function::Avg => match form_of(&self.call.output) {
                    Form::Float => Some(Value::Float(*sum as f64 / *count as f64)),
                    _ => Some(Value::Int(sum / count)),
                },
                _ => Some(Value::Int(*sum)),
            },
            Accumulator::Decimal { sum, count } => {
                let scale_of = |data_type: &DataType| match data_type {
                    DataType::Decimal128(_, scale) => i32::from(*scale),
                    _ => 0,
                };
                let (from, to) = (scale_of(&self.call.input), scale_of(&self.call.output));
                let scaled = rescaled(*sum, from, to)?;
                match function {
                    Function::Avg => Some(Value::Decimal(divided(scaled, i128::from(*count)))),
                    _ => Some(Value::Decimal(scaled)),
                }
            }
            Accumulator::Float { sum, count } => match function {
                Function::Avg => Some(Value::Float(sum / *count as f64)),
                _ => Some(Value::Float(*sum)),
            },
            Accumulator::Moments { count, sum, squares } => {
                let Function::Variance { is_sample, is_root } = function else { return None };
                let divisor = count - i64::from(*is_sample);
                if divisor <= 0 {
                    return None;
                }
                let variance = (squares - sum * sum / *count as f64).max(0.0) / divisor as f64;
                Some(Value::Float(if *is_root { variance.sqrt() } else { variance }))
            }
            Accumulator::Single(kept) => kept.clone(),
            Accumulator::Ordered(values) => {
                let there = values.iter().filter(|(_, count)| **count > 0);
                match function {
                    Function::Min => there.map(|(value, _)| value).next().cloned(),
                    Function::Max => there.map(|(value, _)| value).next_back().cloned(),
                    _ => None,
                }
            }
            Accumulator::List(values) => self.list_result(values),
            Accumulator::Bools { trues, falses } => match function {
                Function::BoolAnd => (trues + falses > 0).then_some(Value::Bool(*falses == 0)),
                _ => (trues + falses > 0).then_some(Value::Bool(*trues > 0)),
            },
            Accumulator::Distinct { inner, .. } => self.result(inner),
        }
    }

    fn list_result(&self, values: &[(Value, i64)]) -> Option<Value> {
        let there = values.iter().filter(|(_, count)| *count > 0);
        match &self.call.function {
            Function::First => there.map(|(value, _)| value).next().cloned(),
            Function::Last => there.map(|(value, _)| value).next_back().cloned(),
            Function::ListAgg { separator } => {
                let mut text = CompactString::default();
                let mut is_first = true;
                for (value, count) in there {
                    for _ in 0..*count {
                        if !std::mem::take(&mut is_first) {
                            text.push_str(separator);
                        }
                        if let Value::Text(value) = value {
                            text.push_str(value);
                        }
                    }
                }
                (!is_first).then_some(Value::Text(text))
            }
            _ => None,
        }
    }
}

fn rescaled(value: i128, from: i32, to: i32) -> Option<i128> {
    match to - from {
        0 => Some(value),
        up @ 1.. => value.checked_mul(10i128.checked_pow(up as u32)?),
        down => Some(divided(value, 10i128.checked_pow(-down as u32)?)),
    }
}

/// Rounded half away from zero.
fn divided(value: i128, by: i128) -> i128 {
    let (whole, rest) = (value / by, value % by);
    if rest.abs() * 2 >= by.abs() { whole + (value.signum() * by.signum()) } else { whole }
}
