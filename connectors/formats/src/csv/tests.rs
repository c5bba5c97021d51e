use super::*;
use crate::encode::Encoder;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    id: u32,
    carrier: String,
    delay: Option<f64>,
}

/// Reads all of `text` in blocks of at most `size` bytes, as a reader of files does.
fn read_blocks<T: Record>(format: &Csv<T>, text: &[u8], size: usize) -> Result<Vec<T>, Malformed> {
    let mut decoder = format.decoder();
    let mut out = Vec::new();
    let (mut from, mut to) = (0, 0);
    let mut head_read = false;
    loop {
        let (bytes, last) = (&text[from..to], to == text.len());
        if !head_read {
            if let Some((used, _)) = decoder.read_head(bytes, last)? {
                from += used;
                head_read = true;
                continue;
            }
        } else {
            let decoded = decoder.decode(Block { bytes, limit: usize::MAX, last }, 3, &mut out);
            from += decoded.used;
            match decoded.stop {
                Stop::Full => continue,
                Stop::NeedsMore => {}
                Stop::End => return Ok(out),
                Stop::Malformed(bad) => return Err(bad),
            }
        }
        assert!(!last, "more is wanted at the end");
        to = (to + size).min(text.len());
    }
}

fn read<T: Record>(format: &Csv<T>, text: &str) -> Result<Vec<T>, Malformed> {
    read_blocks(format, text.as_bytes(), text.len().max(1))
}

fn message(text: &str) -> String {
    let bad = read(&Csv::<Flight>::new(), text).unwrap_err();
    let field = bad.field.map(|field| format!(" ({field})")).unwrap_or_default();
    format!("line {} column {}{field}: {}", bad.lines_before + 2, bad.column, bad.reason)
}

#[test]
fn columns_go_to_fields_by_name_and_unknown_ones_are_ignored() {
    let flights =
        read(&Csv::<Flight>::new(), "delay,x,id,carrier\r\n\r\n1.5,,7,LH\r\n,,8,\"A\"\"B\"").unwrap();
    assert_eq!(
        flights,
        [
            Flight { id: 7, carrier: "LH".into(), delay: Some(1.5) },
            Flight { id: 8, carrier: "A\"B".into(), delay: None },
        ]
    );
}

#[test]
fn without_header_columns_go_by_position() {
    let format = Csv::<(u32, String)>::new().without_header().delimiter(b';');
    assert_eq!(read(&format, "1;a\n2;b,c\n").unwrap(), [(1, "a".to_string()), (2, "b,c".to_string())]);
    let flights = Csv::<Flight>::new().without_header();
    assert_eq!(read(&flights, "1,a,").unwrap(), [Flight { id: 1, carrier: "a".into(), delay: None }]);
}

#[test]
fn a_missing_column_of_an_option_and_an_alias_are_found_by_name() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(alias = "number")]
        id: u32,
        note: Option<String>,
        #[serde(default)]
        weight: f32,
    }
    let rows = read(&Csv::<Row>::new(), "number\n1\n2\n").unwrap();
    assert_eq!(rows[1], Row { id: 2, note: None, weight: 0.0 });
}

#[test]
fn maps_flattened_structs_and_enums_can_be_read() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Side {
        Left,
        Right,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        side: Side,
        #[serde(flatten)]
        rest: BTreeMap<String, f64>,
    }
    let rows = read(&Csv::<Row>::new(), "a,side,b\n1,Left,2.5\n3,Right,4\n").unwrap();
    assert_eq!((&rows[0].side, rows[0].rest["b"]), (&Side::Left, 2.5));
    assert_eq!((&rows[1].side, rows[1].rest["a"]), (&Side::Right, 3.0));
}

