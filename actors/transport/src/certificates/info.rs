//! What a certificate says, for humans and for the check of names.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::files;
use crate::error::Error;
use crate::name::Name;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whom it is for, for humans.
    pub subject: String,
    /// Who signed it, for humans.
    pub issuer: String,
    /// DNS names and addresses that it proves.
    pub names: Vec<String>,
    /// First moment of its validity.
    pub not_before: SystemTime,
    /// Last moment of its validity.
    pub not_after: SystemTime,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Whether it may sign others.
    pub is_authority: bool,
    public_key: Vec<u8>,
}

impl CertificateInfo {
    /// Of the first certificate in a PEM file.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, [`Error::Certificate`] if it holds no certificate.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let bytes = files::read(path)?;
        Self::of_pem(&String::from_utf8_lossy(&bytes), &path.display())
    }

    /// Days left, rounded down; negative if it has expired.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        const DAY_SECONDS: f64 = 24.0 * 3600.0;
        let seconds = match self.not_after.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(past) => -past.duration().as_secs_f64(),
        };
        (seconds / DAY_SECONDS).floor() as i64
    }

    /// The process that it names.
    ///
    /// # Errors
    /// [`Error::Name`] if it does not name exactly one.
    pub fn process(&self) -> Result<Name, Error> {
        Name::among(self.names.iter().map(String::as_str))
    }

    pub(super) fn of_pem(pem: &str, place: &dyn fmt::Display) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| Error::certificate(place, format!("holds no certificate: {error}")))?;
        Self::of_der(&der, place)
    }

    pub(crate) fn of_der(der: &[u8], place: &dyn fmt::Display) -> Result<Self, Error> {
        let bad =
            |reason: &dyn fmt::Display| Error::certificate(place, format!("is no certificate: {reason}"));
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| bad(&error))?;
        let validity = certificate.validity();
        Ok(CertificateInfo {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(&certificate).ok_or_else(|| bad(&"its names cannot be read"))?,
            not_before: system_time(validity.not_before.timestamp()),
            not_after: system_time(validity.not_after.timestamp()),
            fingerprint: fingerprint(der),
            is_authority: certificate.is_ca(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    pub(super) fn is_of_key(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }
}

fn names(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
        GeneralName::IPAddress(bytes) => {
            Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string())
        }
        _ => None,
    });
    Some(names.collect())
}

fn system_time(unix_seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(unix_seconds.unsigned_abs());
    let time = match unix_seconds >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(distance),
        false => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
