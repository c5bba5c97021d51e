//! Services of others that tests speak to: real ones, started for the test and ended with it.

use crate::http::get;
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
