//! Flink's SQL types as Arrow's: what a type in a statement means, and how a type is shown.

use crate::error::nearest;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion_common::{Result, not_impl_err, plan_err};
use datafusion_expr::planner::TypePlanner;
use sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, ObjectName, StructField, TimezoneInfo,
};
use std::sync::Arc;

/// Most digits that a DECIMAL has.
const MOST_DIGITS: u8 = 38;

/// Name of the only field of the row that the parser writes for `MULTISET<T>`.
pub(crate) const MULTISET_FIELD: &str = "$multiset";

/// TIMESTAMP(3), the type of event time.
pub(crate) const TIMESTAMP_3: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// TIMESTAMP_LTZ(3), the type of processing time.
pub(crate) fn timestamp_ltz_3() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Plans the types of columns and casts.
#[derive(Debug)]
pub(crate) struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(Some(Arc::new(Field::new("", plan(sql_type)?, true))))
    }
}

/// The Arrow type of a type in a statement.
///
/// # Errors
/// The type is unknown, or has too many digits.
pub(crate) fn plan(sql_type: &SqlType) -> Result<DataType> {
    Ok(match sql_type {
        SqlType::String(_)
        | SqlType::Text
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::Varchar(_)
        | SqlType::CharVarying(_)
        | SqlType::CharacterVarying(_) => DataType::Utf8,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::Bytes(_) | SqlType::Binary(_) | SqlType::Varbinary(_) => DataType::Binary,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) => DataType::Int32,
        SqlType::BigInt(_) => DataType::Int64,
        SqlType::Float(_) | SqlType::Real => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Decimal(digits) | SqlType::Dec(digits) | SqlType::Numeric(digits) => decimal(*digits)?,
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time32(TimeUnit::Millisecond)
        }
        SqlType::Timestamp(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            timestamp(*digits, false)?
        }
        // The parser drops the word LOCAL of WITH LOCAL TIME ZONE; Flink has no other type with a zone.
        SqlType::Timestamp(digits, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            timestamp(*digits, true)?
        }
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item))
        | SqlType::Array(ArrayElemTypeDef::SquareBracket(item, None))
        | SqlType::Array(ArrayElemTypeDef::Parenthesis(item)) => {
            DataType::List(Arc::new(Field::new_list_field(plan(item)?, true)))
        }
        SqlType::Map(key, value) => map_type(plan(key)?, plan(value)?),
        SqlType::Struct(fields, _) | SqlType::Tuple(fields) => row(fields)?,
        SqlType::Custom(name, modifiers) => custom(name, modifiers)?,
        other => return unknown(&other.to_string()),
    })
}

/// DECIMAL(p, s). Flink's default is DECIMAL(10, 0).
fn decimal(digits: ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let most = u64::from(MOST_DIGITS);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=MOST_DIGITS), Ok(s)) if s >= 0 && s as u8 <= p => Ok(DataType::Decimal128(p, s)),
        _ if precision == 0 || precision > most => {
            plan_err!("DECIMAL has 1 to {most} digits, not {precision}")
        }
        _ => plan_err!("DECIMAL({precision}, {scale}): digits behind the point are 0 to {precision}"),
    }
}

/// TIMESTAMP(p) and TIMESTAMP_LTZ(p), in the coarsest unit that holds their digits. Flink's default is 6.
fn timestamp(digits: Option<u64>, is_local: bool) -> Result<DataType> {
    let unit = match digits.unwrap_or(6) {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        7..=9 => TimeUnit::Nanosecond,
        more => return plan_err!("TIMESTAMP has 0 to 9 digits behind the second, not {more}"),
    };
    Ok(DataType::Timestamp(unit, is_local.then(|| "UTC".into())))
}

