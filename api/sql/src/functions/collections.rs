//! Arrays, maps and rows: their items, how many they have, and rows and maps made of values. Positions count from 1.

use super::columns::{array_of, number_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use crate::types::map_type;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, MapArray, Scalar, StringBuilder, StructArray,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::ScalarUDF;
use datafusion_functions_nested as nested;
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Any, Text};
    vec![
        Function::new("item", &[Any, Any], item_type, item),
        Function::new("cardinality", &[Any], returns::int, cardinality),
        Function::new("element", &[Any], element_type, element),
        Function::new("array_position", &[Any, Any], returns::int, position),
        Function::new("row", &[Any], row_type, row).repeated(),
        Function::new("str_to_map", &[Text, Text, Text], texts_map_type, text_to_map).optional(2),
    ]
}

/// DataFusion's functions that mean the same in Flink, by Flink's names.
pub(super) fn nested() -> Vec<(&'static str, Arc<ScalarUDF>)> {
    vec![
        ("array", nested::make_array::make_array_udf()),
        ("map", nested::map::map_udf()),
        ("map_from_arrays", nested::map::map_udf()),
        ("map_keys", nested::map_keys::map_keys_udf()),
        ("map_values", nested::map_values::map_values_udf()),
        ("map_entries", nested::map_entries::map_entries_udf()),
        ("array_append", nested::concat::array_append_udf()),
        ("array_prepend", nested::concat::array_prepend_udf()),
        ("array_concat", nested::concat::array_concat_udf()),
        ("array_contains", nested::array_has::array_has_udf()),
        ("array_distinct", nested::set_ops::array_distinct_udf()),
        ("array_except", nested::except::array_except_udf()),
        ("array_intersect", nested::set_ops::array_intersect_udf()),
        ("array_union", nested::set_ops::array_union_udf()),
        ("array_join", nested::string::array_to_string_udf()),
        ("array_max", nested::min_max::array_max_udf()),
        ("array_min", nested::min_max::array_min_udf()),
        ("array_remove", nested::remove::array_remove_all_udf()),
        ("array_reverse", nested::reverse::array_reverse_udf()),
        ("array_slice", nested::extract::array_slice_udf()),
    ]
}

fn item_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [DataType::List(item), index] if index.is_integer() || index.is_null() => {
            Ok(item.data_type().clone())
        }
        [DataType::Map(entries, _), _] => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => Ok(fields[1].data_type().clone()),
            other => plan_err!("a map has keys and values, not {other}"),
        },
        [DataType::List(_), other] => {
            plan_err!("an array is indexed by a number, not {}", crate::types::name_of(other))
        }
        [other, ..] => plan_err!("{} has no items", crate::types::name_of(other)),
        [] => plan_err!("an item is of an ARRAY or a MAP"),
    }
}

/// The item at a position, or the value of a key; NULL if there is none.
fn item(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if let Some(map) = array.as_map_opt() {
        return value_of_key(call, map);
    }
    let list = array.as_list::<i32>();
    let indices = cast(&call.array(1)?, &DataType::Int64)?;
    let indices = indices.as_primitive::<Int64Type>();
    let offsets = list.value_offsets();
    let places: UInt32Array = (0..call.rows)
        .map(|row| {
            let is_known = list.is_valid(row) && indices.is_valid(row);
            let index = is_known.then(|| indices.value(row)).filter(|index| *index >= 1)?;
            let place = i64::from(offsets[row]).checked_add(index - 1)?;
            (place < i64::from(offsets[row + 1])).then_some(place as u32)
        })
        .collect();
    Ok(take(list.values(), &places, None)?)
}

