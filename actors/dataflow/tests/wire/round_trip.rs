//! What derived types write comes back, as columns.

use crate::types::{Channel, Everything, Nothing, Unit, everything, shape, timed};
use hurtig_dataflow::wire::EncodeError;
use hurtig_dataflow::{Rows, batch::downcast};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kind_of_position_comes_back_from_columns(batches in vec(vec(everything(), 0..8), 1..4)) {
        let mut channel = Channel::<Everything>::of();
        for rows in batches {
            prop_assert!(channel.carries(&rows));
        }
    }

    #[test]
    fn enums_as_rows_come_back_though_variants_show_late(batches in vec(vec(shape(), 0..6), 1..6)) {
        let mut channel = Channel::of();
        for rows in batches {
            prop_assert!(channel.carries(&rows));
        }
    }

    #[test]
    fn event_times_travel_with_their_rows(rows in vec(any::<(u64, String, i64)>(), 0..50)) {
        let times: Vec<i64> = rows.iter().map(|row| row.2).collect();
        let batch = timed(rows, &times);
        let mut channel = Channel::<(u64, String, i64)>::of();
        let mut bytes = Vec::new();
        channel.encoder.encode(&batch, &mut bytes).unwrap();
        prop_assert_eq!(channel.decode(&bytes).unwrap(), batch);
    }
}

#[test]
fn rows_that_hold_nothing_are_counted() {
    assert!(Channel::of().carries(&[(), (), ()]));
    assert!(Channel::of().carries(&[Unit, Unit]));
    assert!(Channel::of().carries(&[Nothing {}, Nothing {}]));
    assert!(Channel::of().carries(&[[0u8; 0], []]));
    assert!(Channel::of().carries(&vec![vec![(); 1000]; 3]));
    assert!(Channel::<String>::of().carries(&[]));
}

#[test]
fn long_strings_and_lists_have_long_lengths() {
    let texts: Vec<String> = [0, 1, 254, 255, 256, 70_000].iter().map(|n| "ä".repeat(*n)).collect();
    assert!(Channel::of().carries(&texts));
    assert!(Channel::of().carries(&[(0..70_000u32).collect::<Vec<_>>(), Vec::new()]));
}

#[test]
fn fields_are_matched_by_name_where_the_two_traits_disagree() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Lopsided {
        first: u32,
        #[serde(skip_serializing, default)]
        unwritten: u32,
        #[serde(skip_deserializing)]
        unread: (u32, String),
        #[serde(alias = "other")]
        last: u32,
        kind: Kind,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        #[serde(skip_deserializing)]
        #[expect(dead_code, reason = "takes a number in one of the two traits")]
        Old,
        #[serde(alias = "Fresh")]
        New,
        Newest {
            #[serde(skip_serializing, default)]
            unwritten: u8,
            age: u8,
        },
    }
    let row = |last, kind| Lopsided { first: 1, unwritten: 0, unread: (0, String::new()), last, kind };
    let rows = [row(2, Kind::New), row(3, Kind::Newest { unwritten: 0, age: 9 })];
    assert!(Channel::of().carries(&rows));
}

#[test]
fn a_batch_that_does_not_fit_its_edge_is_refused_and_leaves_nothing_behind() {
    let mut channel = Channel::<u8>::of();
    let mut bytes = vec![7];
    let other = channel.encoder.encode(&Rows::untimed(vec!["text".to_string()]), &mut bytes);
    assert!(matches!(other, Err(EncodeError::BatchType { .. })));
    let lame = Rows::new(vec![1u8, 2], vec![5]);
    assert!(matches!(
        channel.encoder.encode(&lame, &mut bytes),
        Err(EncodeError::Times { rows: 2, times: 1 })
    ));
    let mut few = channel.codec.encoder(hurtig_dataflow::wire::Limits { rows: 2 });
    let long = few.encode(&Rows::untimed(vec![1u8, 2, 3]), &mut bytes);
    assert!(matches!(long, Err(EncodeError::TooManyRows { rows: 3, limit: 2 })));
    assert_eq!(bytes, [7]);
}

#[test]
fn the_untyped_batch_is_of_the_edges_type() {
    let mut channel = Channel::<u16>::of();
    let bytes = channel.encode(&[1u16, 2]).unwrap();
    let batch = channel.codec.decode(&bytes, hurtig_dataflow::wire::Limits::default()).unwrap();
    assert_eq!(downcast::<Rows<u16>>(batch).unwrap().records, [1, 2]);
}
