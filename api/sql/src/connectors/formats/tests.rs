use super::*;
use crate::connectors::row_text;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use hurtig_formats::{Block, Malformed, Stop};
use proptest::prelude::*;

fn options(options: &[(&str, &str)]) -> TableOptions {
    TableOptions::new(options.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>(),
    ))
}

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// A table with a column of each plain type.
fn plain() -> SchemaRef {
    schema(&[
        ("i", DataType::Int32),
        ("t", DataType::Utf8),
        ("d", DataType::Decimal128(12, 3)),
        ("at", TIME),
        ("b", DataType::Boolean),
        ("f", DataType::Float64),
        ("day", DataType::Date32),
        ("x", DataType::Binary),
    ])
}

fn nested() -> SchemaRef {
    let row = |fields: Vec<Field>| DataType::Struct(Fields::from(fields));
    let bid = vec![
        Field::new("price", DataType::Int64, true),
        Field::new("url", DataType::Utf8, true),
        Field::new("at", TIME, true),
    ];
    let list = DataType::List(Arc::new(Field::new_list_field(row(bid.clone()), true)));
    schema(&[("n", DataType::Int64), ("bid", row(bid)), ("bids", list)])
}

/// Decodes all of `bytes`, cut into blocks wherever it may be, `max` rows at a time.
fn decode_all(
    decoding: &Decoding,
    bytes: &[u8],
    max: usize,
    block: usize,
) -> Result<Vec<Changes>, Malformed> {
    let mut decoder = decoding.decoder();
    let mut at = loop_head(&mut decoder, bytes, block)?;
    let (mut end, mut out) = ((at + block).min(bytes.len()), Vec::new());
    loop {
        let last = end == bytes.len();
        let decoded =
            decoder.decode(Block { bytes: &bytes[at..end], limit: usize::MAX, last }, max, &mut out);
        at += decoded.used;
        match decoded.stop {
            Stop::Full => {}
            Stop::NeedsMore => end = (end + block).min(bytes.len()),
            Stop::End => return Ok(out),
            Stop::Malformed(bad) => return Err(bad),
        }
    }
}

fn loop_head(decoder: &mut AnyDecoder, bytes: &[u8], block: usize) -> Result<usize, Malformed> {
    let mut end = block.min(bytes.len());
    loop {
        if let Some((length, _)) = decoder.read_head(&bytes[..end], end == bytes.len())? {
            return Ok(length);
        }
        end = (end + block).min(bytes.len());
    }
}

fn decoding_of(format: &str, schema: &SchemaRef, columns: &[usize], set: &[(&str, &str)]) -> Decoding {
    let wanted = Arc::new(schema.project(columns).unwrap());
    reading(format, &options(set), &Reading { all: Arc::clone(schema), wanted }).unwrap()
}

fn decoding(format: &str, schema: &SchemaRef, set: &[(&str, &str)]) -> Decoding {
    decoding_of(format, schema, &(0..schema.fields().len()).collect::<Vec<_>>(), set)
}

fn read(format: &str, schema: &SchemaRef, set: &[(&str, &str)], text: &str) -> Result<Changes, String> {
    let batches = decode_all(&decoding(format, schema, set), text.as_bytes(), 100, 1 << 16);
    let batches = batches
        .map_err(|bad| format!("{} {:?} {}", bad.column, bad.field.unwrap_or_default(), bad.reason))?;
    Ok(Changes::concat(batches).unwrap())
}

fn lines(changes: &Changes) -> Vec<String> {
    row_text(changes, Some(&[0])).unwrap()
}

