//! Sources: what was read before a crash is not read again, and nothing is left out.

use super::{SEEDS, check, random_config};
use hurtig::prelude::*;
use hurtig_tests::faults::{Crashes, Seed, seeds, tell_seed};
use hurtig_tests::{folders, jobs};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::tempdir;

const NUMBERS: u64 = 100_000;

#[test]
fn collections() {
    check(NUMBERS / 3, None, seeds(SEEDS), |env| {
        let words: Vec<_> = (0..NUMBERS).map(|n| format!("word {n}")).collect();
        env.from_collection(words).uid("words").map(|word| word + "!").uid("shown")
    });
}

#[test]
fn iterators() {
    check(NUMBERS / 3, None, seeds(SEEDS), |env| {
        let numbers = env.from_iter(|index, of| (0..NUMBERS).skip(index).step_by(of)).uid("numbers");
        numbers.map(|n| format!("number {n}")).uid("shown")
    });
}

#[test]
fn ranges() {
    check(NUMBERS, None, seeds(SEEDS), |env| {
        let numbers = env.from_range(7..2 * NUMBERS).uid("numbers");
        numbers.map(|n| format!("number {n}")).uid("shown")
    });
}

fn lines(file: u64, count: u64) -> Vec<String> {
    (0..count).map(|line| format!("line {line} of {file}")).collect()
}

#[test]
fn compressed_files() {
    let folder = tempdir().expect("a folder");
    for file in 0..8 {
        let mut text = lines(file, NUMBERS / 8).join("\n").into_bytes();
        // Some files of each kind, and one of two streams of compressed bytes.
        let (one, two) = text.split_at(text.len() / 2);
        let compress = |bytes| zstd::encode_all(bytes, 0).expect("compressed bytes");
        let ending = match file % 4 {
            0 => "txt",
            1 => {
                text = [compress(one), compress(two)].concat();
                "zst"
            }
            _ => {
                text = compress(&text);
                "zst"
            }
        };
        fs::write(folder.path().join(format!("{file}.{ending}")), text).expect("a file");
    }
    check(NUMBERS / 2, None, seeds(SEEDS), |env| {
        let source = FileSource::text(folder.path()).split_bytes(20_000);
        env.from_source(source, WatermarkStrategy::none(), "lines").uid("lines")
    });
}

/// Writes a file as programs should that write for a folder that is watched.
fn put(folder: &Path, file: u64, lines: &[String]) {
    let hidden = folder.join(format!(".{file}"));
    fs::write(&hidden, lines.join("\n")).expect("a file");
    fs::rename(hidden, folder.join(format!("{file}.txt"))).expect("a name");
}

#[test]
fn files_that_come_into_a_folder_that_is_watched() {
    const FILES: u64 = 10;
    const LINES: u64 = 2_000;
    let mut expected: Vec<_> = (0..FILES).flat_map(|file| lines(file, LINES)).collect();
    expected.sort_unstable();
    let mut restarts = 0;
    for number in seeds(SEEDS) {
        tell_seed(number);
        let mut seed = Seed::new(number);
        let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
        let env = Environment::new();
        let source = FileSource::text(folder.path())
            .monitor(Duration::from_millis(1 + seed.below(10)))
            .split_bytes(9_000);
        let found = env.from_source(source, WatermarkStrategy::none(), "lines").uid("lines");
        let config = random_config(&mut seed, None);
        found.sink_to(FileSink::text(out.path())).uid("files");
        let crashes =
            Crashes { seed: seed.next(), attempts: 1 + seed.below(4) as u32, within: FILES * LINES / 2 };
        let published = || folders::sorted_lines(out.path());
        jobs::run(async {
            let job = jobs::start(&env, &config, Some(Arc::new(crashes))).await.expect("the job starts");
            for file in 0..FILES {
                put(folder.path(), file, &lines(file, LINES));
                // The next comes when half of this one has been published.
                let enough = (file * LINES + LINES / 2) as usize;
                job.client.wait_until(|_| published().len() >= enough).await.expect("the job runs");
            }
            let all = expected.len();
            let status = job.client.wait_until(|_| published().len() >= all).await.expect("the job runs");
            restarts += status.restarts;
            job.client.cancel().expect("it runs");
            assert!(job.finish().await.is_err());
        });
        if let Err(difference) = folders::compare(&expected, &published()) {
            panic!("seed {number}: {difference}");
        }
    }
    assert!(restarts > 0);
}