#[test]
fn a_value_that_does_not_parse_is_named_by_line_column_and_field() {
    assert_eq!(
        message("id,carrier,delay\n1,a,2\n\nx,b,3\n"),
        "line 4 column 1 (id): invalid digit found in string"
    );
    // The first row, while it is not decided yet how the struct gets its columns.
    assert_eq!(message("delay,carrier,id\nx,a,2\n"), "line 2 column 1 (delay): invalid float literal");
    assert_eq!(message("carrier,delay\na,2\n"), "line 2 column 0: missing field `id`");
    assert_eq!(
        message("id,carrier,delay\n1,a\n"),
        "line 2 column 2 (carrier): 2 fields where the header has 3"
    );
    assert_eq!(
        message("id,carrier,delay\n1,\"a\"b,2\n"),
        "line 2 column 2 (carrier): text behind the closing quote"
    );
    assert_eq!(
        message("id,carrier,delay\n1,\"a\nb\",2\n1,\"a,2\n2,b,3\n"),
        "line 4 column 2 (carrier): the quote that begins the field is not closed"
    );
}

#[test]
fn a_row_that_is_not_utf_8_is_malformed_and_those_round_it_are_read() {
    let mut text = "1,ä,\n".repeat(5000).into_bytes();
    text.extend(b"2,\xff,\n");
    text.extend("3,ü,\n".repeat(5000).bytes());
    let mut decoder = Csv::<Flight>::new().without_header().decoder();
    let mut out = Vec::new();
    let first = decoder.decode(Block { bytes: &text, limit: usize::MAX, last: true }, 20_000, &mut out);
    assert!(matches!(&first.stop, Stop::Malformed(bad) if bad.reason == "not UTF-8"), "{:?}", first.stop);
    decoder.decode(Block { bytes: &text[first.used..], limit: usize::MAX, last: true }, 20_000, &mut out);
    assert_eq!((out.len(), out[4999].carrier.as_str(), out[9999].carrier.as_str()), (10_000, "ä", "ü"));
}

#[test]
fn reading_goes_on_behind_a_quote_that_is_not_closed() {
    let text = b"1,\"a,2\n2,b,3\n";
    let mut decoder = Csv::<Flight>::new().without_header().decoder();
    let mut out = Vec::new();
    let decoded = decoder.decode(Block { bytes: text, limit: usize::MAX, last: true }, 9, &mut out);
    assert!(matches!(decoded.stop, Stop::Malformed(_)));
    let bytes = &text[decoded.used..];
    decoder.decode(Block { bytes, limit: usize::MAX, last: true }, 9, &mut out);
    assert_eq!(out, [Flight { id: 2, carrier: "b".into(), delay: Some(3.0) }]);
}

proptest! {
    #[test]
    fn what_was_written_is_read_back_from_blocks_of_any_size(
        rows in prop::collection::vec((any::<u32>(), "[a\",;\r\n ü]{0,8}", any::<Option<i32>>()), 0..12),
        size in 1usize..40,
        header: bool,
        delimiter in prop::sample::select(vec![b',', b';', b'\t']),
    ) {
        let rows: Vec<Flight> = rows
            .into_iter()
            .map(|(id, carrier, delay)| Flight { id, carrier, delay: delay.map(f64::from) })
            .collect();
        let mut format = Csv::<Flight>::new().delimiter(delimiter);
        if !header {
            format = format.without_header();
        }
        let mut text = Vec::new();
        let mut encoder = EncodeFormat::<Flight>::encoder(&format, true);
        for row in &rows {
            encoder.encode(row, &mut text).unwrap();
        }
        prop_assert_eq!(read_blocks(&format, &text, size).unwrap(), rows);
    }

    #[test]
    fn any_bytes_are_read_to_their_end_and_as_the_same_records_in_blocks_of_any_size(
        text in prop::collection::vec(prop::sample::select(b"a1,\"\"\r\n\n".to_vec()), 0..40),
        size in 1usize..10,
    ) {
        let format = Csv::<Vec<String>>::new().without_header();
        let whole = read_blocks(&format, &text, text.len().max(1));
        let blocks = read_blocks(&format, &text, size);
        prop_assert_eq!(whole.map_err(|bad| bad.reason), blocks.map_err(|bad| bad.reason));
    }
}
