//! Who a process is: the name its certificate proves.
//!
//! A name is written as a DNS name, because that is what rustls can check: `<id>.<role>.hurtig` in a cluster,
//! `<id>.<role>.<job>.job.hurtig` among the processes of one job. A certificate also holds its name without the
//! `<id>`, so that a peer can be dialled of which only the role is known. The number of labels tells the four forms
//! apart.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Ends every name; no certificate authority of the public net issues it.
const SUFFIX: &str = ".hurtig";
const JOB_SUFFIX: &str = ".job.hurtig";
/// Of a DNS label.
const MAX_LABEL_BYTES: usize = 63;

/// What a process does in the cluster or in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Coordinates the cluster.
    JobManager,
    /// Offers slots on one machine.
    TaskManager,
    /// Submits and asks: the command line.
    Client,
    /// Coordinates one job.
    Master,
    /// Runs subtasks of one job.
    Worker,
}

impl Role {
    /// All of them, in the order of their declaration.
    pub const ALL: [Role; 5] =
        [Role::JobManager, Role::TaskManager, Role::Client, Role::Master, Role::Worker];

    /// As it stands in a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::JobManager => "jobmanager",
            Role::TaskManager => "taskmanager",
            Role::Client => "client",
            Role::Master => "master",
            Role::Worker => "worker",
        }
    }

    /// Whether processes of this role belong to one job, and their names carry its id.
    pub fn is_of_job(self) -> bool {
        matches!(self, Role::Master | Role::Worker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| Error::Name {
            name: text.to_owned(),
            reason: "is no role: jobmanager, taskmanager or client",
        })
    }
}

/// A process's name: its role, an id, and for the processes of a job the job's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    role: Role,
    id: String,
    job: Option<String>,
}

impl Name {
    /// The name of a process of the cluster.
    ///
    /// # Errors
    /// [`Error::Name`] if `id` is not a DNS label of lower-case letters, digits and hyphens, or if `role` belongs to
    /// a job.
    pub fn new(role: Role, id: &str) -> Result<Self, Error> {
        if role.is_of_job() {
            return Err(Error::Name {
                name: role.to_string(),
                reason: "is a role within a job: name the job",
            });
        }
        Ok(Name { role, id: label(id)?, job: None })
    }

    /// The name of a process of one job.
    ///
    /// # Errors
    /// [`Error::Name`] if `job` or `id` is not a DNS label of lower-case letters, digits and hyphens, or if `role`
    /// does not belong to a job.
    pub fn of_job(role: Role, job: &str, id: &str) -> Result<Self, Error> {
        if !role.is_of_job() {
            return Err(Error::Name { name: role.to_string(), reason: "is not a role within a job" });
        }
        Ok(Name { role, id: label(id)?, job: Some(label(job)?) })
    }

    /// What the process does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which of the processes of this role it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The job that the process belongs to, if its role is one within a job.
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// As it stands in a certificate.
    pub fn dns_name(&self) -> String {
        format!("{}.{}", self.id, self.role_dns_name())
    }

    /// The name of all processes of this role, which stands in each one's certificate as well.
    pub fn role_dns_name(&self) -> String {
        role_dns_name(self.role, self.job())
    }

    /// The one name among a certificate's DNS names. Other names may stand beside it, but none that ends like ours.
    pub(crate) fn among<'a>(dns_names: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let ours: Vec<&str> = dns_names.filter(|name| is_ours(name)).collect();
        let none =
            || Error::Name { name: "certificate".to_owned(), reason: "holds no name of a hurtig process" };
        let name = ours.iter().find_map(|name| name.parse::<Name>().ok()).ok_or_else(none)?;
        let (full, role) = (name.dns_name(), name.role_dns_name());
        match ours.into_iter().find(|other| *other != full && *other != role) {
            Some(other) => {
                Err(Error::Name { name: other.to_owned(), reason: "is a second name in one certificate" })
            }
            None => Ok(name),
        }
    }
}

/// Whether a host name is reserved for the names of processes.
pub(crate) fn is_ours(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.ends_with(SUFFIX) || host == SUFFIX[1..]
}

fn role_dns_name(role: Role, job: Option<&str>) -> String {
    match job {
        Some(job) => format!("{role}.{job}{JOB_SUFFIX}"),
        None => format!("{role}{SUFFIX}"),
    }
}

