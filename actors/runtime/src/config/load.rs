//! Where configuration comes from: a file, then environment variables, then flags, each overriding the one
//! before it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value as Yaml;

use super::{Config, ConfigError};

/// Prefix of the environment variables that are configuration.
const VARIABLE_PREFIX: &str = "HURTIG_";

/// Variables that carry the prefix without being keys: the file's name, that of a program that has a part in a cluster, and
/// what tests use.
const OTHER_VARIABLES: [&str; 2] = ["HURTIG_CONFIG", "HURTIG_ASSIGNED"];
const TEST_VARIABLE_PREFIX: &str = "HURTIG_TEST_";

/// Name of the file that is looked for where none is named.
const FILE_NAME: &str = "hurtig.yaml";

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable of this name.
    Variable(String),
    /// A flag of this name, such as `-D` or `--parallelism`.
    Flag(String),
    /// The program itself, by assigning to a field.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("by default"),
            Origin::File(path) => write!(f, "in file {}", path.display()),
            Origin::Variable(name) => write!(f, "in environment variable {name}"),
            Origin::Flag(name) => write!(f, "in flag {name}"),
            Origin::Program => f.write_str("in the program"),
        }
    }
}

/// Collects the sources of a [`Config`]. The order of the calls does not matter between kinds of sources:
/// flags override variables, which override the file; among flags the last one wins.
#[derive(Debug, Clone, Default)]
pub struct ConfigBuilder {
    file: Option<PathBuf>,
    search_dir: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(String, Assignment)>,
}

#[derive(Debug, Clone)]
enum Assignment {
    Text(String),
    Split(String, String),
}

impl ConfigBuilder {
    /// Reads this file, which must exist; no other is looked for.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Unless a file is named, by [`file`](Self::file) or the variable `HURTIG_CONFIG`, reads `hurtig.yaml`
    /// in this folder if it is there.
    #[must_use]
    pub fn search(mut self, folder: impl Into<PathBuf>) -> Self {
        self.search_dir = Some(folder.into());
        self
    }

    /// Reads these environment variables; usually all of the process's, `std::env::vars_os()`.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Takes what a user of a command expects: `hurtig.yaml` in the working folder, and this process's
    /// environment variables.
    #[must_use]
    pub fn process(self) -> Self {
        self.search("").variables(std::env::vars_os())
    }

    /// Takes a flag `-D key=value`, given here without the `-D`.
    #[must_use]
    pub fn flag(mut self, assignment: impl Into<String>) -> Self {
        self.flags.push(("-D".to_owned(), Assignment::Text(assignment.into())));
        self
    }

    /// Takes a flag with a name of its own that stands for a key, such as `--parallelism` for
    /// `parallelism.default`.
    #[must_use]
    pub fn named_flag(mut self, flag: &str, key: &str, value: impl Into<String>) -> Self {
        self.flags.push((flag.to_owned(), Assignment::Split(key.to_owned(), value.into())));
        self
    }

    /// Reads all sources. The first thing that is wrong in any of them is the error.
    pub fn build(self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(path) = self.file_to_read() {
            read_file(&mut config, &path)?;
        }
        for (name, value) in &self.variables {
            read_variable(&mut config, name, value)?;
        }
        for (flag, assignment) in self.flags {
            let (key, value) = match assignment {
                Assignment::Text(text) => parse_assignment(&text)?,
                Assignment::Split(key, value) => (key, value),
            };
            config.set(&key, &value, Origin::Flag(flag))?;
        }
        config.check()?;
        Ok(config)
    }

    fn file_to_read(&self) -> Option<PathBuf> {
        let named = self.file.clone();
        let by_variable = || {
            let (_, path) =
                self.variables.iter().find(|(name, value)| name == "HURTIG_CONFIG" && !value.is_empty())?;
            Some(PathBuf::from(path))
        };
        let found = || self.search_dir.as_ref().map(|dir| dir.join(FILE_NAME)).filter(|path| path.exists());
        named.or_else(by_variable).or_else(found)
    }
}

/// Splits `key=value`.
pub fn parse_assignment(text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        Some(_) | None => Err(ConfigError::NotAnAssignment { text: text.to_owned() }),
    }
}

/// The environment variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_uppercase().replace(['.', '-'], "_"))
}

fn read_variable(config: &mut Config, name: &OsStr, value: &OsStr) -> Result<(), ConfigError> {
    let name = name.to_string_lossy();
    let is_key = name.starts_with(VARIABLE_PREFIX)
        && !name.starts_with(TEST_VARIABLE_PREFIX)
        && !OTHER_VARIABLES.contains(&&*name);
    if !is_key {
        return Ok(());
    }
    let origin = Origin::Variable(name.clone().into_owned());
    match Config::entries().iter().find(|entry| entry.variable() == name) {
        // a value that is no text is shown with replacement characters if its type refuses it
        Some(entry) => config.set(entry.name, &value.to_string_lossy(), origin),
        None => Err(unknown_key(&name, origin)),
    }
}

