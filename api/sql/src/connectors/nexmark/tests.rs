use super::*;
use crate::connectors::testing::{definition, read_all, request};
use arrow::array::{Array, AsArray};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};

fn row(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(Fields::from_iter(
        fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)),
    ))
}

/// The columns of the benchmark's table.
fn columns() -> Vec<Field> {
    let (long, text) = (DataType::Int64, DataType::Utf8);
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let texts = |names: &[&'static str]| names.iter().map(|name| (*name, text.clone())).collect::<Vec<_>>();
    let mut person = vec![("id", long.clone())];
    person.extend(texts(&["name", "emailAddress", "creditCard", "city", "state"]));
    person.extend([("dateTime", time.clone()), ("extra", text.clone())]);
    let mut auction = vec![("id", long.clone())];
    auction.extend(texts(&["itemName", "description"]));
    auction.extend([("initialBid", long.clone()), ("reserve", long.clone()), ("dateTime", time.clone())]);
    auction.extend([("expires", time.clone()), ("seller", long.clone()), ("category", long.clone())]);
    auction.push(("extra", text.clone()));
    let mut bid = vec![("auction", long.clone()), ("bidder", long.clone()), ("price", long)];
    bid.extend(texts(&["channel", "url"]));
    bid.extend([("dateTime", time), ("extra", text)]);
    vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", row(&person), true),
        Field::new("auction", row(&auction), true),
        Field::new("bid", row(&bid), true),
    ]
}

fn table(options: &[(&str, &str)]) -> TableDefinition {
    definition(columns(), options)
}

fn read(options: &[(&str, &str)], parallelism: usize) -> Changes {
    let table = table(options);
    let source = source(&table, &request(&table.schema)).unwrap();
    Changes::concat(read_all(&source, parallelism)).unwrap()
}

/// One line of each kind of event, as they are printed.
fn lines(changes: &Changes) -> Vec<String> {
    crate::connectors::row_text(changes, None).unwrap()
}

#[test]
fn events_are_the_same_whatever_the_parallelism_and_after_a_restart() {
    let options = [("events.num", "1003"), ("seed", "7"), ("out-of-order-group-size", "10")];
    let mut expected = lines(&read(&options, 1));
    expected.sort_unstable();
    assert_eq!(expected.len(), 1003);
    for parallelism in 2..4 {
        let mut found = lines(&read(&options, parallelism));
        found.sort_unstable();
        assert_eq!(found, expected);
    }
    let mut other = lines(&read(&[("events.num", "1003"), ("seed", "8")], 1));
    other.sort_unstable();
    assert_ne!(other, expected);
}

#[test]
fn an_event_has_the_fields_of_its_kind_only() {
    let batch = read(&[("events.num", "100"), ("base-time", "2024-01-01T12:00:00Z")], 1).batch;
    let kinds = batch.column(0).as_primitive::<Int32Type>();
    for row in 0..100 {
        let present = [1, 2, 3].map(|column| batch.column(column).is_valid(row));
        assert_eq!(present, [0, 1, 2].map(|kind| kinds.value(row) == kind));
    }
    let bids = batch.column(3).as_struct();
    let time = bids.column(5).as_primitive::<TimestampMillisecondType>();
    assert_eq!((time.value(99), time.value(4)), (1_704_110_400_010, 1_704_110_400_000));
    let persons = batch.column(1).as_struct();
    assert_eq!(persons.column(0).as_primitive::<Int64Type>().value(50), 1_001);
}

#[test]
fn records_have_their_sizes_on_average() {
    let batch = read(&[("events.num", "20000")], 1).batch;
    let extra = |column: usize, field: usize| {
        let rows = batch.column(column).as_struct();
        let texts = rows.column(field).as_string::<i32>();
        texts.value_data().len() as f64 / (rows.len() - rows.null_count()) as f64
    };
    assert!((67.0..69.0).contains(&extra(3, 6)), "{}", extra(3, 6));
    assert!((375.0..400.0).contains(&extra(2, 9)), "{}", extra(2, 9));
    assert!((120.0..150.0).contains(&extra(1, 7)), "{}", extra(1, 7));
}

