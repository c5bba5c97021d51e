//! Calls of functions as queries make them: arguments are cast to what the function takes.

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};
use std::sync::Arc;

/// Calls a function for some rows.
pub(super) fn call(name: &str, args: Vec<ColumnarValue>, rows: usize) -> Result<ArrayRef> {
    let (_, function) = super::scalar()
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("no function {name}"));
    let fields: Vec<_> = args.iter().map(|arg| Arc::new(Field::new("a", arg.data_type(), true))).collect();
    let fields = fields_with_udf(&fields, function.as_ref())?;
    let args = args
        .into_iter()
        .zip(&fields)
        .map(|(arg, field)| arg.cast_to(field.data_type(), None))
        .collect::<Result<Vec<_>>>()?;
    let scalars: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|arg| if let ColumnarValue::Scalar(value) = arg { Some(value) } else { None })
        .collect();
    let arguments = ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars };
    let return_field = function.return_field_from_args(arguments)?;
    let args = ScalarFunctionArgs {
        args,
        arg_fields: fields,
        number_rows: rows,
        return_field: Arc::clone(&return_field),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let result = function.invoke_with_args(args)?.into_array(rows)?;
    assert_eq!(result.data_type(), return_field.data_type(), "{name}");
    Ok(result)
}

fn rows_of(args: &[ColumnarValue]) -> usize {
    let rows =
        |arg: &ColumnarValue| if let ColumnarValue::Array(array) = arg { Some(array.len()) } else { None };
    args.iter().find_map(rows).unwrap_or(1)
}

/// Calls a function and compares what it returns.
#[track_caller]
pub(super) fn check(name: &str, args: Vec<ColumnarValue>, expected: ArrayRef) {
    let rows = rows_of(&args);
    let result = call(name, args, rows).unwrap();
    assert_eq!(&result, &expected, "{name}");
}

/// Calls a function that must not accept its arguments.
#[track_caller]
pub(super) fn refused(name: &str, args: Vec<ColumnarValue>, part: &str) {
    let rows = rows_of(&args);
    let error = call(name, args, rows).unwrap_err().strip_backtrace();
    assert!(error.contains(part), "{name}: {error}");
}

pub(super) fn text<const N: usize>(values: [Option<&str>; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

pub(super) fn longs<const N: usize>(values: [Option<i64>; N]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

pub(super) fn doubles<const N: usize>(values: [Option<f64>; N]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

pub(super) fn bools<const N: usize>(values: [Option<bool>; N]) -> ArrayRef {
    Arc::new(BooleanArray::from(values.to_vec()))
}

pub(super) fn times_ms<const N: usize>(values: [Option<i64>; N]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values.to_vec()))
}

pub(super) fn decimals<const N: usize>(values: [Option<i128>; N], precision: u8, scale: i8) -> ArrayRef {
    let values = arrow::array::Decimal128Array::from(values.to_vec());
    Arc::new(values.with_data_type(DataType::Decimal128(precision, scale)))
}

pub(super) fn column(array: impl Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array))
}