fn read_file(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let yaml: Yaml = serde_yaml_ng::from_str(&text)
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })?;
    let mut reader = FileReader { config, origin: Origin::File(path.to_owned()), seen: BTreeSet::new() };
    reader.read(String::new(), &yaml)
}

struct FileReader<'a> {
    config: &'a mut Config,
    origin: Origin,
    seen: BTreeSet<String>,
}

impl FileReader<'_> {
    fn read(&mut self, key: String, yaml: &Yaml) -> Result<(), ConfigError> {
        let value = match yaml {
            Yaml::Mapping(mapping) => {
                for (name, inner) in mapping {
                    let name = scalar(name).ok_or_else(|| {
                        self.wrong_shape(&key, "a map with a key that is no text", "names as keys")
                    })?;
                    let inner_key = if key.is_empty() { name } else { format!("{key}.{name}") };
                    self.read(inner_key, inner)?;
                }
                return Ok(());
            }
            // an empty file, or a heading with nothing below it
            Yaml::Null if key.is_empty() || is_group(&key) => return Ok(()),
            Yaml::Sequence(_) => return Err(self.wrong_shape(&key, "a list", "a single value")),
            other => {
                scalar(other).ok_or_else(|| self.wrong_shape(&key, "a tagged value", "a plain value"))?
            }
        };
        if is_group(&key) || key.is_empty() {
            return Err(self.wrong_shape(&key, "a value", "further keys below it"));
        }
        if !self.seen.insert(key.clone()) {
            return Err(ConfigError::Duplicate { key, origin: self.origin.clone() });
        }
        self.config.set(&key, &value, self.origin.clone())
    }

    fn wrong_shape(&self, key: &str, found: &'static str, expected: &'static str) -> ConfigError {
        let key = if key.is_empty() { "the top level" } else { key }.to_owned();
        ConfigError::WrongShape { key, origin: self.origin.clone(), found, expected }
    }
}

/// A single value as text; nothing is the empty text, which unsets.
fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::Null => Some(String::new()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Number(value) => Some(value.to_string()),
        Yaml::String(value) => Some(value.clone()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => None,
    }
}

