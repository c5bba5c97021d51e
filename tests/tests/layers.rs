//! Dependencies point down: what `layers.txt` says of the workspace's crates is what their manifests say, and
//! nothing new lies at the top of the repository.
//!
//! `HURTIG_TEST_UPDATE=1 cargo test -p hurtig-tests --test layers` rewrites the file from the manifests; the
//! difference is then for the reviewer to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The only names allowed at the top of the repository, besides those that start with a dot.
const TOP_LEVEL: [&str; 9] =
    ["Cargo.lock", "Cargo.toml", "README.md", "actors", "api", "cli", "connectors", "scripts", "tests"];

const HEADING: &str = "\
# What each crate of the workspace may depend on, lowest layer first: a crate may name only crates above its
# own line. A star marks what only its tests need. Compared with the manifests by tests/layers.rs, which also
# tells how to rewrite this file; an order once chosen is kept.
";
const HEAVY_HEADING: &str = "\
# Which crates may name a crate from outside that is heavy, or whose use is to stay in one place.
";

/// For each crate, by name: what it depends on, and whether only in its tests.
type Manifests = BTreeMap<String, BTreeMap<String, bool>>;

/// The file: crates lowest layer first, heavy crates in the order chosen, each with its line's names.
#[derive(Debug, Clone, Default, PartialEq)]
struct Layers {
    crates: Vec<(String, Vec<String>)>,
    heavy: Vec<(String, Vec<String>)>,
}

impl Layers {
    fn parse(text: &str) -> Result<Self> {
        let mut layers = Layers::default();
        let mut section = None;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                section = Some(line);
                continue;
            }
            let (name, users) = line.split_once(':').with_context(|| format!("no colon in '{line}'"))?;
            let entry = (name.to_owned(), users.split_whitespace().map(str::to_owned).collect());
            match section {
                Some("[crates]") => layers.crates.push(entry),
                Some("[heavy]") => layers.heavy.push(entry),
                _ => bail!("'{line}' stands under no known heading"),
            }
        }
        Ok(layers)
    }

    /// What the file would say of these manifests, in the order it has.
    fn made_from(&self, manifests: &Manifests) -> Self {
        let listed: BTreeSet<&String> = self.crates.iter().map(|(name, _)| name).collect();
        let known = self.crates.iter().map(|(name, _)| name).filter(|name| manifests.contains_key(*name));
        let new = manifests.keys().filter(|name| !listed.contains(name));
        let order: Vec<&String> = known.chain(new).collect();
        let crates = order
            .iter()
            .map(|name| {
                let needs = &manifests[*name];
                let internal =
                    order.iter().filter_map(|needed| needs.get(*needed).map(|star| marked(needed, *star)));
                ((*name).clone(), internal.collect())
            })
            .collect();
        let heavy = self
            .heavy
            .iter()
            .map(|(heavy, _)| {
                let users = order
                    .iter()
                    .filter_map(|user| manifests[*user].get(heavy).map(|star| marked(user, *star)));
                (heavy.clone(), users.collect())
            })
            .collect();
        Layers { crates, heavy }
    }

    fn render(&self) -> String {
        let mut text = HEADING.to_owned();
        for (title, heading, entries) in
            [("[crates]", "", &self.crates), ("[heavy]", HEAVY_HEADING, &self.heavy)]
        {
            let gap = if heading.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{heading}{title}");
            for (name, names) in entries {
                let _ = writeln!(text, "{}", format!("{name}: {}", names.join(" ")).trim_end());
            }
        }
        text
    }

    /// Dependencies that point up, as sentences.
    fn upward(&self) -> Vec<String> {
        let mut below = BTreeSet::new();
        let mut upward = Vec::new();
        for (name, needs) in &self.crates {
            for needed in needs.iter().map(|needed| needed.trim_end_matches('*')) {
                if !below.contains(needed) {
                    upward.push(format!("{name} depends on {needed}, which is no lower layer"));
                }
            }
            below.insert(name.as_str());
        }
        upward
    }
}

fn marked(name: &str, only_in_tests: bool) -> String {
    format!("{name}{}", if only_in_tests { "*" } else { "" })
}

fn manifests_of(metadata: &Value) -> Result<Manifests> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut manifests = Manifests::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without name")?;
        let needs = manifests.entry(name.to_owned()).or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let needed = dependency["name"].as_str().context("a dependency without name")?;
            let only_in_tests = dependency["kind"] == "dev";
            let so_far = needs.entry(needed.to_owned()).or_insert(true);
            *so_far &= only_in_tests;
        }
    }
    Ok(manifests)
}