fn label(text: &str) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let reason = if text.is_empty() || text.len() > MAX_LABEL_BYTES {
        "must have 1 to 63 characters"
    } else if !text.bytes().all(allowed) {
        "may hold lower-case letters, digits and hyphens only"
    } else if text.starts_with('-') || text.ends_with('-') {
        "may not start or end with a hyphen"
    } else {
        return Ok(text.to_owned());
    };
    // bounded: what is refused here may come from a peer and end in a log
    Err(Error::Name { name: text.chars().take(MAX_LABEL_BYTES).collect(), reason })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dns_name())
    }
}

impl FromStr for Name {
    type Err = Error;

    /// Reads what [`Name::dns_name`] writes.
    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Name {
            name: text.chars().take(4 * MAX_LABEL_BYTES).collect(),
            reason: "is not of the form <id>.<role>.hurtig or <id>.<role>.<job>.job.hurtig",
        };
        let labels: Vec<&str> = text.split('.').take(6).collect();
        match labels.as_slice() {
            [id, role, "hurtig"] => Name::new(role.parse().map_err(|_| malformed())?, id),
            [id, role, job, "job", "hurtig"] => Name::of_job(role.parse().map_err(|_| malformed())?, job, id),
            _ => Err(malformed()),
        }
    }
}

/// Whom a process means to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Exactly this process.
    Named(Name),
    /// Any process of this role in the cluster.
    Any(Role),
    /// Any process of this role in the job of this id.
    AnyOfJob(Role, String),
}

impl Peer {
    /// What must stand in the peer's certificate.
    pub fn dns_name(&self) -> String {
        match self {
            Peer::Named(name) => name.dns_name(),
            Peer::Any(role) => role_dns_name(*role, None),
            Peer::AnyOfJob(role, job) => role_dns_name(*role, Some(job)),
        }
    }

    /// Whether a process of this name is meant.
    pub fn is(&self, name: &Name) -> bool {
        match self {
            Peer::Named(named) => named == name,
            Peer::Any(role) => name.role == *role && name.job.is_none(),
            Peer::AnyOfJob(role, job) => name.role == *role && name.job() == Some(job),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dns_name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_read_back_as_written() {
        for name in [
            Name::new(Role::JobManager, "a").unwrap(),
            Name::new(Role::TaskManager, "host-7").unwrap(),
            Name::of_job(Role::Worker, "taskmanager", "master").unwrap(),
            Name::of_job(Role::Master, "job", "0").unwrap(),
        ] {
            assert_eq!(name.dns_name().parse::<Name>().unwrap(), name);
            assert!(name.role_dns_name().parse::<Name>().is_err(), "{}", name.role_dns_name());
        }
    }

    #[test]
    fn a_role_of_a_job_needs_the_job_and_others_must_have_none() {
        assert!(Name::new(Role::Worker, "a").is_err());
        assert!(Name::of_job(Role::Client, "job", "a").is_err());
        assert!("a.worker.hurtig".parse::<Name>().is_err());
        assert!("a.jobmanager.x.job.hurtig".parse::<Name>().is_err());
    }

    #[test]
    fn a_certificate_has_one_name_beside_hosts() {
        let among = |names: &[&str]| Name::among(names.iter().copied());
        let a = "a.client.hurtig";
        assert_eq!(among(&["localhost", a, "client.hurtig"]).unwrap().dns_name(), a);
        assert!(among(&["localhost", "client.hurtig"]).is_err());
        assert!(among(&[a, "b.client.hurtig"]).is_err());
        assert!(among(&[a, "jobmanager.hurtig"]).is_err());
        assert!(among(&[a, "B.CLIENT.HURTIG"]).is_err());
        assert!(among(&[a, "*.jobmanager.hurtig"]).is_err());
        assert!(among(&[]).is_err());
    }

    #[test]
    fn a_role_in_one_job_is_not_that_role_in_another() {
        let peer = Peer::AnyOfJob(Role::Worker, "j1".to_owned());
        assert!(peer.is(&Name::of_job(Role::Worker, "j1", "a").unwrap()));
        assert!(!peer.is(&Name::of_job(Role::Worker, "j2", "a").unwrap()));
        assert!(!peer.is(&Name::of_job(Role::Master, "j1", "a").unwrap()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_that_reads_back_or_none(text in "[a-zA-Z0-9.\\-\\PC]{0,100}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.dns_name(), text);
            }
        }
    }
}