fn value_of_key(call: &Call, map: &MapArray) -> Result<ArrayRef> {
    let (keys, values) = (map.keys(), map.values());
    let wanted = cast(&call.array(1)?, keys.data_type())?;
    let (_, is_constant) = array_of(call.value(1)?)?;
    let offsets = map.value_offsets();
    // One comparison of all keys if the wanted one is the same for all rows, else one by row.
    let all = if is_constant && call.rows > 0 {
        Some(not_distinct(keys, &Scalar::new(wanted.slice(0, 1)))?)
    } else {
        None
    };
    let mut places = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        if map.is_null(row) || wanted.is_null(row) {
            places.push(None);
            continue;
        }
        let place = match &all {
            Some(all) => (from..to).find(|place| all.value(*place)),
            None => {
                let found = not_distinct(&keys.slice(from, to - from), &Scalar::new(wanted.slice(row, 1)))?;
                (0..found.len()).find(|i| found.value(*i)).map(|i| from + i)
            }
        };
        places.push(place.map(|place| place as u32));
    }
    Ok(take(values, &UInt32Array::from(places), None)?)
}

/// Lengths of arrays and maps.
fn lengths(array: &ArrayRef) -> Result<Vec<Option<i32>>> {
    let offsets = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_offsets(),
        DataType::Map(..) => array.as_map().value_offsets(),
        other => return plan_err!("{} has no items", crate::types::name_of(other)),
    };
    let length = |row: usize| array.is_valid(row).then(|| offsets[row + 1] - offsets[row]);
    Ok((0..array.len()).map(length).collect())
}

fn cardinality(call: &Call) -> Result<ArrayRef> {
    Ok(Arc::new(Int32Array::from(lengths(&call.array(0)?)?)))
}

fn element_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [DataType::List(item)] => Ok(item.data_type().clone()),
        _ => plan_err!("ELEMENT takes an ARRAY"),
    }
}

/// The only item of an array. An array of more is an error, as in Flink.
fn element(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let list = array.as_list::<i32>();
    let mut places = Vec::with_capacity(call.rows);
    for (row, length) in lengths(&array)?.into_iter().enumerate() {
        places.push(match length {
            None | Some(0) => None,
            Some(1) => Some(list.value_offsets()[row] as u32),
            Some(more) => return exec_err!("ELEMENT takes an array of one item, not of {more}"),
        });
    }
    Ok(take(list.values(), &UInt32Array::from(places), None)?)
}

/// The position of a value in an array; 0 if it is not there.
fn position(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let Some(list) = array.as_list_opt::<i32>() else { return plan_err!("ARRAY_POSITION takes an ARRAY") };
    let wanted = cast(&call.array(1)?, list.values().data_type())?;
    let mut positions = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if list.is_null(row) || wanted.is_null(row) {
            positions.push(None);
            continue;
        }
        let found: BooleanArray = not_distinct(&list.value(row), &Scalar::new(wanted.slice(row, 1)))?;
        let place = (0..found.len()).find(|i| found.value(*i));
        positions.push(Some(place.map_or(0, |place| place as i32 + 1)));
    }
    Ok(number_column::<Int32Type>(call.rows, |row| positions[row]))
}

/// Flink names the fields of a row that is made of values EXPR$0, EXPR$1, ...
fn row_type(arguments: &[DataType]) -> Result<DataType> {
    let field = |(i, data_type): (usize, &DataType)| Field::new(format!("EXPR${i}"), data_type.clone(), true);
    Ok(DataType::Struct(arguments.iter().enumerate().map(field).collect()))
}

fn row(call: &Call) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.returns else { return exec_err!("ROW returns a row") };
    let columns = (0..call.len()).map(|i| call.array(i)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
}

fn texts_map_type(_: &[DataType]) -> Result<DataType> {
    Ok(map_type(DataType::Utf8, DataType::Utf8))
}

