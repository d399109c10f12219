//! What is not a file of this machine: sources read by range over `http(s)://` and `s3://`, through `object_store`.
//!
//! One [`Stores`] serves all of a worker's executors: they share its connections and its cache of blocks, because neighbouring
//! chunks want the same ones. An executor asks for bytes of an input by number; neither URL nor credentials reach it.
//!
//! Artifacts of jobs (`spool://`) are read the same way from the server, where this machine does not see its disk.
//!
//! Reading order: `connect` (from a location to an object), `artifacts` (the server's
//! store), `cache` (blocks), `remote` (an open input), `refusal` (what errors
//! mean).

mod artifacts;
mod cache;
mod connect;
mod refusal;
mod remote;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use object_store::ObjectStore;
use object_store::client::HttpClient;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId};
use spool_proto::uri::{Location, shown};
use tonic::transport::Channel;

use artifacts::Artifacts;
use cache::Cache;
pub(crate) use connect::Object;
pub(crate) use refusal::{advice, cause, http_status, refusal};
use remote::Origin;
pub use remote::Remote;

/// Bytes of a block: what one request asks for, and what is cached. Small beside a chunk's share of a film, so that what is fetched
/// around its edges and for the film's head is little; round trips are hidden by fetching ahead.
pub const BLOCK: u64 = 256 << 10;
/// Bytes of blocks kept, where nobody says otherwise.
pub const CACHE_DEFAULT: u64 = 128 << 20;

/// Object stores, as one worker uses them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: OnceLock<Result<HttpClient, Failure>>,
    /// By name. They keep credentials that expire.
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    cache: Cache,
    /// `None`: there is no server.
    artifacts: Option<Artifacts>,
}

/// What is known of something without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub bytes: u64,
    /// See [`spool_proto::call::SourceRead::version`].
    pub version: String,
}

impl Default for Stores {
    fn default() -> Stores {
        Stores::new(CACHE_DEFAULT, None)
    }
}

impl Stores {
    /// Keeps `cache` bytes of what was read, in whole blocks; artifacts are those of `server`. Connects to nothing yet.
    pub fn new(cache: u64, server: Option<Channel>) -> Stores {
        let artifacts = server.map(Artifacts::new);
        let cache = Cache::new(usize::try_from(cache / BLOCK).unwrap_or(usize::MAX));
        Stores { inner: Arc::new(Inner { client: OnceLock::new(), buckets: Mutex::default(), cache, artifacts }) }
    }

    /// Opens an input that is no file of this machine. `pinned`: the version it must have.
    ///
    /// # Errors
    /// `source_missing`, `source_unreadable`, `source_changed`, `source_without_ranges` (input), `source_unreachable` (transient),
    /// `bad_uri`, `unsupported_scheme` (spec), `storage_setup` (host).
    pub(crate) async fn open(&self, uri: &str, pinned: Option<&str>) -> Result<Remote, Failure> {
        let origin = match Location::parse(uri)? {
            Location::Spool { job, name } => Origin::Artifact { artifacts: self.artifacts()?.clone(), job, name },
            location => Origin::Object(self.object(&location, uri)?),
        };
        Remote::open(origin, self.inner.cache.clone(), pinned).await
    }

    /// What stands at a URI that is no file of this machine; `None`: nothing.
    ///
    /// # Errors
    /// As [`Stores::open`], but for `source_missing`.
    pub async fn look(&self, uri: &str) -> Result<Option<Look>, Failure> {
        let object = self.object(&Location::parse(uri)?, uri)?;
        match Origin::Object(object).look().await {
            Ok(look) => Ok(Some(look)),
            Err(failure) if failure.code == "source_missing" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The file of this machine that a URI names: `file://`, or an artifact on a disk that is also the server's.
    ///
    /// # Errors
    /// `bad_uri`, `unsupported_scheme` (spec), `server_unreachable` (transient).
    pub(crate) async fn path(&self, uri: &str) -> Result<Option<PathBuf>, Failure> {
        match Location::parse(uri)? {
            Location::File(path) => Ok(Some(path)),
            Location::Spool { job, name } => {
                let local = self.artifacts()?.local().await?;
                Ok(local.map(|directory| directory.join(job.to_string()).join(name)))
            }
            Location::Http(_) | Location::S3 { .. } => Ok(None),
        }
    }

    /// Stores a file of this machine as an artifact of a job whose server is elsewhere. Answers its name.
    ///
    /// # Errors
    /// `artifact_directory_gone`, `disk_full`, `store_failed` (host), `lease_not_held`, `server_unreachable` (transient).
    pub(crate) async fn upload(&self, job: JobId, fence: Fence, file: &Path, bytes: u64) -> Result<String, Failure> {
        self.artifacts()?.write(job, fence, file, bytes).await
    }

    fn artifacts(&self) -> Result<&Artifacts, Failure> {
        self.inner.artifacts.as_ref().ok_or_else(|| {
            let text = "spool:// names artifacts of a server's jobs, and there is no server here; name a file, https:// or s3://";
            Failure::new(Class::Spec, "unsupported_scheme", text)
        })
    }

    pub(crate) fn object(&self, location: &Location, uri: &str) -> Result<Object, Failure> {
        let (store, path) = connect::connect(&self.inner, location)?;
        Ok(Object { store, path, shown: shown(uri) })
    }
}
