//! Folders that a program may not read or write, and disks that are full: the job fails with one sentence, nothing is
//! overwritten, and what was published before stays whole.

use hurtig_tests::events::KEYS;
use hurtig_tests::folders;
use hurtig_tests::programs::{failure, says, sentence};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::{TempDir, tempdir};

const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Changes what the owner of a file or folder may do with it, until it is dropped.
struct Locked<'a>(&'a Path);

impl<'a> Locked<'a> {
    fn to(mode: u32, path: &'a Path) -> Self {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions are changed");
        Locked(path)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The folder could not be deleted otherwise.
        let _ = fs::set_permissions(self.0, Permissions::from_mode(0o755));
    }
}

/// The program, to be run by a user for whom permissions count: root without the capability to pass over them.
fn common_user() -> Command {
    let (folder, file) = (folder(), "file");
    let file = folder.path().join(file);
    fs::write(&file, "").expect("a file");
    let _locked = Locked::to(0o000, &file);
    if fs::read(&file).is_err() {
        return Command::new(PROGRAM);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", PROGRAM]);
    command
}

#[test]
fn input_that_may_not_be_read_is_told() {
    let (data, out, checkpoints) = (folder(), folder(), folder());
    let book = data.path().join("book.txt");
    fs::write(&book, "to be or not to be").expect("a book");
    let mut program = common_user();
    // What nobody mends is not tried again, though there are checkpoints.
    program.args(["--checkpoint-interval", "10ms", "--checkpoint-dir", text(checkpoints.path()), "--"]);
    program.args(["word_count", text(data.path()), "--out", text(out.path())]);
    for locked in [book.as_path(), data.path()] {
        let _locked = Locked::to(0o000, locked);
        let said = sentence(&mut program);
        says(&said, &[&format!("no permission to read '{}'", locked.display()), "choose another path"]);
        assert!(folders::published_files(out.path()).is_empty());
    }
    assert!(program.status().expect("the program starts").success());
}

#[test]
fn an_output_folder_that_may_not_be_written_to_is_told_and_left_alone() {
    let out = folder();
    let inner = out.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    fs::write(inner.join("part-old.csv"), "old").expect("a file");
    for (locked, target) in [(inner.as_path(), inner.clone()), (out.path(), out.path().join("new"))] {
        let _locked = Locked::to(0o555, locked);
        let said = sentence(common_user().args(["--", "events", text(&target), "100", "1000"]));
        says(&said, &[&format!("no permission to write '{}", target.display()), "choose another path"]);
    }
    assert_eq!(folders::sorted_lines(&inner), ["old"]);
}

/// Checks files that a job has written until the disk was full: the first counts of each key, each once.
fn check_first_counts(lines: &[String]) {
    assert!(!lines.is_empty());
    let mut counts = vec![Vec::new(); KEYS as usize];
    for line in lines {
        let (key, count) = line.split_once(',').unwrap_or_else(|| panic!("torn: '{line}'"));
        let (key, count): (usize, u64) = (key.parse().expect("a key"), count.parse().expect("a count"));
        counts[key].push(count);
    }
    for (key, mut counts) in counts.into_iter().enumerate() {
        counts.sort_unstable();
        assert!(counts.iter().copied().eq(1..=counts.len() as u64), "key {key}: {counts:?}");
    }
}

/// What a shell runs on the disk that it is given: the program, then it takes away what lies there.
const ON_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size=400k none "$1" || exit 99
    echo old > "$1/part-old.csv"
    "$3" -p 2 --checkpoint-interval 5ms --checkpoint-dir "$2/checkpoints" -D restart.strategy=none -- \
        events "$1" 1000000 300000
    code=$?
    cp "$1"/* "$2"
    exit $code
"#;

#[test]
fn a_full_disk_is_told_and_what_was_published_before_is_whole() {
    let (disk, copy) = (folder(), folder());
    // A disk of one's own, seen by nobody else and gone with its last process.
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--mount", "sh", "-c", ON_SMALL_DISK, "sh"]);
    let said = sentence(shell.args([text(disk.path()), text(copy.path()), PROGRAM]));
    says(&said, &[&format!("the disk is full, '{}", disk.path().display()), "make room"]);
    let old = copy.path().join("part-old.csv");
    assert_eq!(fs::read_to_string(&old).expect("it is there"), "old\n");
    fs::remove_file(old).expect("it is there");
    check_first_counts(&folders::sorted_lines(copy.path()));
}

/// The same for state that memory has no room for.
const STATE_ON_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size=400k none "$1" || exit 99
    exec "$4" -D state.memory=64KiB -D state.spill-dir="$1" -- word_count "$2" --out "$3"
"#;

#[test]
fn checkpoints_that_cannot_be_written_are_told_at_once() {
    let (out, checkpoints) = (folder(), folder());
    let _locked = Locked::to(0o555, checkpoints.path());
    let dir = checkpoints.path().join("here");
    let said = sentence(
        common_user().args(["--checkpoint-interval", "10ms", "--checkpoint-dir", text(&dir)]).args([
            "--",
            "events",
            text(out.path()),
            "100",
            "1000",
        ]),
    );
    says(&said, &[text(&dir), "ermission"]);
    assert!(folders::published_files(out.path()).is_empty());
}

#[test]
fn a_disk_too_small_for_the_state_is_told() {
    let (disk, data, out) = (folder(), folder(), folder());
    let words: String = (0..30_000).map(|n| format!("word-{n}\n")).collect();
    fs::write(data.path().join("book.txt"), words).expect("a book");
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--mount", "sh", "-c", STATE_ON_SMALL_DISK, "sh"]);
    let said = sentence(shell.args([text(disk.path()), text(data.path()), text(out.path()), PROGRAM]));
    says(&said, &["no space left", text(disk.path()), "'state.spill-dir'", "'state.memory'"]);
}

#[test]
fn a_file_that_may_not_grow_is_told_and_nothing_is_published() {
    let (out, old) = (folder(), "old");
    fs::write(out.path().join("part-old.csv"), old).expect("a file");
    // Without the signal's being ignored it would end the process.
    let limited = r#"trap "" XFSZ; ulimit -f 64; exec "$@""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, "sh", PROGRAM, "--", "events", text(out.path()), "1000000", "1000000"]);
    let said = failure(1, &mut shell);
    says(&said, &["cannot write", text(out.path()), "File too large"]);
    assert_eq!(folders::sorted_lines(out.path()), [old]);
    assert!(folders::unpublished_files(out.path()).is_empty());
}