/// Pairs are separated by commas and keys from values by `=`, unless the call says otherwise.
fn text_to_map(call: &Call) -> Result<ArrayRef> {
    let (texts, pairs, values) = (call.texts(0)?, call.optional_texts(1)?, call.optional_texts(2)?);
    let (mut keys, mut items) = (StringBuilder::new(), StringBuilder::new());
    let mut offsets = vec![0];
    let mut count = 0;
    let mut is_valid = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let or = |texts: &Option<super::columns::Texts<'_>>, default: &'static str| match texts {
            Some(texts) => texts.get(row).map(str::to_string),
            None => Some(default.to_string()),
        };
        match (texts.get(row), or(&pairs, ","), or(&values, "=")) {
            (Some(text), Some(between_pairs), Some(before_value)) => {
                is_valid.push(true);
                // A later value takes the place of an earlier one.
                let mut found: Vec<(&str, Option<&str>)> = Vec::new();
                for pair in text.split(between_pairs.as_str()).filter(|_| !text.is_empty()) {
                    let (key, value) = match pair.split_once(before_value.as_str()) {
                        Some((key, value)) => (key, Some(value)),
                        None => (pair, None),
                    };
                    found.retain(|(other, _)| *other != key);
                    found.push((key, value));
                }
                for (key, value) in found {
                    keys.append_value(key);
                    items.append_option(value);
                    count += 1;
                }
            }
            _ => is_valid.push(false),
        }
        offsets.push(count);
    }
    let DataType::Map(entries, _) = call.returns else { return exec_err!("STR_TO_MAP returns a map") };
    let fields: Fields = match entries.data_type() {
        DataType::Struct(fields) => fields.clone(),
        other => return exec_err!("a map has keys and values, not {other}"),
    };
    let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(items.finish())];
    let pairs = StructArray::try_new(fields, columns, None)?;
    let offsets = OffsetBuffer::new(offsets.into());
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(is_valid.into()), false)?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, check, column, longs, refused, text};
    use super::*;
    use arrow::array::ListArray;
    use datafusion_common::ScalarValue;

    fn lists() -> ListArray {
        ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(7), None, Some(9)]),
            Some(vec![]),
            None,
        ])
    }

    fn ints<const N: usize>(values: [Option<i32>; N]) -> ArrayRef {
        Arc::new(Int32Array::from(values.to_vec()))
    }

    fn n(value: i64) -> datafusion_expr::ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn items_are_counted_from_1() {
        check("item", vec![column(lists()), n(3)], longs([Some(9), None, None]));
        check("item", vec![column(lists()), n(2)], longs([None, None, None]));
        for index in [0, -1, 4, i64::MAX] {
            check("item", vec![column(lists()), n(index)], longs([None, None, None]));
        }
        // A slice has offsets that do not begin at 0.
        check("item", vec![column(lists().slice(0, 1)), n(1)], longs([Some(7)]));
        check("cardinality", vec![column(lists())], ints([Some(3), Some(0), None]));
        check("array_position", vec![column(lists()), n(9)], ints([Some(3), Some(0), None]));
        refused("item", vec![longs([Some(1)]).into(), n(1)], "BIGINT has no items");
        refused(
            "item",
            vec![column(lists()), ScalarValue::from("a").into()],
            "indexed by a number, not STRING",
        );
    }

    #[test]
    fn one_item_is_the_element() {
        let single =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7)]), Some(vec![]), None]);
        check("element", vec![column(single)], longs([Some(7), None, None]));
        refused("element", vec![column(lists())], "one item, not of 3");
    }

    #[test]
    fn maps_are_read_from_text_and_looked_up() {
        let texts = text([Some("a=1,b=2,a=3"), Some("c"), Some(""), None]);
        let maps = call("str_to_map", vec![texts.into()], 4).unwrap();
        let of = |key: &str, expected| {
            check("item", vec![Arc::clone(&maps).into(), ScalarValue::from(key).into()], expected)
        };
        of("a", text([Some("3"), None, None, None]));
        of("b", text([Some("2"), None, None, None]));
        let keys = text([Some("b"), Some("c"), Some("a"), Some("a")]);
        check("item", vec![Arc::clone(&maps).into(), keys.into()], text([Some("2"), None, None, None]));
        check("cardinality", vec![maps.into()], ints([Some(2), Some(1), Some(0), None]));
    }

    #[test]
    fn rows_are_made_of_values() {
        let rows =
            call("row", vec![longs([Some(1), None]).into(), ScalarValue::from("a").into()], 2).unwrap();
        assert_eq!(crate::types::name_of(rows.data_type()), "ROW<`EXPR$0` BIGINT, `EXPR$1` STRING>");
        assert_eq!(rows.as_struct().column(1), &text([Some("a"), Some("a")]));
    }
}