/// A map. A MULTISET is one from values to how often they are there.
pub(crate) fn map_type(key: DataType, value: DataType) -> DataType {
    // Names of the fields are those of Arrow's map builder, so that casts between maps are none.
    let fields = Fields::from(vec![Field::new("keys", key, false), Field::new("values", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

fn row(fields: &[StructField]) -> Result<DataType> {
    if let [StructField { field_name: Some(name), field_type, .. }] = fields
        && name.value == MULTISET_FIELD
    {
        return Ok(map_type(plan(field_type)?, DataType::Int32));
    }
    let fields = fields.iter().enumerate().map(|(i, field)| {
        // Flink names the fields of a row that gives no names f0, f1, ...
        let name = field.field_name.as_ref().map_or_else(|| format!("f{i}"), |name| name.value.clone());
        Ok(Field::new(name, plan(&field.field_type)?, true))
    });
    Ok(DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into()))
}

fn custom(name: &ObjectName, modifiers: &[String]) -> Result<DataType> {
    let written = name.to_string();
    match written.to_uppercase().as_str() {
        "TIMESTAMP_LTZ" => match modifiers {
            [] => timestamp(None, true),
            [digits] if digits.parse::<u64>().is_ok() => timestamp(digits.parse().ok(), true),
            _ => plan_err!("TIMESTAMP_LTZ takes one number, not ({})", modifiers.join(", ")),
        },
        "RAW" => not_impl_err!("type RAW holds Java objects"),
        _ => unknown(&written),
    }
}

fn unknown(written: &str) -> Result<DataType> {
    const KNOWN: [&str; 21] = [
        "STRING",
        "VARCHAR",
        "CHAR",
        "BOOLEAN",
        "BYTES",
        "BINARY",
        "VARBINARY",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_LTZ",
        "ARRAY",
        "MAP",
        "ROW",
    ];
    let name = written.split(['(', '<', ' ']).next().unwrap_or(written);
    match nearest(name, KNOWN) {
        Some(other) => plan_err!("unknown type {written}; did you mean {other}?"),
        None => plan_err!("unknown type {written}; types are {}", KNOWN.join(", ")),
    }
}

/// How Flink shows a type.
pub(crate) fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_string(),
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Int8 => "TINYINT".to_string(),
        DataType::Int16 => "SMALLINT".to_string(),
        DataType::Int32 => "INT".to_string(),
        DataType::Int64 => "BIGINT".to_string(),
        DataType::Float32 => "FLOAT".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_string(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_string(),
        DataType::FixedSizeBinary(length) => format!("BINARY({length})"),
        DataType::Date32 | DataType::Date64 => "DATE".to_string(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(*unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".to_string(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL DAY TO SECOND(3)".to_string(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", name_of(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("`{}` {}", f.name(), name_of(f.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match &fields[..] {
                [key, value] => format!("MAP<{}, {}>", name_of(key.data_type()), name_of(value.data_type())),
                _ => data_type.to_string(),
            },
            _ => data_type.to_string(),
        },
        DataType::Dictionary(_, value) => name_of(value),
        other => other.to_string(),
    }
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::BigQueryDialect;
    use sqlparser::parser::Parser;

    /// BigQuery's dialect knows structs; the statement parser's own knows more.
    fn planned(sql: &str) -> Result<DataType> {
        let sql_type = Parser::new(&BigQueryDialect {}).try_with_sql(sql).unwrap().parse_data_type().unwrap();
        plan(&sql_type)
    }

    #[track_caller]
    fn check(sql: &str, shown: &str) {
        assert_eq!(name_of(&planned(sql).unwrap()), shown, "{sql}");
    }

    #[track_caller]
    fn refused(sql: &str, part: &str) {
        let error = planned(sql).unwrap_err().strip_backtrace();
        assert!(error.contains(part), "{sql}: {error}");
    }

    #[test]
    fn types_are_shown_as_flink_shows_them() {
        for (sql, shown) in [
            ("STRING", "STRING"),
            ("varchar(20)", "STRING"),
            ("CHAR(3)", "STRING"),
            ("BOOLEAN", "BOOLEAN"),
            ("BYTES", "BYTES"),
            ("VARBINARY(10)", "BYTES"),
            ("TINYINT", "TINYINT"),
            ("SMALLINT", "SMALLINT"),
            ("INT", "INT"),
            ("INTEGER", "INT"),
            ("BIGINT", "BIGINT"),
            ("FLOAT", "FLOAT"),
            ("DOUBLE", "DOUBLE"),
            ("DOUBLE PRECISION", "DOUBLE"),
            ("DECIMAL", "DECIMAL(10, 0)"),
            ("NUMERIC(5)", "DECIMAL(5, 0)"),
            ("DECIMAL(38, 18)", "DECIMAL(38, 18)"),
            ("DATE", "DATE"),
            ("TIME", "TIME(3)"),
            ("TIME(0)", "TIME(3)"),
            ("TIMESTAMP", "TIMESTAMP(6)"),
            ("TIMESTAMP(0)", "TIMESTAMP(3)"),
            ("TIMESTAMP(3) WITHOUT TIME ZONE", "TIMESTAMP(3)"),
            ("TIMESTAMP(9)", "TIMESTAMP(9)"),
            ("TIMESTAMP_LTZ(3)", "TIMESTAMP_LTZ(3)"),
            ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(6)"),
            ("TIMESTAMP(3) WITH TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("ARRAY<INT>", "ARRAY<INT>"),
            ("STRUCT<id BIGINT, name STRING>", "ROW<`id` BIGINT, `name` STRING>"),
            ("STRUCT<INT, STRING>", "ROW<`f0` INT, `f1` STRING>"),
            ("ARRAY<STRUCT<a ARRAY<INT>>>", "ARRAY<ROW<`a` ARRAY<INT>>>"),
            ("STRUCT<`$multiset` STRING>", "MAP<STRING, INT>"),
        ] {
            check(sql, shown);
        }
        assert_eq!(name_of(&map_type(DataType::Utf8, DataType::Int64)), "MAP<STRING, BIGINT>");
        assert_eq!(
            plan(&SqlType::Map(Box::new(SqlType::Date), Box::new(SqlType::Text))).unwrap(),
            map_type(DataType::Date32, DataType::Utf8)
        );
    }

    #[test]
    fn names_of_fields_keep_their_case() {
        check("STRUCT<dateTime TIMESTAMP(3)>", "ROW<`dateTime` TIMESTAMP(3)>");
    }

    #[test]
    fn wrong_types_are_refused_in_plain_words() {
        refused("STRNG", "unknown type STRNG; did you mean STRING?");
        refused("TIMESTAMP_TZ(3)", "did you mean TIMESTAMP");
        refused("HLL", "types are STRING");
        refused("DECIMAL(39, 2)", "1 to 38 digits, not 39");
        refused("DECIMAL(5, 7)", "digits behind the point are 0 to 5");
        refused("TIMESTAMP(12)", "0 to 9 digits");
    }
}