/// Whether keys lie below this name.
fn is_group(name: &str) -> bool {
    Config::entries()
        .iter()
        .any(|entry| entry.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The error for a name that is no key, with the nearest name that is one, written as its source would.
pub(super) fn unknown_key(name: &str, origin: Origin) -> ConfigError {
    let entries = Config::entries();
    let candidates = entries.iter().map(|entry| match origin {
        Origin::Variable(_) => entry.variable(),
        Origin::Default | Origin::File(_) | Origin::Flag(_) | Origin::Program => entry.name.to_owned(),
    });
    let suggestion = candidates
        .map(|candidate| (similarity(name, &candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate);
    ConfigError::UnknownKey { key: name.to_owned(), origin, suggestion }
}

/// How near a name is to a key: to the whole of it, or nearly so to the last part of it (`batch-size`).
fn similarity(name: &str, key: &str) -> f64 {
    let name = name.replace('_', "-").to_lowercase();
    let key = key.replace('_', "-").to_lowercase();
    let last_part = key.rsplit('.').next().unwrap_or(&key);
    let whole = strsim::normalized_damerau_levenshtein(&name, &key);
    let part = strsim::normalized_damerau_levenshtein(&name, last_part);
    whole.max(part * 0.95)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        Config::builder().search(folder.path()).build()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_file_may_nest_its_keys_or_dot_them() {
        let nested = from_file(
            "checkpoint:\n  interval: 10 s\n  retained: 3\nrestart:\n  fixed-delay: {attempts: 4}\n  strategy: fixed-delay\nparallelism:\n",
        );
        let dotted = from_file(
            "checkpoint.interval: 10000\ncheckpoint.retained: 3\nrestart.fixed-delay.attempts: 4\nrestart.strategy: fixed-delay\n",
        );
        let (nested, dotted) = (nested.unwrap(), dotted.unwrap());
        assert_eq!(nested.checkpoint.interval, Some(Duration::from_secs(10)));
        assert_eq!(nested.restart.fixed_delay.attempts, 4);
        assert_eq!(*nested, *dotted);
        assert_eq!(*from_file("").unwrap(), *Config::default());
        assert_eq!(*from_file("# nothing\n").unwrap(), *Config::default());
    }

    #[test]
    fn flags_override_variables_and_variables_override_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.yaml");
        std::fs::write(&path, "exchange.credits: 1\nexecution: {batch-size: 1, flush-timeout: 1ms}\n")
            .unwrap();
        let config = Config::builder()
            .flag("exchange.credits=4")
            .named_flag("--credits", "exchange.credits", "3")
            .variables(variables(&[
                ("HURTIG_EXCHANGE_CREDITS", "2"),
                ("HURTIG_EXECUTION_BATCH_SIZE", "2"),
                ("PATH", "/bin"),
            ]))
            .file(&path)
            .build()
            .unwrap();
        assert_eq!(config.exchange.credits, 3);
        assert_eq!(config.execution.batch_size, 2);
        assert_eq!(config.execution.flush_timeout, Duration::from_millis(1));
        let origins: Vec<_> = config.describe().into_iter().map(|d| d.origin.to_string()).collect();
        assert!(origins.contains(&"in flag --credits".to_owned()));
        assert!(origins.contains(&"in environment variable HURTIG_EXECUTION_BATCH_SIZE".to_owned()));
        assert!(origins.contains(&format!("in file {}", path.display())));
    }

    #[test]
    fn the_file_is_the_named_one_else_the_variables_else_the_one_that_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, credits: usize| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("exchange.credits: {credits}")).unwrap();
            path
        };
        write(FILE_NAME, 1);
        let (by_variable, named) = (write("b.yaml", 2), write("c.yaml", 3));
        let mut builder = Config::builder().search(folder.path());
        assert_eq!(builder.clone().build().unwrap().exchange.credits, 1);
        builder = builder.variables([("HURTIG_CONFIG".into(), by_variable.into_os_string())]);
        assert_eq!(builder.clone().build().unwrap().exchange.credits, 2);
        builder = builder.file(named);
        assert_eq!(builder.build().unwrap().exchange.credits, 3);
    }

    #[test]
    fn an_empty_variable_unsets_what_the_file_sets() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "checkpoint.interval: 1s").unwrap();
        let unset = variables(&[("HURTIG_CHECKPOINT_INTERVAL", "")]);
        let config = Config::builder().search(folder.path()).variables(unset).build().unwrap();
        assert_eq!(config.checkpoint.interval, None);
    }

    #[test]
    fn an_unknown_key_names_its_source_and_the_key_that_was_meant() {
        let check = |outcome: Result<Config, ConfigError>, start: &str| {
            let text = outcome.unwrap_err().to_string();
            assert!(text.starts_with(start), "{text}");
        };
        check(
            Config::builder().flag("checkpoint.intervall=1s").build(),
            "unknown key 'checkpoint.intervall' in flag -D: did you mean 'checkpoint.interval'? (`hurtig config`",
        );
        check(
            Config::builder().flag("batch_size=7").build(),
            "unknown key 'batch_size' in flag -D: did you mean 'execution.batch-size'?",
        );
        check(
            Config::builder().variables(variables(&[("HURTIG_PARALELISM_DEFAULT", "2")])).build(),
            "environment variable HURTIG_PARALELISM_DEFAULT belongs to no key: did you mean 'HURTIG_PARALLELISM_DEFAULT'?",
        );
        check(
            Config::builder().flag("colour=red").build(),
            "unknown key 'colour' in flag -D (`hurtig config`",
        );
        let text = from_file("chekpoint:\n  interval: 1s\n").unwrap_err().to_string();
        assert!(text.contains("'chekpoint.interval' in file"), "{text}");
        assert!(text.contains("hurtig.yaml: did you mean 'checkpoint.interval'?"), "{text}");
    }

    #[test]
    fn an_invalid_value_names_key_value_type_and_source() {
        let text = from_file("execution.batch-size: 0").unwrap_err().to_string();
        assert!(text.starts_with("invalid value '0' for 'execution.batch-size' in file "), "{text}");
        assert!(text.ends_with("hurtig.yaml: expected integer from 1 to 1000000"), "{text}");
        let error = Config::builder().named_flag("--mode", "checkpoint.mode", "never").build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value 'never' for 'checkpoint.mode' in flag --mode: expected exactly-once|at-least-once"
        );
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        let check = |text: &str, expected: &str| {
            let found = from_file(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        };
        check("checkpoint: 10s", "'checkpoint' in file");
        check("checkpoint: 10s", "is a value: expected further keys below it");
        check("checkpoint.interval: [1, 2]", "is a list: expected a single value");
        check(
            "checkpoint: {interval: 1s}\ncheckpoint.interval: 2s",
            "'checkpoint.interval' is set twice in file",
        );
        check("just text", "'the top level' in file");
        check("a: b: c", "is not valid YAML");
        let missing = Config::builder().file("no/such/file.yaml").build().unwrap_err();
        assert_eq!(missing.to_string(), "configuration file no/such/file.yaml cannot be read");
    }

    #[test]
    fn a_flag_must_be_an_assignment() {
        for wrong in ["checkpoint.interval", "=1s", ""] {
            let error = Config::builder().flag(wrong).build().unwrap_err();
            assert_eq!(error.to_string(), format!("'{wrong}' is not of the form key=value"));
        }
        assert_eq!(
            parse_assignment("savepoint.dir = /a=b ").unwrap(),
            ("savepoint.dir".into(), "/a=b".into())
        );
    }

    #[test]
    fn variables_of_tests_and_clusters_are_not_keys() {
        let config = Config::builder()
            .variables(variables(&[
                ("HURTIG_ASSIGNED", "1"),
                ("HURTIG_TEST_SEED", "1"),
                ("HURTIG_CONFIG", ""),
            ]))
            .build();
        assert_eq!(config.unwrap(), Config::default());
    }
}
