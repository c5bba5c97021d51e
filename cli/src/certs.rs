//! `hurtig certs`: the authority of a cluster and the certificates of its processes.

use std::path::PathBuf;
use std::process::ExitCode;

use hurtig_transport::{Authority, CertificateInfo, Name, Role, Validity};

/// Make and show the certificates by which the processes of a cluster know each other
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make the authority of a cluster, in a folder that stays secret
    Init {
        /// Folder for `ca.pem` and `ca.key`
        folder: PathBuf,
        /// Days that it is valid
        #[arg(long, value_name = "DAYS", default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a key and a certificate for a process; made again in the same folder they replace the old, and a process
    /// that runs takes them up
    Node {
        /// Folder of the authority
        #[arg(long, value_name = "FOLDER")]
        ca: PathBuf,
        /// What the process is: jobmanager, taskmanager or client
        #[arg(long)]
        role: String,
        /// Which of them: lower-case letters, digits and hyphens
        #[arg(long)]
        id: String,
        /// Days that it is valid
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Folder for `ca.pem`, `node.pem` and `node.key`: the process's 'cluster.certificates'
        folder: PathBuf,
    },
    /// Show what a certificate says
    Show {
        /// A folder made by this command, or a PEM file
        place: PathBuf,
    },
}

#[allow(clippy::disallowed_methods, reason = "a certificate's days are counted by the machine's clock")]
fn show(file: &std::path::Path) -> anyhow::Result<()> {
    let info = CertificateInfo::of_file(file)?;
    println!("{}", file.display());
    println!("  subject      {}", info.subject);
    println!("  issuer       {}", info.issuer);
    println!("  names        {}", info.names.join(", "));
    println!("  days left    {}", info.days_left(std::time::SystemTime::now()));
    println!("  fingerprint  {}", info.fingerprint);
    Ok(())
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Init { folder, days } => {
            Authority::create(&folder, "hurtig cluster", Validity::days(days))?;
            println!("{}", folder.display());
        }
        Verb::Node { ca, role, id, days, folder } => {
            let name = Name::new(role.parse::<Role>()?, &id)?;
            Authority::load(&ca)?.issue(&name, Validity::days(days), &[])?.save(&folder)?;
            println!("{name} in {}", folder.display());
        }
        Verb::Show { place } => {
            let files = match place.is_dir() {
                true => ["node.pem", "ca.pem"].map(|file| place.join(file)).to_vec(),
                false => vec![place],
            };
            for file in files.iter().filter(|file| file.exists() || files.len() == 1) {
                show(file)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
