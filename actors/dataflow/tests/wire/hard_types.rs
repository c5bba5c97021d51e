//! Types that columns do not fit travel as MessagePack, from the batch on that shows it.

use crate::types::Channel;
use hurtig_dataflow::wire::EncodeError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sparse {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<String>,
    end: u8,
}

#[test]
fn fields_left_out_of_some_rows() {
    let full = Sparse { id: 1, note: Some("here".into()), end: 3 };
    let bare = Sparse { note: None, ..full.clone() };
    let mut channel = Channel::of();
    assert!(channel.carries(&[full.clone(), full.clone()]));
    assert!(!channel.carries(&[full.clone(), bare]));
    assert!(!channel.carries(&[full]), "once refused, columns are not tried again");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Whole(i64),
    Text(String),
    Point { x: f64, y: f64 },
    Pair { a: f64, b: f64 },
    Address(std::net::IpAddr),
}

#[test]
fn untagged_enums() {
    let mut channel = Channel::of();
    assert!(channel.carries(&[Loose::Whole(1), Loose::Whole(-2)]), "as long as rows are alike, columns do");
    let mixed = [Loose::Whole(1), Loose::Text("x".into()), Loose::Pair { a: 1.0, b: 2.0 }];
    assert!(!channel.carries(&mixed));
    assert!(!channel.carries(&[Loose::Point { x: 1.0, y: 2.0 }]));
    assert!(Channel::of().carries(&[Loose::Pair { a: 1.0, b: 2.0 }, Loose::Pair { a: 3.0, b: 4.0 }]));
}

#[test]
fn types_that_hold_another_form_when_they_do_not_know_what_comes() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Peer {
        At(std::net::IpAddr),
    }
    // An address is a number in columns, but an untagged enum looks for text.
    assert!(!Channel::of().carries(&[Peer::At([1, 2, 3, 4].into())]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Opened { user: u32 },
    Closed { why: String, by: Option<u8> },
    Quiet,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Number(u32),
    Text { text: String },
    Nothing,
}

#[test]
fn enums_with_tags_among_their_fields() {
    let closed = Tagged::Closed { why: "done".into(), by: Some(1) };
    let mut channel = Channel::of();
    channel.carries(&[Tagged::Opened { user: 1 }]);
    assert!(!channel.carries(&[Tagged::Opened { user: 1 }, closed, Tagged::Quiet]));
    let mut channel = Channel::of();
    channel.carries(&[Adjacent::Number(1)]);
    assert!(!channel.carries(&[Adjacent::Number(1), Adjacent::Text { text: "x".into() }, Adjacent::Nothing]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, u64>,
}

#[test]
fn flattened_structs() {
    let mut channel = Channel::of();
    assert!(!channel.carries(&[Flat { id: 1, rest: BTreeMap::new() }]));
    assert!(!channel.carries(&[Flat { id: 1, rest: [("x".to_string(), 2)].into() }]));
}

#[test]
fn json_values() {
    let alike = [serde_json::json!("a"), serde_json::json!("b")];
    let mut channel = Channel::of();
    assert!(channel.carries(&alike));
    let mixed = [serde_json::json!({"a": [1, 2.5, null, "x"], "b": {}}), serde_json::json!(true)];
    assert!(!channel.carries(&mixed));
    assert!(!channel.carries(&alike));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf(u64),
    Fork(Box<Tree>, Box<Tree>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chain {
    value: u8,
    next: Option<Box<Chain>>,
}

fn tree(depth: usize) -> Tree {
    match depth {
        0 => Tree::Leaf(1),
        _ => Tree::Fork(Box::new(tree(depth - 1)), Box::new(tree(depth - 1))),
    }
}

fn chain(length: usize) -> Chain {
    (0..length).fold(Chain { value: 0, next: None }, |next, _| Chain { value: 1, next: Some(Box::new(next)) })
}

#[test]
fn types_that_contain_themselves() {
    let mut channel = Channel::of();
    assert!(channel.carries(&[tree(0), tree(3)]));
    assert!(!channel.carries(&[tree(12)]), "a column per place in the tree would be too many");
    let mut channel = Channel::of();
    assert!(channel.carries(&[chain(0), chain(20)]));
    assert!(!channel.carries(&[chain(60)]));
}

#[test]
fn a_value_nested_too_deep_is_refused_by_the_sender() {
    let mut deepest = 0;
    for length in [40, 60, 80, 100, 120, 126, 127, 128, 200, 2000] {
        match Channel::of().encode(&[chain(length)]) {
            Ok(bytes) => {
                assert!(Channel::<Chain>::of().decode(&bytes).is_ok(), "{length} is sent but not read");
                deepest = length;
            }
            Err(error) => assert!(matches!(error, EncodeError::TooDeep { .. }), "{error}"),
        }
    }
    assert_eq!(deepest, 127);
}

#[test]
fn a_type_that_cannot_read_itself_is_refused_by_name() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Torn {
        #[serde(rename(serialize = "a", deserialize = "b"))]
        field: u8,
    }
    let error = Channel::of().encode(&[Torn { field: 1 }]).unwrap_err();
    assert!(matches!(error, EncodeError::Unreadable { .. }));
    assert!(error.to_string().contains("Torn"), "{error}");
}

#[test]
fn a_serializer_that_fails_says_why() {
    #[derive(Clone, Deserialize)]
    struct Shy;
    impl Serialize for Shy {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let error = Channel::of().encode(&[Shy]).unwrap_err();
    assert!(hurtig_dataflow::error::describe(&error).contains("not today"));
}
