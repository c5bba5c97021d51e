//! Errors of the vocabulary, and the error type of user functions.

use thiserror::Error as ThisError;

/// Any error a user function may return; `?` turns every error type and every string into it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Result of a user function or operator call.
pub type OpResult<T = ()> = Result<T, BoxError>;

/// An error that trying again cannot mend, such as input that does not parse: the job fails with it, whatever its restart
/// strategy. Reads as the error within.
#[derive(Debug)]
pub struct Fatal(pub BoxError);

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Whether an error or one of its causes is [`Fatal`], or an [`Error`] that stays as long as program and state do.
pub fn is_fatal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<Error>().map(Error::kind);
        if error.is::<Fatal>() || matches!(kind, Some(ErrorKind::Program | ErrorKind::State)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The program is wrong: tell the user, do not try again.
    Program,
    /// State and program do not fit: tell the user, do not try again.
    State,
    /// The machine has no room, or fails: try again.
    Machine,
}

/// What can be wrong with a job graph, a key or a piece of state.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The job graph cannot be run as it stands.
    #[error("invalid job graph: {0}")]
    Graph(String),
    /// Two operators carry the same uid.
    #[error("uid '{uid}' is used by both '{first}' and '{second}': give each operator its own")]
    DuplicateUid {
        /// The uid given twice.
        uid: String,
        /// Name of the operator that had it first.
        first: String,
        /// Name of the other one.
        second: String,
    },
    /// An operator declared two states under one name.
    #[error("state '{0}' is declared twice by the same operator")]
    DuplicateState(String),
    /// An operator declares other states than the instance whose place it takes.
    #[error(
        "state '{0}' was not handed over by the operator's last instance, which must declare the same states"
    )]
    NotHandedOver(String),
    /// State could not be written.
    #[error("state '{state}' cannot be serialised")]
    Encode {
        /// Name of the state.
        state: String,
        /// What the encoder said.
        #[source]
        source: BoxError,
    },
    /// State that is kept outside memory could not be written there, or read.
    #[error("state that memory has no room for cannot be kept")]
    Spill {
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// State of a checkpoint does not fit the type the program now declares for it.
    #[error(
        "state '{state}' of the checkpoint cannot be read as {expected}: the type has changed; restore the old type, or drop this state by giving the operator a new uid"
    )]
    Decode {
        /// Name of the state.
        state: String,
        /// The Rust type the program declares.
        expected: &'static str,
        /// What the decoder said.
        #[source]
        source: BoxError,
    },
    /// State of a checkpoint is of another kind than the program declares.
    #[error("state '{state}' is {found:?} in the checkpoint but declared as {declared:?}: use another name")]
    StateKind {
        /// Name of the state.
        state: String,
        /// Kind in the checkpoint.
        found: crate::snapshot::StateKind,
        /// Kind declared by the program.
        declared: crate::snapshot::StateKind,
    },
    /// State of a checkpoint is of a version of its type that the program does not know.
    #[error(
        "state '{state}' has version {found} of its type in the checkpoint, and the program knows versions up to {declared}: start it with the program that wrote it, or add the missing steps to its migration"
    )]
    StateVersion {
        /// Name of the state.
        state: String,
        /// Version in the checkpoint.
        found: u32,
        /// The program's version.
        declared: u32,
    },
    /// A value of a former version could not be made one of the present.
    #[error("state '{state}' cannot be migrated from version {version} of its type")]
    Migrate {
        /// Name of the state.
        state: String,
        /// The version in the checkpoint.
        version: u32,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// The checkpoint holds state that the operator no longer declares.
    #[error(
        "the checkpoint holds state '{0}' that this operator does not declare: declare it, or allow non-restored state"
    )]
    UnclaimedState(String),
    /// A batch of another type arrived than the operator reads: a defect of the graph's builder.
    #[error("expected a batch of {expected}, found {found}")]
    BatchType {
        /// The type the operator reads.
        expected: &'static str,
        /// The type that arrived.
        found: &'static str,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Graph(_)
            | Error::DuplicateUid { .. }
            | Error::DuplicateState(_)
            | Error::BatchType { .. } => ErrorKind::Program,
            Error::Encode { .. }
            | Error::Decode { .. }
            | Error::StateKind { .. }
            | Error::StateVersion { .. }
            | Error::Migrate { .. }
            | Error::NotHandedOver(_)
            | Error::UnclaimedState(_) => ErrorKind::State,
            Error::Spill { .. } => ErrorKind::Machine,
        }
    }
}

/// An error and its causes in one line, outermost first.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
