//! The time of the machine, which expressions read and operators own: an operator says what time it is while it
//! evaluates a batch, so that all rows of a batch see one time and a simulation sees its own.

use super::definition::{Call, Function, returns};
use crate::types::timestamp_ltz_3;
use arrow::array::{ArrayRef, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Date32Type, Time32MillisecondType, TimeUnit};
use datafusion_common::{Result, exec_err};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static NOW_MS: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Evaluates expressions at a time, in milliseconds since 1970.
pub(crate) fn at_time<T>(now_ms: i64, evaluate: impl FnOnce() -> T) -> T {
    struct Restore(Option<i64>);
    impl Drop for Restore {
        fn drop(&mut self) {
            NOW_MS.set(self.0);
        }
    }
    let _restore = Restore(NOW_MS.replace(Some(now_ms)));
    evaluate()
}

/// Milliseconds since 1970.
///
/// # Errors
/// The expression is evaluated outside of an operator.
pub(super) fn now_ms() -> Result<i64> {
    match NOW_MS.get() {
        Some(now_ms) => Ok(now_ms),
        None => exec_err!("the time is known only while a query runs"),
    }
}

pub(super) fn all() -> Vec<Function> {
    let local = |name| Function::new(name, &[], returns::timestamp, now).volatile();
    let zoned = |name| Function::new(name, &[], |_| Ok(timestamp_ltz_3()), now).volatile();
    let date = |name| Function::new(name, &[], returns::date, today).volatile();
    let time =
        |name| Function::new(name, &[], |_| Ok(DataType::Time32(TimeUnit::Millisecond)), time).volatile();
    vec![
        zoned("proctime"),
        zoned("now"),
        zoned("current_timestamp"),
        zoned("current_row_timestamp"),
        local("localtimestamp"),
        date("current_date"),
        time("current_time"),
        time("localtime"),
    ]
}

fn now(call: &Call) -> Result<ArrayRef> {
    let column = TimestampMillisecondArray::from(vec![now_ms()?; call.rows]);
    Ok(match call.returns {
        DataType::Timestamp(_, Some(zone)) => Arc::new(column.with_timezone(Arc::clone(zone))),
        _ => Arc::new(column),
    })
}

fn today(call: &Call) -> Result<ArrayRef> {
    let days = now_ms()?.div_euclid(86_400_000) as i32;
    Ok(super::columns::number_column::<Date32Type>(call.rows, |_| Some(days)))
}

fn time(call: &Call) -> Result<ArrayRef> {
    let ms = now_ms()?.rem_euclid(86_400_000) as i32;
    Ok(super::columns::number_column::<Time32MillisecondType>(call.rows, |_| Some(ms)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, times_ms};
    use super::*;

    #[test]
    fn the_time_is_what_the_operator_says() {
        let rows = |name: &str| at_time(86_400_001, || call(name, vec![], 2)).unwrap();
        assert_eq!(&rows("localtimestamp"), &times_ms([Some(86_400_001); 2]));
        assert_eq!(rows("proctime").data_type(), &timestamp_ltz_3());
        assert_eq!(format!("{:?}", rows("current_date")).matches("1970-01-02").count(), 2);
        assert!(call("proctime", vec![], 1).unwrap_err().to_string().contains("only while a query runs"));
    }
}
