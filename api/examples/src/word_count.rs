//! Counts words: reads text files, cuts lines into words, counts per word. The last count of each word is its total.

use clap::Parser;
use compact_str::{CompactString, ToCompactString};
use hurtig::prelude::*;
use std::path::PathBuf;

/// Counts the words of text files
#[derive(Parser, Debug, Clone)]
#[command(name = "word_count", disable_version_flag = true)]
pub struct Options {
    /// Files, or patterns such as 'books/*.txt.gz'
    #[arg(value_name = "FILE", default_value = "README.md")]
    pub files: Vec<PathBuf>,
    /// Folder for the counts; without it they are printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Builds the job from the program's arguments.
///
/// # Errors
/// Wrong arguments.
pub fn build(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let options: Options = crate::parse("word_count", args)?;
    let counts = count_words(&lines(env, &options.files)?);
    match &options.out {
        Some(folder) => counts.sink_to(FileSink::csv(folder)),
        None => counts.print(),
    };
    Ok(())
}

/// The lines of all files.
///
/// # Errors
/// No files.
pub fn lines(env: &Environment, files: &[PathBuf]) -> Result<DataStream<String>, BoxError> {
    let streams = files.iter().enumerate().map(|(at, file)| {
        let source = FileSource::text(file);
        env.from_source(source, WatermarkStrategy::none(), &format!("text {at}")).uid(&format!("text-{at}"))
    });
    streams.reduce(|all, more| all.union(&more)).ok_or_else(|| "name at least one file".into())
}

/// How often each word was seen so far, with every word seen.
pub fn count_words(lines: &DataStream<String>) -> DataStream<(CompactString, u64)> {
    lines
        .flat_map(|line: String, out: &mut Collector<'_, _>| {
            for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                out.emit((word.to_lowercase().to_compact_string(), 1));
            }
        })
        .uid("words")
        .key_by(|(word, _)| word.clone())
        .reduce(|(word, a), (_, b)| (word, a + b))
        .uid("counts")
}
