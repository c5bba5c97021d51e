//! Where things of a cluster lie on this machine: folders, certificates.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hurtig::Config;
use hurtig_transport::{Role, Tls};

use crate::failure::Failure;

/// File in a JobManager's folder that says where its web page is.
pub(crate) const WEB_ADDRESS: &str = "web-address";

/// The folder of this machine's daemons.
pub(crate) fn folder(config: &Config) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &config.cluster.dir {
        return Ok(std::path::absolute(dir)?);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("no home folder: set 'cluster.dir' to a folder for what the cluster keeps")?;
    Ok(PathBuf::from(home).join(".hurtig"))
}

/// Where a local cluster puts the certificates of a role.
pub(crate) fn local_certificates(folder: &Path, role: Role) -> PathBuf {
    folder.join("certs").join(role.as_str())
}

/// The identity of this process.
pub(crate) fn tls(config: &Config, role: Role) -> anyhow::Result<Tls> {
    let folder = match &config.cluster.certificates {
        Some(folder) => folder.clone(),
        None => local_certificates(&folder(config)?, role),
    };
    let tls = Tls::from_folder(&folder).with_context(|| {
        format!(
            "no certificate in {}: set 'cluster.certificates' to the folder that `hurtig certs node` has made, or start `hurtig cluster` on this machine",
            folder.display()
        )
    })?;
    anyhow::ensure!(
        tls.name().role() == role,
        "the certificate in {} is of a {}, and this needs one of a {role}: make it with `hurtig certs node`",
        folder.display(),
        tls.name().role(),
    );
    Ok(tls)
}

/// Whether the addresses of JobManagers are addresses at all.
pub(crate) fn check_job_managers(config: &Config) -> anyhow::Result<()> {
    config.cluster.job_managers().iter().try_for_each(|address| check_address("cluster.jobmanager", address))
}

/// Whether an address is one at all.
pub(crate) fn check_address(key: &str, address: &str) -> anyhow::Result<()> {
    let is_address =
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address {
        return Ok(());
    }
    let message = format!("'{address}' in '{key}' is no address: expected HOST:PORT, such as 127.0.0.1:6123");
    Err(Failure { code: 2, message }.into())
}
