//! Every example runs and finds what a naive program finds. The flights have a test of their own.

use hurtig::prelude::*;
use hurtig_examples::enrichment::{EnrichedOrder, Order, enrich, orders};
use hurtig_examples::late_data::{MinuteMean, Reading, minute_means, readings};
use hurtig_examples::session_windows::{Click, GAP, Session, clicks, sessions};
use hurtig_examples::stock_alerts::{Alert, TOLERANCE, Trade, alerts, trades};
use hurtig_examples::{actor_api, word_count};
use hurtig_tests::jobs;
use std::collections::BTreeMap;
use std::time::Duration;

fn run(env: &Environment) {
    jobs::run(jobs::execute(env, &jobs::config(2, None), None)).expect("the job finishes");
}

/// Input of an example, as its own source makes it.
fn input<T: Record>(build: impl Fn(&Environment) -> DataStream<T>) -> Vec<T> {
    let env = Environment::new();
    let records = build(&env).collect();
    jobs::run(jobs::execute(&env, &jobs::config(1, None), None)).expect("the job finishes");
    records.take()
}

#[test]
fn word_count_counts_every_word() {
    let books = tempfile::tempdir().expect("a folder");
    let text = "It was the best of times, it was the worst of times; it was 1775.\n".repeat(300);
    std::fs::write(books.path().join("tale.txt"), &text).expect("a book");
    std::fs::write(books.path().join("short.txt"), "The end").expect("a book");
    let env = Environment::new();
    let lines = word_count::lines(&env, &[books.path().join("tale.txt"), books.path().join("short.txt")]);
    let counts = word_count::count_words(&lines.expect("files")).collect();
    run(&env);
    let mut last = BTreeMap::<String, u64>::new();
    for (word, count) in counts.take() {
        let highest = last.entry(word.to_string()).or_default();
        *highest = count.max(*highest);
    }
    let mut naive = BTreeMap::<String, u64>::new();
    for word in (text + "The end").split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *naive.entry(word.to_lowercase()).or_default() += 1;
    }
    assert_eq!(last, naive);
}

#[test]
fn session_windows_end_after_a_pause() {
    let mut by_user = BTreeMap::<String, Vec<i64>>::new();
    for Click { user, at } in input(|env| clicks(env, 2_000)) {
        by_user.entry(user).or_default().push(at);
    }
    let gap = GAP.as_millis() as i64;
    let mut expected: Vec<Session> = Vec::new();
    for (user, mut times) in by_user {
        times.sort_unstable();
        for run in times.chunk_by(|a, b| b - a <= gap) {
            let (from, to) = (run[0], run[run.len() - 1]);
            expected.push(Session { user: user.clone(), from, to, clicks: run.len() as u64 });
        }
    }
    let env = Environment::new();
    let found = sessions(&clicks(&env, 2_000)).collect();
    run(&env);
    let mut found = found.take();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// Alerts for trades in their order.
fn naive_alerts(trades: &[Trade]) -> Vec<Alert> {
    let mut averages = BTreeMap::<&str, f64>::new();
    let mut alerts = Vec::new();
    for Trade { symbol, at, price } in trades {
        let average = averages.entry(symbol).or_insert(*price);
        if (price / *average - 1.0).abs() > TOLERANCE {
            alerts.push(Alert { symbol: symbol.clone(), at: *at, price: *price, average: *average });
        }
        *average = *average * 0.95 + price * 0.05;
    }
    alerts
}

#[test]
fn stock_alerts_follow_the_average() {
    let expected = naive_alerts(&input(|env| trades(env, 20_000)));
    assert!(!expected.is_empty());
    let env = Environment::new();
    let found = alerts(&trades(&env, 20_000)).collect();
    run(&env);
    let mut found = found.take();
    found.sort_by_key(|alert| alert.at);
    assert_eq!(found, expected);
}

#[test]
fn actors_get_the_alerts_that_the_batch_job_finds() {
    let trades = actor_api::made_up_trades(2_000);
    let expected = naive_alerts(&trades);
    assert!(!expected.is_empty());
    let mut found = jobs::run(actor_api::alerts_for(trades, &Config::default())).expect("the job finishes");
    found.sort_by_key(|alert| alert.at);
    assert_eq!(found, expected);
}

#[test]
fn enrichment_keeps_the_order_and_every_order() {
    let enriched = |options: AsyncOptions| {
        let env = Environment::new();
        let found = enrich(&orders(&env, 2_000), options).collect();
        jobs::run(jobs::execute(&env, &jobs::config(1, None), None)).expect("the job finishes");
        found.take()
    };
    let order = |number| Order { number, customer: number * 31 % 97 };
    let expected: Vec<_> = (0..2_000)
        .map(order)
        .map(|order| EnrichedOrder { customer_name: format!("customer {}", order.customer), order })
        .collect();
    let timeout = Duration::from_secs(60);
    assert_eq!(enriched(AsyncOptions::ordered().with_capacity(100).with_timeout(timeout)), expected);
    let mut unordered = enriched(AsyncOptions::unordered().with_capacity(100).with_timeout(timeout));
    unordered.sort_by_key(|enriched| enriched.order.number);
    assert_eq!(unordered, expected);
}

#[test]
fn late_data_goes_where_it_belongs() {
    let all = input(|env| readings(env, 5_000));
    let env = Environment::new();
    let outputs = minute_means(&readings(&env, 5_000));
    let (means, broken, late) = (outputs.means.collect(), outputs.broken.collect(), outputs.late.collect());
    run(&env);
    let (mut broken, late) = (broken.take(), late.take());
    let is_broken = |reading: &&Reading| !(-90.0..=60.0).contains(&reading.degrees);
    let expected: Vec<_> = all.iter().filter(is_broken).cloned().collect();
    broken.sort_by_key(|reading| reading.at);
    let mut expected = expected;
    expected.sort_by_key(|reading| reading.at);
    assert_eq!(broken, expected);
    assert!(!late.is_empty());
    // What is neither broken nor late is in the last row of its minute.
    let mut naive = BTreeMap::<(u32, i64), (u64, f64)>::new();
    for reading in all.iter().filter(|reading| !is_broken(reading) && !late.contains(reading)) {
        let of = naive.entry((reading.sensor, reading.at.div_euclid(60_000) * 60_000)).or_default();
        *of = (of.0 + 1, of.1 + reading.degrees);
    }
    let mut last = BTreeMap::<(u32, i64), (u64, f64)>::new();
    for MinuteMean { sensor, minute, readings, mean } in means.take() {
        let of = last.entry((sensor, minute)).or_default();
        if readings > of.0 {
            *of = (readings, mean);
        }
    }
    assert_eq!(last.keys().collect::<Vec<_>>(), naive.keys().collect::<Vec<_>>());
    for (window, (readings, sum)) in naive {
        let (found, mean) = last[&window];
        assert_eq!(found, readings, "{window:?}");
        assert!((mean - sum / readings as f64).abs() < 1e-9, "{window:?}");
    }
}
