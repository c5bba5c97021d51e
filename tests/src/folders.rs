//! What lies in the folders that jobs write to.

use std::path::{Path, PathBuf};

/// The published part files of a folder and those within it, by name. What is hidden is not published.
pub fn published_files(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|file| !is_hidden(file)).collect()
}

/// Files of a folder and those within it that are written but not published.
pub fn unpublished_files(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|file| is_hidden(file) && file.to_string_lossy().contains(".inprogress."))
        .collect()
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let entries: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    files.retain(|file| file.is_file());
    files.extend(folders.iter().flat_map(|folder| self::files(folder)));
    files.sort();
    files
}

/// The lines of all published files of a folder, sorted.
pub fn sorted_lines(folder: &Path) -> Vec<String> {
    lines(folder, 0)
}

/// The lines of all published CSV files of a folder without their headers, sorted.
pub fn sorted_rows(folder: &Path) -> Vec<String> {
    lines(folder, 1)
}

fn lines(folder: &Path, skipped: usize) -> Vec<String> {
    let mut all = Vec::new();
    for file in published_files(folder) {
        // A file that vanishes while a test looks at it is a defect that shows as missing rows.
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        all.extend(text.lines().skip(skipped).map(str::to_string));
    }
    all.sort_unstable();
    all
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The flights of each month.
///
/// # Panics
/// They were not fetched.
pub fn flights_data() -> PathBuf {
    let months = repository().join(".cache/nycflights13/months");
    assert!(
        months.join("2013-01.csv").is_file(),
        "the flights of 2013 are not in {}: fetch them with scripts/fetch-flights",
        months.display()
    );
    months
}

/// Compares two sorted lists and says where they differ, not all that they hold.
///
/// # Errors
/// They differ.
pub fn compare<T: PartialOrd + std::fmt::Debug>(expected: &[T], found: &[T]) -> Result<(), String> {
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut e, mut f) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (e.peek(), f.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => drop((e.next(), f.next())),
            (Some(a), Some(b)) if a < b => missing.extend(e.next()),
            (Some(_), None) => missing.extend(e.next()),
            _ => surplus.extend(f.next()),
        }
    }
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    let some = |list: &[&T]| list.iter().take(5).map(|item| format!("\n    {item:?}")).collect::<String>();
    Err(format!(
        "{} expected, {} found;\n  {} missing:{}\n  {} too many:{}",
        expected.len(),
        found.len(),
        missing.len(),
        some(&missing),
        surplus.len(),
        some(&surplus)
    ))
}