#[test]
fn urls_say_which_channel_they_are_of() {
    let batch = read(&[("events.num", "5000")], 1).batch;
    let bids = batch.column(3).as_struct();
    let (channels, urls) = (bids.column(3).as_string::<i32>(), bids.column(4).as_string::<i32>());
    let mut hot = 0;
    for row in (0..bids.len()).filter(|row| bids.is_valid(*row)) {
        assert!(urls.value(row).starts_with("https://www.nexmark.com/"));
        assert_eq!(urls.value(row).split('/').count(), 7);
        match channels.value(row).strip_prefix("channel-") {
            None => hot += 1,
            Some(number) => {
                let number = number.parse::<u32>().unwrap().reverse_bits().cast_signed().unsigned_abs();
                let id = urls.value(row).split_once("&channel_id=");
                assert!(id.is_none_or(|(_, id)| id == number.to_string()));
            }
        }
    }
    assert!((2_100..2_500).contains(&hot), "{hot}");
}

#[test]
fn columns_that_nobody_asked_for_make_no_difference_to_the_others() {
    let table = table(&[("events.num", "500")]);
    let all = read(&[("events.num", "500")], 1).batch;
    let some = ScanRequest { columns: vec![3, 0], ..request(&table.schema) };
    let some = Changes::concat(read_all(&source(&table, &some).unwrap(), 1)).unwrap().batch;
    assert_eq!(some, all.project(&[3, 0]).unwrap());
    let extra = Fields::from(vec![Field::new("extra", DataType::Utf8, true)]);
    let fields = vec![Field::new("auction", DataType::Struct(extra), true)];
    let narrow = definition(fields, &[("events.num", "500")]);
    let narrow = Changes::concat(read_all(&source(&narrow, &request(&narrow.schema)).unwrap(), 1)).unwrap();
    assert_eq!(narrow.batch.column(0).as_struct().column(0), all.column(2).as_struct().column(9));
    let none = ScanRequest { columns: vec![], ..request(&table.schema) };
    let none = Changes::concat(read_all(&source(&table, &none).unwrap(), 1)).unwrap();
    assert_eq!(none.batch.num_rows(), 500);
}

#[test]
fn times_are_in_order_within_each_split() {
    let batch = read(&[("events.num", "2000"), ("next-event.rate", "700")], 1).batch;
    let batch = concat_batches(&batch.schema(), [&batch]).unwrap();
    let time = batch.column(3).as_struct().column(5);
    let order = sort_to_indices(time, None, None).unwrap();
    let sorted = take_record_batch(&batch, &order).unwrap();
    let bids = |batch: &arrow::array::RecordBatch| {
        let bids = batch.column(3).as_struct();
        let times = bids.column(5).as_primitive::<TimestampMillisecondType>().clone();
        (0..bids.len()).filter(|row| bids.is_valid(*row)).map(|row| times.value(row)).collect::<Vec<_>>()
    };
    assert_eq!(bids(&batch), bids(&sorted));
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let refused = |fields: Vec<Field>, options: &[(&str, &str)]| {
        let table = definition(fields, options);
        source(&table, &request(&table.schema)).err().unwrap().to_string()
    };
    assert!(refused(columns(), &[]).contains("has no end"));
    let text = |name: &str| vec![Field::new(name, DataType::Utf8, true)];
    assert!(refused(text("event_type"), &[("events.num", "1")]).contains("declare it as INT"));
    assert!(refused(text("bids"), &[("events.num", "1")]).contains("no column 'bids'"));
    assert!(refused(columns(), &[("events.num", "1"), ("base-time", "soon")]).contains("'soon'"));
    let rates = [("events.num", "1"), ("first-event.rate", "1"), ("next-event.rate", "2")];
    assert!(refused(columns(), &rates).contains("not supported"));
}
