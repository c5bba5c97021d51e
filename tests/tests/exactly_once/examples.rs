//! The examples.

use super::{SEEDS, check, random_config, shown};
use hurtig::prelude::*;
use hurtig_examples::{enrichment, flights, late_data, session_windows, stock_alerts, word_count};
use hurtig_tests::faults::{Crashes, Seed, seeds};
use hurtig_tests::{folders, jobs};
use std::sync::Arc;

#[test]
fn example_word_count() {
    let books = tempfile::tempdir().expect("a folder");
    for book in 0..12u64 {
        let line = |n: u64| format!("word{} and Word{}, {book}\n", n * 17 % 101, n * 29 % 57);
        let text: String = (0..1_500).map(line).collect();
        std::fs::write(books.path().join(format!("{book}.txt")), text).expect("a book");
    }
    check(30_000, None, seeds(SEEDS), |env| {
        let lines = word_count::lines(env, &[books.path().to_path_buf()]).expect("a file");
        shown(&word_count::count_words(&lines))
    });
}

#[test]
fn example_session_windows() {
    check(20_000, None, seeds(SEEDS), |env| {
        shown(&session_windows::sessions(&session_windows::clicks(env, 40_000)))
    });
}

#[test]
fn example_stock_alerts() {
    check(20_000, None, seeds(SEEDS), |env| shown(&stock_alerts::alerts(&stock_alerts::trades(env, 40_000))));
}

#[test]
fn example_late_data() {
    check(20_000, Some(64), seeds(SEEDS), |env| {
        let outputs = late_data::minute_means(&late_data::readings(env, 40_000));
        let means = outputs.means.map(|mean| format!("mean {mean:?}")).uid("shown-means");
        let broken = outputs.broken.map(|reading| format!("broken {reading:?}")).uid("shown-broken");
        let late = outputs.late.map(|reading| format!("late {reading:?}")).uid("shown-late");
        means.union(&broken).union(&late)
    });
}

fn check_enrichment(options: AsyncOptions) {
    check(6_000, None, seeds(SEEDS), move |env| {
        shown(&enrichment::enrich(&enrichment::orders(env, 8_000), options))
    });
}

#[test]
fn example_enrichment_in_order() {
    check_enrichment(AsyncOptions::ordered().with_capacity(100));
}

#[test]
fn example_enrichment_out_of_order() {
    check_enrichment(AsyncOptions::unordered().with_capacity(100));
}

#[test]
fn example_flights() {
    let run = |config: &Config, crashes: Option<Crashes>| {
        let out = tempfile::tempdir().expect("a folder");
        let env = Environment::new();
        let options = flights::Options {
            data: folders::flights_data(),
            out: out.path().to_path_buf(),
            rate: 0,
            live: false,
        };
        flights::job(&env, &options);
        let faults = crashes.map(|crashes| Arc::new(crashes) as _);
        let status = jobs::run(jobs::execute(&env, config, faults)).expect("the job finishes");
        let outputs = ["hourly", "rushes", "worst", "late", "cancelled"];
        (outputs.map(|output| (output, folders::sorted_rows(&out.path().join(output)))), status.restarts)
    };
    let (expected, _) = run(&jobs::config(1, None), None);
    let (count, mut restarted) = (seeds(5).end, 0);
    for number in seeds(5) {
        let mut seed = Seed::new(number);
        let config = random_config(&mut seed, Some(1_024));
        let crashes = Crashes { seed: seed.next(), attempts: 4, within: 150_000 };
        let (found, restarts) = run(&config, Some(crashes));
        restarted += u64::from(restarts > 0);
        for ((output, expected), (_, found)) in expected.iter().zip(&found) {
            if let Err(difference) = folders::compare(expected, found) {
                panic!("seed {number}, {output} after {restarts} restarts: {difference}");
            }
        }
    }
    assert!(restarted > count / 2, "only {restarted} of {count} runs restarted");
}
