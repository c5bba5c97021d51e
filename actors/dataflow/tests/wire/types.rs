//! A type with a position of every kind, and ways to make values of it.

use hurtig_dataflow::Timestamp;
use hurtig_dataflow::wire::{BatchCodec, BatchEncoder, DecodeError, EncodeError, Limits, RowsCodec};
use hurtig_dataflow::{Record, Rows, batch::downcast};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

pub(crate) type Numbers = ((i8, i16, i32, i64, i128), (u8, u16, u32, u64, u128), (bool, char, f32, f64));

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nothing {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meters(pub(crate) f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Point,
    Circle(Meters),
    Box(u32, String),
    Polygon { corners: Vec<(i32, i32)>, name: Option<String> },
    None(),
    Empty {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Everything {
    pub(crate) numbers: Numbers,
    #[serde(rename = "the text")]
    pub(crate) text: String,
    #[serde(with = "serde_bytes")]
    pub(crate) raw_bytes: Vec<u8>,
    pub(crate) shape: Shape,
    pub(crate) maybe: Option<Option<u16>>,
    pub(crate) lists: Vec<Vec<Option<Shape>>>,
    pub(crate) table: BTreeMap<String, (u8, Vec<()>)>,
    pub(crate) by_char: BTreeMap<char, Shape>,
    pub(crate) outcome: Result<u64, String>,
    pub(crate) units: (Unit, (), Nothing, [u8; 0]),
    #[serde(skip)]
    pub(crate) skipped: u8,
    #[serde(default)]
    pub(crate) defaulted: [i16; 3],
    pub(crate) boxed: Box<Arc3>,
}

/// Newtype of a tuple struct.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arc3(pub(crate) u8, pub(crate) std::time::Duration, pub(crate) std::net::IpAddr);

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Point),
        any::<f32>().prop_map(|m| Shape::Circle(Meters(m.into()))),
        (any::<u32>(), any::<String>()).prop_map(|(a, b)| Shape::Box(a, b)),
        (vec(any::<(i32, i32)>(), 0..4), any::<Option<String>>())
            .prop_map(|(corners, name)| Shape::Polygon { corners, name }),
        Just(Shape::None()),
        Just(Shape::Empty {}),
    ]
}

pub(crate) fn everything() -> impl Strategy<Value = Everything> {
    let numbers = (any::<(i8, i16, i32, i64, i128)>(), any::<(u8, u16, u32, u64, u128)>());
    let scalars = (any::<bool>(), any::<char>(), any::<i32>(), any::<i32>());
    let texts = (any::<String>(), vec(any::<u8>(), 0..300), any::<Result<u64, String>>());
    let table = btree_map(any::<String>(), (any::<u8>(), vec(Just(()), 0..300)), 0..4);
    let lists = vec(vec(proptest::option::of(shape()), 0..4), 0..4);
    let others = (any::<Option<Option<u16>>>(), any::<[i16; 3]>(), any::<u32>(), any::<[u8; 4]>());
    let by_char = btree_map(any::<char>(), shape(), 0..3);
    (numbers, scalars, texts, shape(), table, lists, others, by_char).prop_map(
        |(
            (signed, unsigned),
            (b, c, f, d),
            (text, raw_bytes, outcome),
            shape,
            table,
            lists,
            others,
            by_char,
        )| {
            Everything {
                numbers: (signed, unsigned, (b, c, f as f32, d.into())),
                text,
                raw_bytes,
                shape,
                maybe: others.0,
                lists,
                table,
                by_char,
                outcome,
                units: (Unit, (), Nothing {}, []),
                skipped: 0,
                defaulted: others.1,
                boxed: Box::new(Arc3(1, std::time::Duration::from_millis(others.2.into()), others.3.into())),
            }
        },
    )
}

/// One channel: an encoder, and a decoder at the other end.
pub(crate) struct Channel<T> {
    pub(crate) codec: Arc<dyn BatchCodec>,
    pub(crate) encoder: Box<dyn BatchEncoder>,
    rows: PhantomData<T>,
}

impl<T: Record> Channel<T> {
    pub(crate) fn of() -> Self {
        let codec = RowsCodec::<T>::shared();
        let encoder = codec.encoder(Limits::default());
        Channel { codec, encoder, rows: PhantomData }
    }

    pub(crate) fn encode(&mut self, rows: &[T]) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        self.encoder.encode(&Rows::untimed(rows.to_vec()), &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Rows<T>, DecodeError> {
        Ok(downcast(self.codec.decode(bytes, Limits::default())?).unwrap())
    }

    /// Sends rows and says whether they went as columns.
    pub(crate) fn carries(&mut self, rows: &[T]) -> bool
    where
        T: PartialEq + std::fmt::Debug,
    {
        let bytes = self.encode(rows).unwrap();
        assert_eq!(self.decode(&bytes).unwrap(), Rows::untimed(rows.to_vec()));
        bytes[1] & 0x7f == 0
    }
}

pub(crate) fn timed<T>(rows: Vec<T>, times: &[Timestamp]) -> Rows<T> {
    Rows::timed(rows.into_iter().zip(times.iter().copied()))
}
