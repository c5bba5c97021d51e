//! From a location as users write it to an object store and a path in it.

use crate::directory::Directory;
use crate::error::Error;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::HashMap;
use std::path::{Component, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Memory stores by name: every opening of a name must see the same files, as with any other store.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Buckets by name: their connections are used again.
#[cfg(feature = "s3")]
static BUCKETS: LazyLock<Mutex<HashMap<String, Arc<object_store::aws::AmazonS3>>>> =
    LazyLock::new(Mutex::default);

/// Understands paths, `file:`, `memory:` and, where they are built in, `s3:` and `hdfs:`.
pub(crate) fn parse(location: &str) -> Result<Directory, Error> {
    let invalid =
        |reason: &str| Error::InvalidLocation { location: location.to_string(), reason: reason.to_string() };
    if location.trim().is_empty() {
        return Err(invalid("it is empty"));
    }
    if let Some(rest) = location.strip_prefix("memory:") {
        return memory(location, rest.strip_prefix("//").unwrap_or(rest));
    }
    if let Some(rest) = location.strip_prefix("file:") {
        // `file:/path`, `file:///path` and `file://localhost/path` are the same place.
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(invalid("a file location needs an absolute path: 'file:///path'"));
        }
        let path =
            percent_decoded(path).ok_or_else(|| invalid("a percent sign is not followed by two digits"))?;
        return local(location, PathBuf::from(path));
    }
    #[cfg(feature = "s3")]
    if let Some(rest) = location.strip_prefix("s3://").or_else(|| location.strip_prefix("s3a://")) {
        return s3(location, rest);
    }
    #[cfg(feature = "hdfs")]
    if let Some(rest) = location.strip_prefix("hdfs://") {
        return hdfs(location, rest);
    }
    if let Some((scheme, _)) = location.split_once("://") {
        return Err(Error::UnsupportedScheme { scheme: scheme.into(), location: location.into() });
    }
    local(location, PathBuf::from(location))
}

fn memory(location: &str, rest: &str) -> Result<Directory, Error> {
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let root = Path::parse(path).map_err(|error| Error::InvalidLocation {
        location: location.to_string(),
        reason: error.to_string(),
    })?;
    let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let store = stores.entry(name.to_string()).or_default().clone();
    let url =
        if root.as_ref().is_empty() { format!("memory:{name}") } else { format!("memory:{name}/{root}") };
    Ok(Directory { store, root, url, is_local: false })
}

/// HDFS clusters by the address of their NameNode or the name of their service.
#[cfg(feature = "hdfs")]
static CLUSTERS: LazyLock<Mutex<HashMap<String, Arc<hdfs_native_object_store::HdfsObjectStore>>>> =
    LazyLock::new(Mutex::default);

/// A place in HDFS. Its configuration is read from `$HADOOP_CONF_DIR`, where it names services and encryption; who we are
/// says `$HADOOP_USER_NAME`, or Kerberos.
#[cfg(feature = "hdfs")]
fn hdfs(location: &str, rest: &str) -> Result<Directory, Error> {
    let invalid = |reason: String| Error::InvalidLocation { location: location.to_string(), reason };
    let (cluster, path) = rest.split_once('/').unwrap_or((rest, ""));
    if cluster.is_empty() {
        return Err(invalid("it names no NameNode and no service: 'hdfs://namenode:8020/path'".into()));
    }
    let root = Path::parse(path).map_err(|error| invalid(error.to_string()))?;
    let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let store = match clusters.get(cluster) {
        Some(store) => Arc::clone(store),
        None => {
            let builder = hdfs_native_object_store::HdfsObjectStoreBuilder::new();
            let built = builder.with_url(format!("hdfs://{cluster}")).build();
            let store = Arc::new(built.map_err(|error| invalid(error.to_string()))?);
            clusters.insert(cluster.to_string(), Arc::clone(&store));
            store
        }
    };
    let url = match root.as_ref() {
        "" => format!("hdfs://{cluster}"),
        path => format!("hdfs://{cluster}/{path}"),
    };
    Ok(Directory { store, root, url, is_local: false })
}

/// A place in a bucket. Who we are, where the bucket is and how it is reached say the environment variables that Amazon's
/// own tools read: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, and
/// `AWS_ALLOW_HTTP=true` for a store without TLS.
#[cfg(feature = "s3")]
fn s3(location: &str, rest: &str) -> Result<Directory, Error> {
    let invalid = |reason: String| Error::InvalidLocation { location: location.to_string(), reason };
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(invalid("it names no bucket: 's3://bucket/path'".into()));
    }
    let root = Path::parse(path).map_err(|error| invalid(error.to_string()))?;
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let store = match buckets.get(bucket) {
        Some(store) => Arc::clone(store),
        None => {
            let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket);
            let store = Arc::new(builder.build().map_err(|error| invalid(error.to_string()))?);
            buckets.insert(bucket.to_string(), Arc::clone(&store));
            store
        }
    };
    let url = match root.as_ref() {
        "" => format!("s3://{bucket}"),
        path => format!("s3://{bucket}/{path}"),
    };
    Ok(Directory { store, root, url, is_local: false })
}

fn local(location: &str, path: PathBuf) -> Result<Directory, Error> {
    let invalid = |reason: String| Error::InvalidLocation { location: location.to_string(), reason };
    let absolute = std::path::absolute(&path)
        .map_err(|error| invalid(format!("the current directory cannot be found: {error}")))?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    let url = clean.to_str().ok_or_else(|| invalid("it is not valid UTF-8".into()))?.to_string();
    let root = if url == "/" {
        Path::ROOT
    } else {
        Path::from_absolute_path(&clean).map_err(|error| invalid(error.to_string()))?
    };
    let store = Arc::new(LocalFileSystem::new().with_fsync(true));
    Ok(Directory { store, root, url, is_local: true })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::join;

    fn url(location: &str) -> String {
        let url = parse(location).unwrap().url;
        assert_eq!(parse(&url).unwrap().url, url, "the absolute spelling must name itself");
        url
    }

    #[test]
    fn every_spelling_of_a_place_leads_to_one() {
        for same in
            ["/a/b c", "/a/b c/", "/a//x/../b c", "file:///a/b%20c", "file:/a/b c", "file://localhost/a/b c"]
        {
            assert_eq!(url(same), "/a/b c");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(url("some/where"), here.join("some/where").to_str().unwrap());
        assert_eq!(url("./100%"), here.join("100%").to_str().unwrap());
        assert_eq!(url("a:b"), here.join("a:b").to_str().unwrap());
        assert_eq!(url("/"), "/");
        assert_eq!(url("memory:"), "memory:");
        assert_eq!(url("memory://x/y/"), "memory:x/y");
        assert_eq!(join(&url("memory:"), "y"), url("memory:/y"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        let check = |location: &str, words: &str| {
            let error = parse(location).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        };
        check("ftp://host/x", "scheme 'ftp' is not supported; use a path, 'file:///path'");
        #[cfg(not(feature = "hdfs"))]
        check(
            "hdfs://namenode/x",
            "scheme 'hdfs' is not supported by this program: build it with the feature",
        );
        #[cfg(feature = "hdfs")]
        check("hdfs:///x", "it names no NameNode");
        #[cfg(not(feature = "s3"))]
        check(
            "s3://bucket/x",
            "scheme 's3' is not supported by this program: build it with the feature 's3'",
        );
        #[cfg(feature = "s3")]
        check("s3:///x", "it names no bucket");
        check("", "it is empty");
        check("file://host/x", "needs an absolute path");
        check("file:///a%2", "percent");
    }
}
