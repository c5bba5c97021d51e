use super::*;
use arrow::array::{
    Date32Array, Decimal128Array, Float64Array, Int64Array, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};
use proptest::prelude::*;
use std::sync::Arc;

fn written(array: impl Array + 'static, style: TimeStyle) -> Vec<String> {
    let array: ArrayRef = Arc::new(array);
    let cells = Cells::of(&array).unwrap();
    let one = |row| {
        let mut out = Vec::new();
        cells.write(row, style, &mut out);
        String::from_utf8(out).unwrap()
    };
    (0..array.len()).map(one).collect()
}

#[test]
fn numbers_are_written_with_all_that_belongs_to_their_type() {
    assert_eq!(written(Int64Array::from(vec![i64::MIN]), TimeStyle::Sql), ["-9223372036854775808"]);
    let decimals = Decimal128Array::from(vec![-5, 0, 1_234_567, -1_000]);
    let decimals = decimals.with_precision_and_scale(24, 3).unwrap();
    assert_eq!(written(decimals, TimeStyle::Sql), ["-0.005", "0.000", "1234.567", "-1.000"]);
    let floats = Float64Array::from(vec![1.0, f64::NEG_INFINITY, f64::NAN, 1.5e-9]);
    assert_eq!(written(floats, TimeStyle::Sql), ["1.0", "-Infinity", "NaN", "1.5e-9"]);
}

#[test]
fn times_are_written_in_three_styles() {
    let at = 1_704_153_550_000;
    let all = |style| written(TimestampMillisecondArray::from(vec![at, at + 120, at + 50_000, -1]), style);
    let sql = ["2024-01-01 23:59:10.000", "2024-01-01 23:59:10.120", "2024-01-02 00:00:00.000"];
    assert_eq!(all(TimeStyle::Sql)[..3], sql);
    assert_eq!(all(TimeStyle::Iso)[..3], sql.map(|text| text.replace(' ', "T")));
    let short = ["2024-01-01T23:59:10", "2024-01-01T23:59:10.120", "2024-01-02T00:00"];
    assert_eq!(all(TimeStyle::Short)[..3], short);
    assert_eq!(all(TimeStyle::Sql)[3], "1969-12-31 23:59:59.999");
    let local = TimestampMicrosecondArray::from(vec![10]).with_timezone("UTC");
    assert_eq!(written(local, TimeStyle::Sql), ["1970-01-01 00:00:00.000010Z"]);
}

proptest! {
    #[test]
    fn days_are_those_of_chrono(days in -719_528i32..2_932_897) {
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let day = epoch + chrono::Duration::days(i64::from(days));
        prop_assert_eq!(written(Date32Array::from(vec![days]), TimeStyle::Sql), [day.to_string()]);
    }
}
