//! What serde_json says is right.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    With(u8),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(i16);

/// All that serde asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    id: u64,
    #[serde(default)]
    delta: i32,
    score: f64,
    name: String,
    letter: Option<char>,
    flag: bool,
    unit: (),
    kind: Kind,
    pair: (u8, Newtype),
    #[serde(default)]
    counts: BTreeMap<u16, Vec<String>>,
    inner: Option<Box<Event>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Borrowing<'a> {
    name: &'a str,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

fn event() -> impl Strategy<Value = Event> {
    let leaf = (
        (any::<u64>(), any::<i32>(), -1e9..1e9, ".{0,40}", any::<Option<char>>(), any::<bool>()),
        prop_oneof![Just(Kind::Plain), any::<u8>().prop_map(Kind::With)],
        (any::<u8>(), any::<i16>().prop_map(Newtype)),
        prop::collection::btree_map(any::<u16>(), prop::collection::vec("[a-zä\"\\\\]{0,9}", 0..3), 0..2),
    );
    let leaf = leaf.prop_map(|((id, delta, score, name, letter, flag), kind, pair, counts)| Event {
        id,
        delta,
        score,
        name,
        letter,
        flag,
        unit: (),
        kind,
        pair,
        counts,
        inner: None,
    });
    leaf.prop_recursive(2, 3, 1, |inner| {
        (inner.clone(), inner).prop_map(|(inner, outer)| Event { inner: Some(Box::new(inner)), ..outer })
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z ]{0,70}".prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Places, and what is put there: in place of a character, or before it.
fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, String, bool)>> {
    let with = prop_oneof![
        prop::sample::select(vec![
            "", "\"", "\\", "{", "}", "[", "]", ",", ":", "-", ".", "e", "0", "1", " ", "\n"
        ])
        .prop_map(str::to_string),
        prop::sample::select(vec![
            "\u{1}",
            "\u{7f}",
            "ä",
            "null",
            "true",
            "1e5",
            "-0",
            "\\n",
            "\"id\":1,",
            "\t"
        ])
        .prop_map(str::to_string),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), with, any::<bool>()), 0..4)
}

fn mutated(text: &str, mutations: &[(prop::sample::Index, String, bool)]) -> String {
    let mut pieces: Vec<String> = text.chars().map(String::from).collect();
    for (at, with, replaces) in mutations {
        let piece = at.get_mut(&mut pieces);
        *piece = if *replaces { with.clone() } else { format!("{with}{piece}") };
    }
    pieces.concat()
}

fn check<'de, T: Deserialize<'de> + fmt::Debug + PartialEq>(text: &'de str) {
    let expected = serde_json::from_str::<T>(text);
    if let Ok(found) = plain::<T>(text) {
        assert_eq!(expected.as_ref().ok(), Some(&found), "{text}");
    }
    let found = read_json::<T>(text);
    assert_eq!(
        found.map_err(|error| error.to_string()),
        expected.map_err(|error| error.to_string()),
        "{text}"
    );
}

fn check_all(text: &str) {
    check::<Value>(text);
    check::<Event>(text);
    check::<Borrowing<'_>>(text);
    check::<BTreeMap<String, Value>>(text);
    check::<Vec<Option<u8>>>(text);
    let (found, expected) =
        (plain::<IgnoredAny>(text).is_ok(), serde_json::from_str::<IgnoredAny>(text).is_ok());
    assert!(expected || !found, "{text}");
}

proptest! {
    #[test]
    fn any_value_reads_as_serde_json_reads_it(value in value(), pretty: bool, mutations in mutations()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        check_all(&mutated(&text, &mutations));
    }

    #[test]
    fn a_record_reads_as_serde_json_reads_it(event in event(), pretty: bool, mutations in mutations()) {
        let text = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) }.unwrap();
        check_all(&mutated(&text, &mutations));
    }

    #[test]
    fn any_text_reads_as_serde_json_reads_it(text in "[\\[\\]{}\":,0-9eE.+\\- \ntruefalsn\\\\]{0,12}") {
        check_all(&text);
    }
}

#[test]
fn plain_text_is_not_left_to_serde_json() {
    let texts = [
        r#"{"name":"an identifier of more than thirty-two bytes","kind":"k","rest":[1,-2,3.5,true,null,{"a":[]}]}"#,
        " { \"name\" : \"\" ,\n\t\"kind\" : \"grün\" } \r\n",
    ];
    for text in texts {
        assert!(plain::<Borrowing<'_>>(text).is_ok(), "{text}");
        assert!(plain::<Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    for depth in [10, 64, 65, 127, 128, 100_000] {
        check::<Value>(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    }
}