/// Lines of only one of two texts.
fn difference(file: &str, manifests: &str) -> String {
    let only = |one: &str, other: &str, sign: char| -> String {
        let others: BTreeSet<_> = other.lines().collect();
        one.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    only(file, manifests, '-') + &only(manifests, file, '+')
}

fn repository() -> Result<PathBuf> {
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").context("start this through cargo")?;
    Ok(PathBuf::from(tests).parent().context("this crate lies in the workspace")?.to_owned())
}

fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[test]
fn manifests_say_what_layers_txt_says_and_point_down() -> Result<()> {
    let root = repository()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = output_of(Command::new(cargo).current_dir(&root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let manifests = manifests_of(&serde_json::from_slice(&metadata)?)?;

    let path = root.join("tests/layers.txt");
    let file = std::fs::read_to_string(&path).context("tests/layers.txt")?;
    let actual = Layers::parse(&file)?.made_from(&manifests);
    let text = actual.render();
    if std::env::var_os("HURTIG_TEST_UPDATE").is_some() {
        std::fs::write(&path, &text)?;
    } else {
        ensure!(
            file == text,
            "tests/layers.txt (-) and the manifests (+) differ:\n{}\
             Take the dependency back, or rewrite the file with HURTIG_TEST_UPDATE=1 and have it reviewed.",
            difference(&file, &text)
        );
    }
    let upward = actual.upward();
    ensure!(upward.is_empty(), "dependencies must point down:\n{}", upward.join("\n"));
    Ok(())
}

#[test]
fn the_top_of_the_repository_holds_only_what_is_listed() -> Result<()> {
    // a checkout may belong to another user than the one who runs its tests, as in a container
    let listing = output_of(Command::new("git").current_dir(repository()?).args([
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
    ]))?;
    let listing = String::from_utf8(listing)?;
    let top: BTreeSet<&str> = listing
        .split('\0')
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.is_empty())
        .collect();
    ensure!(!top.is_empty(), "git lists no file");
    let unexpected: Vec<_> =
        top.into_iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name)).collect();
    ensure!(unexpected.is_empty(), "these belong in one of the folders: {unexpected:?}");
    Ok(())
}

const SAMPLE: &str = "[crates]\nlow:\nhigh: low\n\n[heavy]\nclap: high\nrusqlite: low*\n";

fn sample_manifests(extra: &[(&str, &str, bool)]) -> Manifests {
    let mut manifests = Manifests::new();
    let usual = [("high", "low", false), ("high", "clap", false), ("low", "rusqlite", true)];
    for (user, needed, star) in usual.iter().chain(extra) {
        manifests.entry((*user).to_owned()).or_default().insert((*needed).to_owned(), *star);
    }
    manifests
}

#[test]
fn the_file_reads_back_what_is_written() {
    let layers = Layers::parse(SAMPLE).unwrap();
    assert_eq!(Layers::parse(&layers.render()).unwrap(), layers);
    assert_eq!(layers.made_from(&sample_manifests(&[])), layers);
    assert_eq!(layers.upward(), Vec::<String>::new());
    assert!(Layers::parse("stray: line\n").is_err());
}

#[test]
fn a_new_dependency_is_told() {
    let layers = Layers::parse(SAMPLE).unwrap();
    let now = layers.made_from(&sample_manifests(&[("low", "clap", false), ("new", "high", true)]));
    assert_eq!(difference(&layers.render(), &now.render()), "- clap: high\n+ new: high*\n+ clap: low high\n");
}

#[test]
fn a_dependency_that_points_up_is_told_even_if_the_file_was_rewritten() {
    let layers = Layers::parse(SAMPLE).unwrap();
    let now = layers.made_from(&sample_manifests(&[("low", "high", true)]));
    assert_eq!(now.upward(), ["low depends on high, which is no lower layer"]);
}

#[test]
fn a_dependency_needed_by_code_and_tests_counts_as_codes() {
    let metadata = serde_json::json!({"packages": [{"name": "a", "dependencies": [
        {"name": "b", "kind": "dev"}, {"name": "b", "kind": null}, {"name": "c", "kind": "dev"}]}]});
    let manifests = manifests_of(&metadata).unwrap();
    assert_eq!(manifests["a"], BTreeMap::from([("b".to_owned(), false), ("c".to_owned(), true)]));
}
