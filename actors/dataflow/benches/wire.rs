//! Rows to bytes and back: columns against MessagePack, in one process and run, so that ratios hold on a busy machine.
//!
//! `cargo bench -p hurtig-dataflow --bench wire` prints millions of rows a second, the best of many rounds.

use hurtig_dataflow::wire::columns::{Columns, decode_rows};
use hurtig_dataflow::wire::{Limits, RowsCodec};
use hurtig_dataflow::{Record, Rows};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[derive(Clone, Serialize, Deserialize)]
struct Fixed {
    id: u64,
    at: i64,
    amount: f64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Named {
    id: u64,
    at: i64,
    name: String,
    amount: f64,
}

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Opened { user: u32, page: Option<u32> },
    Paid(u64, f32),
    Closed,
}

#[derive(Clone, Serialize, Deserialize)]
struct Nested {
    key: (u32, u16),
    event: Event,
    tags: Vec<u16>,
    known: bool,
}

fn nested(n: u64) -> Nested {
    let event = match n % 3 {
        0 => Event::Opened { user: n as u32, page: n.is_multiple_of(2).then_some(7) },
        1 => Event::Paid(n, 1.5),
        _ => Event::Closed,
    };
    Nested { key: (n as u32, 3), event, tags: (0..(n % 4) as u16).collect(), known: n.is_multiple_of(5) }
}

fn main() {
    println!(
        "rows of a batch, then millions of rows a second: columns, MessagePack, ratio; bytes a row of each"
    );
    for count in [100, 1024, 8192] {
        compare("fixed {u64 i64 f64}", count, |n| Fixed { id: n, at: n as i64, amount: n as f64 });
        compare("text {u64 i64 String(16) f64}", count, |n| Named {
            id: n,
            at: n as i64,
            name: format!("{n:016}"),
            amount: n as f64,
        });
        compare("nested {(u32 u16) enum Vec<u16> bool}", count, nested);
    }
}

fn compare<T: Record>(name: &str, count: u64, make: impl Fn(u64) -> T) {
    let rows: Vec<T> = (0..count).map(make).collect();
    let (mut columns, mut in_columns, mut packed) = (Columns::default(), Vec::new(), Vec::new());
    let encode_columns = rate(count, || {
        in_columns.clear();
        let gathered = columns.gather(black_box(&rows));
        assert!(gathered.is_ok(), "the rows do not fit columns");
        columns.write(&mut in_columns);
    });
    let encode_packed = rate(count, || {
        packed.clear();
        for row in black_box(&rows) {
            let written = rmp_serde::encode::write(&mut packed, row);
            assert!(written.is_ok(), "the rows do not fit MessagePack");
        }
    });
    let decode_columns = rate(count, || {
        let read = decode_rows::<T>(rows.len(), black_box(&in_columns));
        assert!(read.is_ok_and(|read| read.len() == rows.len()), "the columns do not come back");
    });
    let decode_packed = rate(count, || {
        let mut reader = rmp_serde::Deserializer::from_read_ref(black_box(&packed));
        let read: Result<Vec<T>, _> = (0..count).map(|_| T::deserialize(&mut reader)).collect();
        assert!(read.is_ok(), "the rows do not come back");
    });
    let (encode_frame, decode_frame) = frames(rows, count);
    println!(
        "{count:>5} {name:<38} encode {encode_columns:>6.1} {encode_packed:>6.1} {:>5.1}x   decode {decode_columns:>6.1} {decode_packed:>6.1} {:>5.1}x   timed frame {encode_frame:>6.1} {decode_frame:>6.1}   bytes {:>5.1} {:>5.1}",
        encode_columns / encode_packed,
        decode_columns / decode_packed,
        in_columns.len() as f64 / count as f64,
        packed.len() as f64 / count as f64,
    );
}

/// The same through the codec of an edge, with event times.
fn frames<T: Record>(rows: Vec<T>, count: u64) -> (f64, f64) {
    let codec = RowsCodec::<T>::shared();
    let mut encoder = codec.encoder(Limits::default());
    let batch = Rows::timed(rows.into_iter().zip(0..));
    let mut frame = Vec::new();
    let encode = rate(count, || {
        frame.clear();
        let encoded = encoder.encode(black_box(&batch), &mut frame);
        assert!(encoded.is_ok(), "the batch cannot be encoded");
    });
    let decode = rate(count, || {
        let batch = codec.decode(black_box(&frame), Limits::default());
        assert!(batch.is_ok_and(|batch| batch.len() as u64 == count), "the batch does not come back");
    });
    (encode, decode)
}

/// Millions of rows a second in the best of many rounds.
fn rate(rows: u64, mut round: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let mut spent = Duration::ZERO;
    while spent < Duration::from_millis(300) {
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
        let start = Instant::now();
        round();
        let took = start.elapsed();
        best = best.min(took);
        spent += took;
    }
    rows as f64 / best.as_secs_f64() / 1e6
}
