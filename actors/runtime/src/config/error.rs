//! What can be wrong with a configuration. Every one of these is for the user to mend: none is worth a retry.

use std::path::PathBuf;

use thiserror::Error as ThisError;

use super::Origin;

/// What can be wrong with a configuration.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ConfigError {
    /// No key has this name.
    #[error("{}{} (`hurtig config` lists all keys)", unknown(key, origin), suggest(suggestion))]
    UnknownKey {
        /// The name as written.
        key: String,
        /// Who used it.
        origin: Origin,
        /// The name that was probably meant, as one would write it there.
        suggestion: Option<String>,
    },
    /// The key exists but does not take this value.
    #[error("invalid value '{value}' for '{key}' {origin}: expected {expected}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What the key takes.
        expected: String,
        /// Who set it.
        origin: Origin,
    },
    /// A file gives a key a list, or gives a value where further keys belong.
    #[error("'{key}' {origin} is {found}: expected {expected}")]
    WrongShape {
        /// The key.
        key: String,
        /// Who set it.
        origin: Origin,
        /// What stands there.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A file sets one key in two places, nested and dotted.
    #[error("'{key}' is set twice {origin}: remove one of them")]
    Duplicate {
        /// The key.
        key: String,
        /// Who set it.
        origin: Origin,
    },
    /// A flag is not of the form `key=value`.
    #[error("'{text}' is not of the form key=value")]
    NotAnAssignment {
        /// The flag's value as written.
        text: String,
    },
    /// Two keys contradict each other.
    #[error("{first} is greater than {second}: {remedy}")]
    Conflict {
        /// The key that is too great.
        first: &'static str,
        /// The key that bounds it.
        second: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The file cannot be read.
    #[error("configuration file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("configuration file {} is not valid YAML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, and where.
        #[source]
        source: serde_yaml_ng::Error,
    },
}

fn unknown(key: &str, origin: &Origin) -> String {
    match origin {
        Origin::Variable(name) => format!("environment variable {name} belongs to no key"),
        Origin::Default | Origin::File(_) | Origin::Flag(_) | Origin::Program => {
            format!("unknown key '{key}' {origin}")
        }
    }
}

fn suggest(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(": did you mean '{name}'?")).unwrap_or_default()
}
