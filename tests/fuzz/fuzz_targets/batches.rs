//! Frames of batches and other elements from anywhere: read or refused, never a panic, never more rows than allowed.
#![no_main]

use hurtig_dataflow::wire::{Limits, RowsCodec, element};
use hurtig_dataflow::{Element, Record};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { rows: 1000 };

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    id: u64,
    at: (i32, char, bool),
    name: Option<String>,
    event: Event,
    counts: BTreeMap<String, Vec<f32>>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Quiet,
    Said(String),
    Moved(i64, u128),
    Inside { event: Box<Event>, units: Vec<()> },
}

fuzz_target!(|bytes: &[u8]| {
    read::<Row>(bytes);
    read::<Event>(bytes);
    read::<()>(bytes);
    read::<serde_json::Value>(bytes);
});

fn read<T: Record>(bytes: &[u8]) {
    let codec = RowsCodec::<T>::shared();
    if let Ok(Element::Batch(batch)) = element::decode(bytes, &*codec, LIMITS) {
        assert!(batch.len() <= LIMITS.rows);
        // What was read can be sent on.
        let mut out = Vec::new();
        let sent = element::encode(&Element::Batch(batch), &mut *codec.encoder(LIMITS), &mut out);
        assert!(sent.is_err() || element::decode(&out, &*codec, LIMITS).is_ok());
    }
}
