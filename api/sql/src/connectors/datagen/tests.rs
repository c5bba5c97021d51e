use super::*;
use crate::connectors::testing::{definition, read_all, request};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field as Column, Float64Type, Int32Type, Int64Type, TimeUnit,
};

fn read(fields: &[(&str, DataType)], options: &[(&str, &str)], parallelism: usize) -> RecordBatch {
    let fields = fields.iter().map(|(name, kind)| Column::new(*name, kind.clone(), true)).collect();
    let table = definition(fields, options);
    let source = source(&table, &request(&table.schema)).unwrap();
    Changes::concat(read_all(&source, parallelism)).unwrap().batch
}

fn refused(fields: &[(&str, DataType)], options: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, kind)| Column::new(*name, kind.clone(), true)).collect();
    let table = definition(fields, options);
    source(&table, &request(&table.schema)).err().unwrap().to_string()
}

#[test]
fn a_sequence_has_every_number_once_and_ends_the_source() {
    for parallelism in 1..4 {
        let options = [
            ("fields.n.kind", "sequence"),
            ("fields.n.start", "5"),
            ("fields.n.end", "45"),
            ("rows-per-second", "0"),
        ];
        let batch = read(&[("n", DataType::Int64)], &options, parallelism);
        let mut numbers = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        numbers.sort_unstable();
        assert_eq!(numbers, (5..=45).collect::<Vec<_>>());
    }
}

#[test]
fn random_values_keep_within_their_bounds() {
    let fields = [
        ("i", DataType::Int32),
        ("d", DataType::Decimal128(10, 2)),
        ("f", DataType::Float64),
        ("t", DataType::Utf8),
        ("b", DataType::Boolean),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("day", DataType::Date32),
        ("all", DataType::Int64),
        ("huge", DataType::Decimal128(38, 0)),
    ];
    let options = [
        ("number-of-rows", "500"),
        ("rows-per-second", "100"),
        ("base-time", "2024-01-01 00:00:00"),
        ("fields.i.min", "-3"),
        ("fields.i.max", "3"),
        ("fields.d.min", "1.5"),
        ("fields.d.max", "2"),
        ("fields.f.min", "0"),
        ("fields.f.max", "1"),
        ("fields.t.length", "7"),
        ("fields.t.null-rate", "0.5"),
        ("fields.at.max-past", "1 s"),
    ];
    let batch = read(&fields, &options, 2);
    assert_eq!(batch.num_rows(), 500);
    let mut found: Vec<i32> = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [-3, -2, -1, 0, 1, 2, 3]);
    assert!(
        batch.column(1).as_primitive::<Decimal128Type>().values().iter().all(|d| (150..=200).contains(d))
    );
    assert!(batch.column(2).as_primitive::<Float64Type>().values().iter().all(|f| (0.0..=1.0).contains(f)));
    let texts = batch.column(3).as_string::<i32>();
    assert!((200..300).contains(&texts.null_count()), "{}", texts.null_count());
    assert!(texts.iter().flatten().all(|text| text.len() == 7));
    let trues = batch.column(4).as_boolean().true_count();
    assert!((200..300).contains(&trues), "{trues}");
    let times = batch.column(5).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    let (first, last) = (times.values().iter().min().unwrap(), times.values().iter().max().unwrap());
    assert!(*first > 1_704_067_200_000 - 1_000 && *last < 1_704_067_205_000, "{first} {last}");
}

#[test]
fn rows_are_the_same_whatever_the_parallelism_and_differ_with_the_seed() {
    let fields = [("a", DataType::Int64), ("b", DataType::Utf8)];
    let lines = |seed: &str, parallelism: usize| {
        let options = [("number-of-rows", "60"), ("rows-per-second", "0"), ("seed", seed)];
        let changes = Changes::append_only(read(&fields, &options, parallelism));
        let mut lines = crate::connectors::row_text(&changes, None).unwrap();
        lines.sort_unstable();
        lines
    };
    assert_eq!(lines("1", 1), lines("1", 3));
    assert_ne!(lines("1", 1), lines("2", 1));
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let fields = [("n", DataType::Int64)];
    let rows = ("number-of-rows", "1");
    assert!(refused(&fields, &[]).contains("has no end"));
    assert!(refused(&fields, &[rows, ("fields.m.min", "1")]).contains("did you mean 'fields.n.min'?"));
    assert!(refused(&fields, &[rows, ("fields.n.min", "2"), ("fields.n.max", "1")]).contains("smaller"));
    assert!(refused(&fields, &[rows, ("fields.n.kind", "sequence")]).contains("'fields.n.start' is missing"));
    assert!(refused(&[("l", DataType::Null)], &[rows]).contains("cannot be made up"));
}
