//! From a location to an object: clients, credentials, time limits.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use spool_proto::failure::{Class, Failure};
use spool_proto::uri::Location;

use super::Inner;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Without a byte for this long, a request is given up and made again.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A store that hiccups is asked again within the call; what takes longer is the task's to retry.
const RETRIES: usize = 6;
const RETRY_WITHIN: Duration = Duration::from_secs(60);
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };

/// Something that can be read, or written.
#[derive(Debug, Clone)]
pub struct Object {
    pub store: Arc<dyn ObjectStore>,
    pub path: Path,
    /// For messages: without what signs it.
    pub shown: String,
}

/// One client for all: connections are kept.
#[derive(Debug)]
struct Shared(HttpClient);

impl HttpConnector for Shared {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

fn setup(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Host, "storage_setup", format!("{what} cannot be set up on this machine: {error}"))
}

fn client() -> Result<HttpClient, Failure> {
    // Fails only where somebody was first, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .user_agent(concat!("spool/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENCE_MAX)
        .build();
    Ok(HttpClient::new(client.map_err(|error| setup("an HTTP client", &error))?))
}

pub(super) fn connect(inner: &Inner, location: &Location) -> Result<(Arc<dyn ObjectStore>, Path), Failure> {
    let shared = || inner.client.get_or_init(client).clone().map(Shared);
    let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_WITHIN };
    match location {
        // The whole URL is the store, and the object its empty path: nothing of it is encoded anew, and its query stays.
        Location::Http(url) => {
            let builder = HttpBuilder::new().with_url(url).with_retry(retry).with_http_connector(shared()?);
            let store = builder.build().map_err(|error| bad_uri("the URL", &error))?;
            Ok((Arc::new(store), Path::default()))
        }
        Location::S3 { bucket, key } => {
            let path = Path::parse(key).map_err(|error| bad_uri(&format!("the key {key:?}"), &error))?;
            let mut buckets = inner.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(store) = buckets.get(bucket) {
                return Ok((Arc::clone(store), path));
            }
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
            let store = builder.with_http_connector(shared()?).build();
            let store = store.map_err(|error| setup(&format!("access to s3://{bucket}"), &error))?;
            let store: Arc<dyn ObjectStore> = Arc::new(store);
            buckets.insert(bucket.clone(), Arc::clone(&store));
            Ok((store, path))
        }
        Location::File(_) | Location::Spool { .. } => {
            Err(Failure::new(Class::Internal, "bad_call", "a file of this house was looked for in an object store"))
        }
    }
}

fn bad_uri(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Spec, "bad_uri", format!("{what} cannot be used: {error}"))
}
