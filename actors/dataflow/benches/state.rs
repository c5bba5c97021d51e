//! The hot path of keyed tables: nanoseconds per access, with and without changes noted, and in the first round after a
//! barrier, in which nearly each access is the first to its row; then a snapshot of what has changed.
//! `cargo bench -p hurtig-dataflow --bench state`

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time from outside")]

use hurtig_dataflow::KeyGroupRange;
use hurtig_dataflow::key::{Key, hash_key};
use hurtig_dataflow::state::{Budget, Extent, KeyedTable, StateStore};
use std::time::Instant;

const BATCH: usize = 1_024;
const ROUNDS: usize = 7;
/// Accesses measured at once: of many such pieces the tenth part that is fastest is what the machine's other work has
/// left alone.
const PIECE: usize = 64 * BATCH;

/// Spreads numbers over 64 bits (the finaliser of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn ahead<K: Key>(table: &mut KeyedTable<K, u64>, keys: &[K], hashes: &[u64]) {
    for (keys, hashes) in keys.chunks(BATCH).zip(hashes.chunks(BATCH)) {
        let mut ahead = table.look_ahead(hashes, keys);
        for (at, key) in keys.iter().enumerate() {
            match table.get_mut_ahead(&mut ahead, hashes, at, key) {
                Some(value) => *value += 1,
                None => {
                    table.insert(hashes[at], key.clone(), 1);
                }
            }
        }
    }
}

fn get_mut<K: Key>(table: &mut KeyedTable<K, u64>, keys: &[K], hashes: &[u64]) {
    for (key, hash) in keys.iter().zip(hashes) {
        if let Some(value) = table.get_mut(*hash, key) {
            *value += 1;
        }
    }
}

fn get_or_insert<K: Key>(table: &mut KeyedTable<K, u64>, keys: &[K], hashes: &[u64]) {
    for (key, hash) in keys.iter().zip(hashes) {
        *table.get_or_insert_with(*hash, key.clone(), || 0) += 1;
    }
}

fn tenth(mut pieces: Vec<f64>) -> f64 {
    pieces.sort_unstable_by(f64::total_cmp);
    pieces[pieces.len() / 10]
}

fn measure<K: Key>(name: &str, distinct: u64, accesses: u64, make: impl Fn(u64) -> K) {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !only.is_empty() && !only.iter().any(|only| name.contains(only.as_str())) {
        return;
    }
    for is_noted in [false, true] {
        if is_noted && only.iter().any(|only| only == "plain") {
            continue;
        }
        measure_one(name, is_noted, distinct, accesses, &make);
    }
}

fn measure_one<K: Key>(name: &str, is_noted: bool, distinct: u64, accesses: u64, make: impl Fn(u64) -> K) {
    let name = format!("{name}{}", if is_noted { ", noted" } else { "" });
    let keys: Vec<K> = (0..accesses).map(|n| make(mix(n) % distinct)).collect();
    let hashes: Vec<u64> = keys.iter().map(hash_key).collect();
    let mut states = StateStore::new(KeyGroupRange::all(128), Vec::new());
    if is_noted {
        states = states.noting_changes(0);
    }
    let handle = states.keyed::<K, u64>("table").expect("declared once");
    let table = states.get_mut(handle);
    let began = Instant::now();
    for n in 0..distinct {
        let key = make(n);
        table.insert(hash_key(&key), key, 0);
    }
    println!("{name:28} load          {:6.1} ns", began.elapsed().as_nanos() as f64 / distinct as f64);
    let mut run = |path: &str, body: fn(&mut KeyedTable<K, u64>, &[K], &[u64])| {
        let mut pieces = Vec::new();
        for _ in 0..ROUNDS {
            for (keys, hashes) in keys.chunks(PIECE).zip(hashes.chunks(PIECE)) {
                let began = Instant::now();
                body(states.get_mut(handle), keys, hashes);
                pieces.push(began.elapsed().as_nanos() as f64 / keys.len() as f64);
            }
        }
        let first = pieces[..pieces.len() / ROUNDS].to_vec();
        println!("{name:28} {path:13} {:6.1} ns, the first time {:6.1} ns", tenth(pieces), tenth(first));
    };
    run("get_mut_ahead", ahead);
    run("get_mut", get_mut);
    run("get_or_insert", get_or_insert);
    if is_noted {
        let began = Instant::now();
        states.open_epoch(1, Extent::Base).expect("state can be serialised");
        let opened = began.elapsed();
        let mut out = Vec::new();
        let mut slowest = 0;
        while {
            let began = Instant::now();
            let is_done = states.drain(&mut Budget::new(512, 128 << 10), &mut out);
            slowest = slowest.max(began.elapsed().as_micros());
            !is_done.expect("state can be serialised")
        } {}
        let ns = (began.elapsed().as_nanos() / u128::from(distinct)) as u64;
        println!("{name:28} barrier {opened:?}, drain {ns} ns a row, slowest slice {slowest} us");
    }
}

fn main() {
    measure("100,000 strings", 100_000, 2_000_000, |n| format!("word-{n}"));
    measure("1,000,000 numbers", 1_000_000, 4_000_000, |n| n);
    measure("10,000,000 numbers", 10_000_000, 4_000_000, |n| n);
}