fn write(format: &str, changes: &Changes, set: &[(&str, &str)]) -> String {
    let encoding = writing(format, &options(set), &changes.schema()).unwrap();
    let piece = Piece { folder: String::new(), changes: changes.clone(), key: Some(vec![0]) };
    let mut out = Vec::new();
    encoding.encoder(true).encode(&piece, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_is_read_into_columns_of_their_types_and_written_as_flink_writes_it() {
    let text = "1,a,1.500,2024-01-01 10:00:00.123,true,1.5,2024-01-31,AQI=\n\
                2,\"\",-0.005,2024-01-01 00:00:00.000,false,1e30,1969-12-31,\n\
                ,,,,,,,\n\
                3,\"a,\"\"b\"\"\nc\",0.000,1969-12-31 23:59:59.999,true,-Infinity,0001-01-01,\"\"\n";
    let read = read("csv", &plain(), &[], text).unwrap();
    let expected = [
        "+I[1, a, 1.500, 2024-01-01T10:00:00.123, true, 1.5, 2024-01-31, [1, 2]]",
        "+I[2, , -0.005, 2024-01-01T00:00, false, 1e30, 1969-12-31, null]",
        "+I[null, null, null, null, null, null, null, null]",
        "+I[3, a,\"b\"",
    ];
    assert_eq!(lines(&read)[..4], expected);
    assert_eq!(write("csv", &read, &[]), text);
}

#[test]
fn csv_columns_may_be_matched_by_their_names_and_only_some_be_read() {
    let table = schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Int64)]);
    let decoding =
        decoding_of("csv", &table, &[2, 0], &[("csv.header", "true"), ("csv.field-delimiter", ";")]);
    let text = "\u{feff}b;x;c;a\nno;?;3;1\n\nno;?;4;\n";
    let batches = decode_all(&decoding, text.as_bytes(), 1, 5).unwrap();
    assert_eq!(batches.iter().flat_map(lines).collect::<Vec<_>>(), ["+I[3, 1]", "+I[4, null]"]);
    let missing = decode_all(&decoding, b"a;b\n1;2\n", 1, 100).unwrap_err();
    assert_eq!(missing.reason, "the first line does not name the column 'c'");
    let ignored = read("csv", &table, &[("csv.ignore-first-line", "true")], "x,y\n1,2,3\n").unwrap();
    assert_eq!(lines(&ignored), ["+I[1, 2, 3]"]);
}

#[test]
fn a_malformed_csv_line_is_told_with_its_field() {
    let table = schema(&[("a", DataType::Int64), ("b", TIME)]);
    let wrong = |text: &str| read("csv", &table, &[], text).unwrap_err();
    assert_eq!(wrong("1,2024-01-01\nx,\n"), "1 \"a\" 'x' is not a BIGINT");
    assert_eq!(wrong("1,soon\n"), "2 \"b\" 'soon' is not a TIMESTAMP");
    assert_eq!(wrong("1\n"), "1 \"\" 1 fields where there are 2 columns");
    assert_eq!(wrong("1,\"x\n"), "2 \"\" the quote that begins the field is not closed");
}

#[test]
fn other_texts_may_stand_for_null() {
    let table = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
    let set = [("csv.null-literal", "n/a")];
    let text = "1,n/a\nn/a,\"n/a\"\n2,\"\"\n";
    let found = read("csv", &table, &set, text).unwrap();
    assert_eq!(lines(&found), ["+I[1, null]", "+I[null, n/a]", "+I[2, ]"]);
    assert_eq!(write("csv", &found, &set), text);
    assert_eq!(lines(&read("csv", &table, &set, ",\n").unwrap()), ["+I[null, ]"]);
}

#[test]
fn json_is_read_into_rows_and_arrays_whatever_the_order_of_members() {
    let text = r#"{"n":1,"bid":{"price":7,"url":"a\"b\\cü\u00e9\ud83d\ude00","at":"2024-01-01 10:00:00.5"},"bids":[]}
        {"else":[1,{"a":"]"}],"bids":[{"price":1},null,{"at":"2024-01-01T10:00:00Z","price":-2,"url":null}], "bid":null}

{"n":2,"n":"3","bid":{"price":"8","url":{"x":[1, 2]}}}"#;
    let found = read("json", &nested(), &[], text).unwrap();
    let expected = [
        r#"+I[1, +I[7, a"b\cüé😀, 2024-01-01T10:00:00.500], []]"#,
        "+I[null, null, [+I[1, null, null], null, +I[-2, null, 2024-01-01T10:00]]]",
        r#"+I[3, +I[8, {"x":[1, 2]}, null], null]"#,
    ];
    assert_eq!(lines(&found), expected);
    let written = write("json", &found, &[("json.timestamp-format.standard", "ISO-8601")]);
    let first = r#"{"n":1,"bid":{"price":7,"url":"a\"b\\cüé😀","at":"2024-01-01T10:00:00.500"},"bids":[]}"#;
    assert_eq!(written.lines().next(), Some(first));
    assert_eq!(read("json", &nested(), &[], &written).unwrap(), found);
}

