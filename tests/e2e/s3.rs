//! An S3-compatible store of a test: s3s over a folder, on a free port. It honours ranges, conditions, and checks signatures.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const KEY_ID: &str = "AKTEST";
const SECRET: &str = "a-secret-of-the-tests";

/// Stops when dropped, and its folder goes.
pub struct S3Store {
    root: tempfile::TempDir,
    port: u16,
    _runtime: Runtime,
}

impl S3Store {
    /// With one bucket, `films`.
    pub fn new() -> S3Store {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("films")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await
                });
            }
        });
        S3Store { root, port, _runtime: runtime }
    }

    /// The file behind `s3://films/KEY`.
    pub fn file(&self, key: &str) -> PathBuf {
        self.root.path().join("films").join(key)
    }

    /// Of all objects.
    pub fn content_types(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.root.path()).unwrap().flatten();
        let kept = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".metadata.json"));
        let read = |entry: std::fs::DirEntry| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()
        };
        kept.filter_map(|entry| Some(read(entry)["content_type"].as_str()?.to_owned())).collect()
    }

    /// With the credentials of this store.
    pub fn open_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
    }
}
