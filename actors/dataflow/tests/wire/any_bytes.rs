//! Bytes from anywhere are read or refused with the place, and never yield more than the limit.

use crate::types::{Channel, Everything, everything, timed};
use hurtig_dataflow::Record;
use hurtig_dataflow::wire::columns::decode_rows;
use hurtig_dataflow::wire::{Limits, Reason};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const LIMITS: Limits = Limits { rows: 10 };

/// Reads a frame as several types; whichever accepts it must keep to the limit.
fn read(frame: &[u8]) {
    read_as::<Everything>(frame);
    read_as::<(u64, i64, String, f64)>(frame);
    read_as::<Vec<Vec<()>>>(frame);
    read_as::<()>(frame);
    read_as::<serde_json::Value>(frame);
}

fn read_as<T: Record>(frame: &[u8]) {
    match Channel::<T>::of().codec.decode(frame, LIMITS) {
        Ok(batch) => assert!(batch.len() <= LIMITS.rows),
        Err(error) => assert!(error.offset() <= frame.len(), "{error}"),
    }
}

proptest! {
    #[test]
    fn any_bytes(mut bytes: Vec<u8>, format in 0u8..2, rows in 0u8..12) {
        read(&bytes);
        let mut frame = vec![1, format, rows, 0, 0, 0];
        frame.append(&mut bytes);
        read(&frame);
    }

    #[test]
    fn columns_of_random_kinds(parts in vec((0u8..26, vec(0u8..4, 0..6)), 0..20), rows in 0u8..4) {
        let mut frame = vec![1, 0, rows, 0, 0, 0];
        for (kind, data) in parts {
            frame.push(kind);
            frame.push(data.len() as u8);
            frame.extend(data);
        }
        read(&frame);
    }

    #[test]
    fn a_flipped_bit_or_a_cut(
        rows in vec(everything(), 1..4),
        timed_rows: bool,
        at: prop::sample::Index,
        bit in 0u8..8,
        cut: prop::sample::Index,
    ) {
        let times: Vec<i64> = (0..rows.len() as i64).collect();
        let mut channel = Channel::<Everything>::of();
        let mut frame = Vec::new();
        channel.encoder.encode(&timed(rows, if timed_rows { &times } else { &times[..1] }), &mut frame).unwrap();
        let mut flipped = frame.clone();
        let place = at.index(frame.len());
        flipped[place] ^= 1 << bit;
        read(&flipped);
        let cut = &frame[..cut.index(frame.len())];
        read(cut);
        prop_assert!(channel.decode(cut).is_err());
        frame.push(0);
        prop_assert!(channel.decode(&frame).is_err());
    }

    #[test]
    fn a_flipped_bit_in_message_pack(at: prop::sample::Index, bit in 0u8..8, text: String) {
        let rows = [serde_json::json!({"a": [1, 2.5, null, text], "b": {}}), serde_json::json!(true)];
        let mut frame = Channel::of().encode(&rows).unwrap();
        let place = at.index(frame.len());
        frame[place] ^= 1 << bit;
        read(&frame);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u32,
    name: Option<String>,
}

#[test]
fn errors_tell_row_column_and_byte() {
    let user = |name: &str| User { id: 1, name: Some(name.into()) };
    let mut channel = Channel::of();
    let mut frame = channel.encode(&[user("ab"), user("äc")]).unwrap();
    let lengths = frame.windows(3).rposition(|window| window == [2, 2, 3]).unwrap();
    frame[lengths + 1..lengths + 3].copy_from_slice(&[3, 2]);
    let error = channel.decode(&frame).unwrap_err();
    assert_eq!((error.reason(), error.row(), error.path()), (&Reason::NotUtf8, Some(0), "row.name?"));
    assert!((lengths..frame.len()).contains(&error.offset()), "{error}");
    assert!(error.to_string().starts_with("a string is not UTF-8 in row.name? (row 0) at byte"), "{error}");
}

#[test]
fn a_type_that_does_not_fit_is_told_with_its_column() {
    let frame = Channel::of().encode(&[(1u32, vec!["x".to_string()])]).unwrap();
    let error = Channel::<(u32, Vec<u64>)>::of().decode(&frame).unwrap_err();
    assert!(error.to_string().contains("expected u64") && error.path() == "row.1[]", "{error}");
    let error = Channel::<(u32, Vec<u64>, u8)>::of().decode(&frame).unwrap_err();
    assert!(matches!(error.reason(), Reason::Type(_)), "{error}");
}

#[test]
fn values_that_stand_for_nothing_are_refused() {
    let refuses = |error: hurtig_dataflow::wire::DecodeError| error.reason().clone();
    assert_eq!(
        refuses(decode_rows::<char>(1, &[15, 4, 0, 0xd8, 0, 0]).unwrap_err()),
        Reason::NotChar(0xd800)
    );
    let flag = Reason::Tag { what: "truth value", value: 2 };
    assert_eq!(refuses(decode_rows::<bool>(1, &[2, 1, 2]).unwrap_err()), flag);
    let variant = Reason::Tag { what: "variant", value: 0 };
    assert_eq!(refuses(decode_rows::<Result<(), ()>>(1, &[23, 1, 0, 0]).unwrap_err()), variant);
    assert_eq!(refuses(decode_rows::<u8>(1, &[8, 2, 0, 0]).unwrap_err()), Reason::Trailing(1));
    assert_eq!(refuses(decode_rows::<u8>(2, &[8, 1, 0]).unwrap_err()), Reason::TooLong(2));
}

#[test]
fn counts_are_checked_against_the_bytes_before_anything_is_allocated() {
    // A sequence that claims four thousand million units, in a row that claims a million like it.
    let long = [19, 5, 255, 255, 255, 255, 255, 1, 0];
    assert_eq!(decode_rows::<Vec<()>>(1, &long).unwrap_err().reason(), &Reason::TooLong(u32::MAX as usize));
    let frame = [&[1, 0, 255, 255, 15, 0][..], &long].concat();
    let error = Channel::<Vec<()>>::of().decode(&frame).unwrap_err();
    assert!(matches!(error.reason(), Reason::TooLong(_)), "{error}");
    let timed = [1, 128, 255, 255, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0];
    assert!(Channel::<()>::of().decode(&timed).is_err());
    let mut deep = [18, 0].repeat(1_000_000);
    deep.push(0);
    assert_eq!(decode_rows::<()>(1, &deep).unwrap_err().reason(), &Reason::TooDeep(64));
}

#[test]
fn deep_nesting_is_refused_before_it_can_exhaust_the_stack() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum Onion {
        Skin(Box<Onion>),
        Core,
    }
    let mut frame = vec![1, 1, 1, 0, 0, 0];
    for _ in 0..200_000 {
        frame.extend(b"\x81\xa4Skin");
    }
    frame.extend(b"\xa4Core");
    let error = Channel::<Onion>::of().decode(&frame).unwrap_err();
    assert_eq!((error.reason(), error.offset()), (&Reason::TooDeep(128), 6 + 128 * 6));
    read(&frame);
}

#[test]
fn an_option_of_itself_is_refused_where_something_else_was_written() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Ever(Option<Box<Ever>>);
    assert!(Channel::of().carries(&[Ever(None), Ever(Some(Box::new(Ever(None))))]));
    let frame = Channel::of().encode(&[1u8]).unwrap();
    assert!(Channel::<Ever>::of().decode(&frame).is_err());
}
