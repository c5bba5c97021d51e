//! Made-up text: lines of words from a vocabulary of 100,000, the n-th of which is 1/n as frequent as the first.

use super::mix;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

const VOCABULARY: usize = 100_000;
const WORDS_PER_LINE: usize = 12;

/// Text without a number of words.
const BYTES: u64 = 1_000_000_000;

/// A file with so many words, or 1 GB of them, written once and kept in the cache folder.
///
/// # Errors
/// It cannot be written.
pub fn file(words: Option<u64>) -> std::io::Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache/bench");
    std::fs::create_dir_all(&folder)?;
    let size = words.map_or("1-gb".to_owned(), |words| words.to_string());
    let path = folder.join(format!("words-{size}.txt"));
    if !path.exists() {
        eprintln!("  writing the text, once");
        let unfinished = path.with_extension("unfinished");
        let out = BufWriter::with_capacity(1 << 20, std::fs::File::create(&unfinished)?);
        match words {
            Some(words) => write(out, |_, drawn| drawn < words)?,
            None => write(out, |written, _| written < BYTES)?,
        }
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

fn word(rank: usize) -> String {
    // Frequent words are short.
    let length = 2 + (rank as f64).ln() as usize / 2 + (mix(rank as u64) % 4) as usize;
    (0..length).map(|at| (b'a' + (mix((rank * 31 + at) as u64) % 26) as u8) as char).collect()
}

fn write(mut out: impl Write, goes_on: impl Fn(u64, u64) -> bool) -> std::io::Result<()> {
    let words: Vec<String> = (1..=VOCABULARY).map(word).collect();
    let mut cumulative: Vec<f64> = (1..=VOCABULARY).map(|rank| 1.0 / rank as f64).collect();
    for at in 1..VOCABULARY {
        cumulative[at] += cumulative[at - 1];
    }
    let total = cumulative[VOCABULARY - 1];
    // A table of first guesses makes drawing a word two look-ups.
    let guesses: Vec<usize> = (0..=65_536)
        .map(|slot| {
            cumulative.partition_point(|sum| *sum < total * slot as f64 / 65_536.0).min(VOCABULARY - 1)
        })
        .collect();
    let (mut written, mut drawn) = (0u64, 0u64);
    let mut line = String::new();
    while goes_on(written, drawn) {
        line.clear();
        for at in 0..WORDS_PER_LINE {
            if at > 0 && !goes_on(written, drawn) {
                break;
            }
            drawn += 1;
            let random = mix(drawn.wrapping_add(7));
            let target = total * (random >> 11) as f64 / (1u64 << 53) as f64;
            let slot = (random >> 48) as usize;
            let range = guesses[slot]..=guesses[slot + 1];
            let start = *range.start();
            let rank = start + cumulative[range].partition_point(|sum| *sum < target);
            if at > 0 {
                line.push(' ');
            }
            line.push_str(&words[rank.min(VOCABULARY - 1)]);
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    out.flush()?;
    Ok(())
}
