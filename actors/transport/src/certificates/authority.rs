//! The authority of a cluster, in files, or of one job, in memory only.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{AUTHORITY_FILE, AUTHORITY_KEY_FILE, Identity, files};
use crate::error::Error;
use crate::name::{Name, is_ours};

/// By how much the clocks of two machines may differ when a certificate is new.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Validity {
    /// From now for `days`; it began an hour ago, since clocks differ.
    // certificates are checked against the machine's clock, which no simulation steers
    #[allow(clippy::disallowed_methods)]
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Validity { not_before: now - CLOCK_SKEW, not_after: now + days * DAY }
    }

    /// Between two points in time.
    pub fn between(not_before: SystemTime, not_after: SystemTime) -> Self {
        Validity { not_before, not_after }
    }

    fn apply(self, params: &mut CertificateParams) {
        params.not_before = OffsetDateTime::from(self.not_before);
        params.not_after = OffsetDateTime::from(self.not_after);
    }
}

/// Signs certificates. Whoever has its key decides who belongs to the cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM
    certificate: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority that lives in memory only, for one job or one local cluster. `name` is for humans.
    ///
    /// # Errors
    /// [`Error::Issue`] if signing fails.
    pub fn ephemeral(name: &str, validity: Validity) -> Result<Self, Error> {
        let failed = |source| Error::Issue { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity.apply(&mut params);
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    /// A new authority in a folder, which is created if need be. `name` is for humans.
    ///
    /// # Errors
    /// [`Error::File`] if the files cannot be written; [`Error::Certificate`] if there is an authority already: to
    /// replace it would shut out every process that has a certificate of it.
    pub fn create(folder: &Path, name: &str, validity: Validity) -> Result<Self, Error> {
        for file in [AUTHORITY_FILE, AUTHORITY_KEY_FILE] {
            let path = folder.join(file);
            if path.exists() {
                let reason = "exists already: to start anew, move it away; all certificates become invalid";
                return Err(Error::certificate(path.display(), reason));
            }
        }
        let authority = Self::ephemeral(name, validity)?;
        files::create_folder(folder)?;
        files::write(
            &folder.join(AUTHORITY_KEY_FILE),
            authority.issuer.key().serialize_pem().as_bytes(),
            files::SECRET,
        )?;
        files::write(&folder.join(AUTHORITY_FILE), authority.certificate.as_bytes(), files::PUBLIC)?;
        Ok(authority)
    }

    /// The authority of a folder. If `ca.pem` holds several certificates, because an authority is being replaced,
    /// the first is the one of the key.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read, [`Error::Certificate`] if it does not hold what it should.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = folder.join(file);
            String::from_utf8(files::read(&path)?)
                .map_err(|_| Error::certificate(path.display(), "is not a PEM file"))
        };
        let (certificate, key) = (read(AUTHORITY_FILE)?, read(AUTHORITY_KEY_FILE)?);
        let place = folder.join(AUTHORITY_KEY_FILE);
        let key = KeyPair::from_pem(&key)
            .map_err(|error| Error::certificate(place.display(), format!("is not a private key: {error}")))?;
        let info = super::CertificateInfo::of_pem(&certificate, &folder.join(AUTHORITY_FILE).display())?;
        if !info.is_of_key(&key) {
            return Err(Error::certificate(place.display(), format!("is not the key of {AUTHORITY_FILE}")));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| {
            Error::certificate(folder.join(AUTHORITY_FILE).display(), format!("is no authority: {error}"))
        })?;
        Ok(Authority { issuer, certificate })
    }

    /// A key and a certificate for a process. `hosts` are the names and addresses of its machine, which other
    /// programs than hurtig check, such as a browser; hurtig itself checks the process's name only.
    ///
    /// # Errors
    /// [`Error::Name`] if a host has a name that is reserved for processes, [`Error::Issue`] if it is no host name,
    /// or signing fails.
    pub fn issue(&self, name: &Name, validity: Validity, hosts: &[String]) -> Result<Identity, Error> {
        let failed = |source| Error::Issue { name: name.to_string(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{} {}", name.role(), name.id()));
        params.subject_alt_names = vec![dns(&name.dns_name())?, dns(&name.role_dns_name())?];
        for host in hosts {
            if is_ours(host) {
                return Err(Error::Name { name: host.clone(), reason: "is reserved for hurtig's processes" });
            }
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => dns(host)?,
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        validity.apply(&mut params);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Identity::from_pem(
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
            self.certificate.clone().into_bytes(),
            &name,
        )
    }

    /// The authority's certificate, as PEM; nothing secret.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }
}

fn dns(host: &str) -> Result<SanType, Error> {
    let source = |source| Error::Issue { name: host.to_owned(), source };
    Ok(SanType::DnsName(host.try_into().map_err(source)?))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "hurtig");
    subject.push(DnType::CommonName, name);
    subject
}
