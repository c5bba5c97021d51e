//! The examples.

use super::{SEEDS, check, random_config, shown};
use hurtig::prelude::*;
use hurtig_examples::{actor_api, enrichment, flights, late_data, session_windows, stock_alerts, word_count};
use hurtig_tests::faults::{Crashes, Seed, seeds, tell_seed};
use hurtig_tests::{folders, jobs};
use std::path::Path;
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
fn example_actor_api_tells_every_alert_at_least_once() {
    const TRADES: u64 = 100_000;
    let run = |config: &Config, crashes: Option<Crashes>| {
        jobs::run(async {
            let trades = actor_api::made_up_trades(TRADES);
            let (desk, env) = actor_api::desk_and_job(trades).await.expect("a desk");
            let faults = crashes.map(|crashes| Arc::new(crashes) as _);
            let status = jobs::execute(&env, config, faults).await.expect("the job finishes");
            let mut alerts = actor_api::report(&desk).await.expect("a desk");
            alerts.sort_by_key(|alert| alert.at);
            alerts.dedup();
            (alerts, status)
        })
    };
    let (expected, _) = run(&jobs::config(1, None), None);
    assert!(expected.len() > 100);
    let (mut restarts, mut checkpoints) = (0, 0);
    for number in seeds(SEEDS) {
        tell_seed(number);
        let mut seed = Seed::new(number);
        let config = random_config(&mut seed, None);
        let crashes = Crashes { seed: seed.next(), attempts: 1 + seed.below(3) as u32, within: TRADES / 2 };
        let (found, status) = run(&config, Some(crashes));
        assert_eq!(found, expected, "seed {number} after {} restarts", status.restarts);
        restarts += status.restarts;
        checkpoints += status.checkpoints_completed;
    }
    println!("{restarts} restarts, {checkpoints} checkpoints");
    assert!(restarts > 0 && checkpoints > 0, "{restarts} restarts, {checkpoints} checkpoints");
}

#[test]
fn example_flights() {
    let options = |out: &Path| flights::Options {
        data: folders::flights_data(),
        out: out.to_path_buf(),
        rate: 0,
        live: false,
    };
    let run = |config: &Config, crashes: Option<Crashes>| {
        let out = tempfile::tempdir().expect("a folder");
        let env = Environment::new();
        flights::job(&env, &options(out.path()));
        let faults = crashes.map(|crashes| Arc::new(crashes) as _);
        let (status, restored) = jobs::run(async {
            let job = jobs::start(&env, config, faults).await.expect("the job starts");
            job.client.wait().await.expect("the job finishes");
            let seen = job.cluster.client().observe(job.client.id(), None).await.expect("it is known");
            (job.finish().await.expect("the job finishes"), seen.seen.checkpoints.restored)
        });
        let outputs = ["hourly", "rushes", "worst", "late", "cancelled"];
        let outputs = outputs.map(|output| (output, folders::sorted_rows(&out.path().join(output))));
        (outputs, status.restarts, restored)
    };
    let (expected, ..) = run(&jobs::config(1, None), None);
    let (seeds, mut restarted, mut restored) = (seeds(5), 0, 0);
    let count = seeds.end - seeds.start;
    for number in seeds {
        tell_seed(number);
        let mut seed = Seed::new(number);
        let config = random_config(&mut seed, Some(1_024));
        let crashes = Crashes { seed: seed.next(), attempts: 4, within: 150_000 };
        let (found, restarts, from_checkpoints) = run(&config, Some(crashes));
        restarted += u64::from(restarts > 0);
        restored += from_checkpoints;
        for ((output, expected), (_, found)) in expected.iter().zip(&found) {
            if let Err(difference) = folders::compare(expected, found) {
                panic!("seed {number}, {output} after {restarts} restarts: {difference}");
            }
        }
    }
    // From savepoint to savepoint, at other parallelisms.
    let (out, savepoints) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (mut from, mut legs) = (None, 0);
    for parallelism in [2, 7, 1, 3] {
        let env = Environment::new();
        flights::job(&env, &options(out.path()));
        let mut config = jobs::config(parallelism, Some(std::time::Duration::from_millis(20)));
        config.restore.from = from.take();
        let savepoint = jobs::run(async {
            let job = jobs::start(&env, &config, None).await.expect("the job starts");
            let mut savepoint = None;
            if legs < 3 {
                job.client.wait_until(|status| status.checkpoints_completed > 1).await.expect("it runs");
                // It may have read everything by now.
                savepoint = job.client.stop(Some(&savepoints.path().display().to_string())).await.ok();
            }
            job.finish().await.expect("the job finishes");
            savepoint
        });
        legs += 1;
        match savepoint {
            Some(savepoint) => from = Some(savepoint.into()),
            None => break,
        }
    }
    assert!(legs > 1, "one leg");
    for (output, expected) in &expected {
        if let Err(difference) = folders::compare(expected, &folders::sorted_rows(&out.path().join(output))) {
            panic!("{output} after {legs} legs: {difference}");
        }
    }
    println!(
        "{restarted} of {count} runs restarted; {restored} attempts began with a checkpoint; {legs} legs"
    );
    assert!(count < 5 || restarted > count / 2, "only {restarted} of {count} runs restarted");
    assert!(count < 5 || restored > 0, "no attempt began with a checkpoint");
}
