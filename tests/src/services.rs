//! Services of others that tests speak to: real ones, started for the test and ended with it.

use crate::http::{get, request};
use crate::processes::wait_until;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a service may take to be there.
const START: Duration = Duration::from_secs(120);

/// An S3 server that keeps all in memory (moto).
pub struct S3 {
    server: Child,
    address: SocketAddr,
}

/// What a script has fetched.
fn fetched(name: &str, file: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache").join(name);
    assert!(folder.join(file).exists(), "{} is missing: scripts/fetch-{name} fetches it", folder.display());
    folder
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

impl S3 {
    /// Starts a server with a bucket.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(bucket: &str) -> Self {
        let (address, environment) = (free_address(), fetched("moto", "bin/moto_server"));
        let mut command = Command::new(environment.join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let s3 = S3 { server, address };
        wait_until("the S3 server", START, || TcpStream::connect(address).is_ok());
        let create = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket=sys.argv[2])";
        let mut python = Command::new(environment.join("bin/python"));
        let created = python.args(["-c", create, &s3.url(), bucket]).envs(s3.variables()).status();
        assert!(created.expect("python starts").success(), "the bucket '{bucket}' is not made");
        s3
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment variables of those that are to speak to it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_DEFAULT_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // One that has ended is what is wanted.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// HDFS: a NameNode and a DataNode, each a process.
pub struct Hdfs {
    servers: Vec<Child>,
    name_node: SocketAddr,
    page: SocketAddr,
    _folder: TempDir,
}

/// What a Hadoop configuration file is made of.
fn write_site(file: &Path, properties: &[(&str, String)]) {
    let property = |(name, value): &(&str, String)| {
        format!("<property><name>{name}</name><value>{value}</value></property>\n")
    };
    let all: String = properties.iter().map(property).collect();
    fs::write(file, format!("<configuration>\n{all}</configuration>\n")).expect("a file");
}

impl Hdfs {
    /// Number of files and folders there are.
    pub fn files(&self) -> u64 {
        let state = get(self.page, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState");
        state["beans"][0]["FilesTotal"].as_u64().unwrap_or_default()
    }

    /// Formats a file system and starts it.
    ///
    /// # Panics
    /// It does not start.
    pub fn start() -> Self {
        let jars = fetched("hadoop", "jars").join("jars");
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_path_buf();
        let at = |name: &str| root.join(name);
        // The jars have no web pages, without which the NameNode does not start.
        for place in ["conf", "web/webapps/hdfs", "web/webapps/datanode", "web/webapps/static"] {
            fs::create_dir_all(at(place)).expect("a folder");
        }
        let [name_node, page, data, data_page, data_control] = std::array::from_fn(|_| free_address());
        let default = ("fs.defaultFS", format!("hdfs://{name_node}"));
        write_site(
            &at("conf/core-site.xml"),
            &[default, ("hadoop.tmp.dir", at("tmp").display().to_string())],
        );
        write_site(
            &at("conf/hdfs-site.xml"),
            &[
                ("dfs.replication", "1".into()),
                ("dfs.permissions.enabled", "false".into()),
                ("dfs.namenode.rpc-address", name_node.to_string()),
                ("dfs.namenode.http-address", page.to_string()),
                ("dfs.namenode.name.dir", format!("file://{}", at("names").display())),
                ("dfs.namenode.safemode.extension", "0".into()),
                ("dfs.namenode.datanode.registration.ip-hostname-check", "false".into()),
                ("dfs.datanode.data.dir", format!("file://{}", at("data").display())),
                ("dfs.datanode.address", data.to_string()),
                ("dfs.datanode.http.address", data_page.to_string()),
                ("dfs.datanode.ipc.address", data_control.to_string()),
            ],
        );
        let path = format!("{}:{}:{}/*", at("conf").display(), at("web").display(), jars.display());
        let java = |class: &str, log: &str| {
            let log = File::create(at(log)).expect("a log");
            let mut java = Command::new("java");
            java.args(["-Xmx256m", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true", "-cp", &path])
                .arg(format!("org.apache.hadoop.hdfs.server.{class}"))
                .env("HADOOP_CONF_DIR", at("conf"))
                .stdout(log.try_clone().expect("a log"))
                .stderr(log);
            java
        };
        let formatted = java("namenode.NameNode", "format.log").args(["-format", "-nonInteractive"]).status();
        assert!(formatted.expect("java starts").success(), "{:?}", fs::read_to_string(at("format.log")));
        let mut hdfs = Hdfs { servers: Vec::new(), name_node, page, _folder: folder };
        for (class, log, port) in [
            ("namenode.NameNode", "namenode.log", name_node),
            ("datanode.DataNode", "datanode.log", data_control),
        ] {
            hdfs.servers.push(java(class, log).spawn().expect("java starts"));
            wait_until(class, START, || TcpStream::connect(port).is_ok());
        }
        wait_until("a DataNode that the NameNode knows", START, || {
            TcpStream::connect(page).is_ok()
                && get(page, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState")["beans"][0]["NumLiveDataNodes"]
                    == 1
        });
        hdfs
    }

    /// A place in it.
    pub fn url(&self, path: &str) -> String {
        format!("hdfs://{}/{path}", self.name_node)
    }
}

impl Drop for Hdfs {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // One that has ended is what is wanted.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A Prometheus that fetches the metrics of one address each second.
pub struct Prometheus {
    server: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(target: SocketAddr) -> Self {
        let (address, folder) = (free_address(), tempfile::tempdir().expect("a folder"));
        let config = folder.path().join("prometheus.yml");
        let scrape = format!(
            "scrape_configs:\n- job_name: hurtig\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(&config, scrape).expect("a file");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("prometheus starts: scripts/test installs it");
        let is_ready = || request(address, "GET", "/-/ready", &[], &[]).status == 200;
        wait_until("Prometheus", START, || TcpStream::connect(address).is_ok() && is_ready());
        Prometheus { server, address, _folder: folder }
    }

    /// The values of a query now, one for each series.
    pub fn query(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{answer}");
        let rows = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row["value"][1].as_str()?.parse().ok()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended is what is wanted.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A Graphite that writes each metric into a file.
pub struct Graphite {
    server: Child,
    /// Where it is reached by its text protocol.
    pub address: SocketAddr,
    folder: TempDir,
}

impl Graphite {
    /// Starts it.
    ///
    /// # Panics
    /// It does not start.
    pub fn start() -> Self {
        let [address, pickle, query] = std::array::from_fn(|_| free_address());
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let config = format!(
            "[cache]\nSTORAGE_DIR = {at}\nLOCAL_DATA_DIR = {at}/whisper\nCONF_DIR = {at}\nLOG_DIR = {at}\nPID_DIR = {at}\n\
             DATABASE = whisper\nLINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\n\
             PICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {}\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {}\nMAX_CREATES_PER_MINUTE = inf\n",
            address.port(),
            pickle.port(),
            query.port(),
        );
        fs::write(folder.path().join("carbon.conf"), config).expect("a file");
        let schemas = "[all]\npattern = .*\nretentions = 1s:1h\n";
        fs::write(folder.path().join("storage-schemas.conf"), schemas).expect("a file");
        // Debian's Python, which has what it needs, whichever comes first on the path.
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg("/usr/bin/carbon-cache")
            .arg(format!("--config={at}/carbon.conf"))
            .args(["--nodaemon", "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.spawn().expect("carbon-cache starts: scripts/test installs it");
        let graphite = Graphite { server, address, folder };
        wait_until("Graphite", START, || TcpStream::connect(address).is_ok());
        graphite
    }

    /// The last value of a metric that was written down.
    pub fn last(&self, name: &str) -> Option<f64> {
        let file = self.folder.path().join("whisper").join(name.replace('.', "/")).with_extension("wsp");
        if !file.exists() {
            return None;
        }
        let rows = Command::new("/usr/bin/python3").arg("/usr/bin/whisper-fetch").arg(file).output().ok()?;
        let rows = String::from_utf8_lossy(&rows.stdout).into_owned();
        rows.lines().rev().find_map(|row| row.split_whitespace().nth(1)?.parse().ok())
    }
}

impl Drop for Graphite {
    fn drop(&mut self) {
        // One that has ended is what is wanted.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