#[test]
fn a_malformed_json_line_is_told_with_its_member() {
    let wrong = |text: &str| read("json", &nested(), &[], text).unwrap_err();
    assert_eq!(wrong(r#"{"bid":{"price":1.5}}"#), r#"17 "bid.price" 1.5 is not a BIGINT"#);
    assert_eq!(wrong(r#"{"bids":[{"at":"x"}]}"#), r#"16 "bids.at" "x" is not a TIMESTAMP"#);
    assert_eq!(wrong(r#"{"n":1,}"#), r#"8 "" expected '"'"#);
    assert_eq!(wrong(r#"{"n":1"#), r#"7 "" the line ends too early"#);
    assert_eq!(wrong(r#"{"n":1} x"#), r#"9 "" text behind the end of the object"#);
    assert_eq!(wrong(r#"[1]"#), r#"1 "" expected '{'"#);
    assert_eq!(wrong(r#"{"n":"1}"#), r#"6 "n" the text that begins here does not end"#);
    assert_eq!(
        wrong(r#"{"bid":{"url":"\ud800x"}}"#),
        r#"24 "bid.url" an escape that stands for no character"#
    );
    assert_eq!(wrong(&format!("{{\"x\":{}", "[".repeat(100_000))), r#"100006 "" the line ends too early"#);
}

#[test]
fn what_was_read_of_a_malformed_line_is_taken_back() {
    let text = "{\"n\":1,\"bids\":[{\"price\":1}]}\n{\"n\":2,\"bid\":{\"price\":1,\"url\":\"x\"},\"bids\":[{\"price\":x}]}\n{\"n\":3}\n";
    let mut decoder = decoding("json", &nested(), &[]).decoder();
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let block = Block { bytes: &text.as_bytes()[at..], limit: usize::MAX, last: true };
        let decoded = decoder.decode(block, 100, &mut out);
        at += decoded.used;
        match decoded.stop {
            Stop::Malformed(bad) => {
                assert_eq!((bad.lines_before, bad.field.as_deref()), (1, Some("bids.price")))
            }
            Stop::End => break,
            stop => panic!("{stop:?}"),
        }
    }
    let expected = ["+I[1, null, [+I[1, null, null]]]", "+I[3, null, null]"];
    assert_eq!(out.iter().flat_map(lines).collect::<Vec<_>>(), expected);
}

#[test]
fn changes_are_read_and_written_as_debezium_tells_them() {
    let table = schema(&[("k", DataType::Int64), ("v", DataType::Utf8)]);
    let text = r#"{"before":null,"after":{"k":1,"v":"a"},"op":"c","ts_ms":1}
{"schema":{},"payload":{"op":"u","before":{"k":1,"v":"a"},"after":{"k":1,"v":"b"},"source":{}}}
{"op":"r","after":{"k":2,"v":"c"}}
{"before":{"k":2,"v":"c"},"after":null,"op":"d"}
"#;
    let decoding = decoding("debezium-json", &table, &[]);
    let found = decode_all(&decoding, text.as_bytes(), 1, 1000).unwrap();
    let kinds: Vec<String> = found.iter().flat_map(lines).collect();
    assert_eq!(kinds, ["+I[1, a]", "-U[1, a]", "+U[1, b]", "+I[2, c]", "-D[2, c]"]);
    let written: String = found.iter().map(|changes| write("debezium-json", changes, &[])).collect();
    let expected = r#"{"before":null,"after":{"k":1,"v":"a"},"op":"c"}
{"before":{"k":1,"v":"a"},"after":{"k":1,"v":"b"},"op":"u"}
{"before":null,"after":{"k":2,"v":"c"},"op":"c"}
{"before":{"k":2,"v":"c"},"after":null,"op":"d"}
"#;
    assert_eq!(written, expected);
    let wrong = |text: &str| read("debezium-json", &table, &[], text).unwrap_err();
    assert!(wrong(r#"{"after":{"k":1}}"#).contains("'op' is none of c, r, u and d"));
    assert!(wrong(r#"{"after":{"k":1},"op":"u"}"#).contains("'before' is missing"));
}

#[test]
fn raw_lines_are_rows_of_one_text() {
    let table = schema(&[("line", DataType::Utf8)]);
    let found = read("raw", &table, &[], "a,\"b\n\r\n{").unwrap();
    assert_eq!(lines(&found), ["+I[a,\"b]", "+I[]", "+I[{]"]);
    assert_eq!(write("raw", &found, &[]), "a,\"b\n\n{\n");
    let reading = Reading { all: plain(), wanted: plain() };
    assert!(super::reading("raw", &options(&[]), &reading).is_err());
}

#[test]
fn formats_refuse_what_they_do_not_have() {
    let refused = |format: &str, set: &[(&str, &str)], schema: SchemaRef| {
        let reading = Reading { all: Arc::clone(&schema), wanted: schema };
        super::reading(format, &options(set), &reading).err().unwrap().to_string()
    };
    assert!(refused("jsn", &[], plain()).contains("did you mean 'json'?"));
    assert!(refused("csv", &[], nested()).contains("column 'bid' is a ROW"));
    assert!(refused("csv", &[("json.ignore-parse-errors", "true")], plain()).contains("says nothing"));
    assert!(refused("csv", &[("csv.field-delimiter", "ab")], plain()).contains("one ASCII character"));
}

/// Rows of values that CSV and JSON can both have.
fn rows() -> impl Strategy<Value = Changes> {
    let row = (
        prop::option::of(any::<i32>()),
        prop::option::of("[a,\"\\\\\n\r\t ;üx\u{1}]{0,20}"),
        prop::option::of(-999_999_999_999i128..=999_999_999_999),
        prop::option::of(-62_135_596_800_000i64..253_402_300_799_999),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE),
        prop::option::of(-719_162..2_932_896i32),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
    );
    prop::collection::vec(row, 0..20).prop_map(|rows| {
        use arrow::array::*;
        let rows = &rows;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.0))),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1.clone()))),
            Arc::new(
                Decimal128Array::from_iter(rows.iter().map(|row| row.2))
                    .with_precision_and_scale(12, 3)
                    .unwrap(),
            ),
            Arc::new(TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.3))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.4))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.5))),
            Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.6))),
            Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.7.clone()))),
        ];
        Changes::append_only(RecordBatch::try_new(plain(), columns).unwrap())
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(rows in rows(), is_csv: bool, max in 1usize..9, block in 1usize..300) {
        let format = if is_csv { "csv" } else { "json" };
        let text = write(format, &rows, &[]);
        let batches = decode_all(&decoding(format, &plain(), &[]), text.as_bytes(), max, block).unwrap();
        prop_assert!(batches.iter().all(|batch| (1..=max).contains(&batch.batch.num_rows())));
        match batches.is_empty() {
            true => prop_assert_eq!(rows.batch.num_rows(), 0),
            false => prop_assert_eq!(Changes::concat(batches).unwrap(), rows),
        }
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(text in r#"\{("n":(-?[0-9]{1,3}|"x"|null),?|"bid":\{?("url":"([a"\\/nu0]{0,9})?",?)?\}?,?|"o":[\[\]{}1,]{0,4},?){0,3}\}?"#) {
        // Of two members of one name both are checked here, but only the last there.
        prop_assume!(["\"n\"", "\"bid\"", "\"url\""].iter().all(|name| text.matches(name).count() < 2));
        let ours = read("json", &nested(), &[], &text);
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            // serde_json takes -0 for a floating-point number, to keep its sign; for a BIGINT it is 0.
            let is_zero = value["n"].as_f64() == Some(0.0);
            let is_number = value["n"].is_i64() || is_zero || value["n"].is_null();
            let is_row = value["bid"].is_null() || value["bid"].is_object();
            prop_assert_eq!(ours.is_ok(), is_number && is_row, "{} {:?}", text, ours);
            if let (Ok(ours), Some(url)) = (ours, value["bid"]["url"].as_str()) {
                prop_assert_eq!(ours.batch.column(1).as_struct().column(1).as_string::<i32>().value(0), url);
            }
        }
    }
}
