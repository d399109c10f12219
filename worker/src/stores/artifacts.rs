//! The server's own store: artifacts as files where this worker sees the server's disk, over gRPC where it does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId};
use spool_proto::uri;
use spool_proto::wire::status::failure_of;
use spool_proto::wire::v1::{self, write_artifact::Kind};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use v1::artifact_service_client::ArtifactServiceClient;

/// Bytes of one message.
const PART: usize = 256 << 10;
/// Messages read ahead of the connection.
const PARTS_AHEAD: usize = 4;

/// The server's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    client: ArtifactServiceClient<Channel>,
    /// Its directory, where it is also this machine's. Asked once.
    local: Arc<OnceCell<Option<PathBuf>>>,
}

impl Artifacts {
    pub fn new(server: Channel) -> Artifacts {
        Artifacts { client: ArtifactServiceClient::new(server), local: Arc::default() }
    }

    /// The directory of all artifacts, if this machine sees the server's.
    pub async fn local(&self) -> Result<Option<&Path>, Failure> {
        let local = self.local.get_or_try_init(|| async {
            let located = self.client.clone().locate(v1::LocateRequest {}).await;
            let v1::Located { directory, mark_file, mark } = located.map_err(|status| failure(&status))?.into_inner();
            let (Ok(directory), Ok(mark_file)) = (uri::to_path(&directory), uri::to_path(&mark_file)) else {
                return Ok(None);
            };
            // A path alone could name another directory here.
            let found = crate::blocking(move || std::fs::read_to_string(mark_file)).await;
            let shared = found.is_ok_and(|found| found == mark);
            tracing::debug!(directory = %directory.display(), shared, "the server's artifacts");
            Ok::<_, Failure>(shared.then_some(directory))
        });
        Ok(local.await?.as_deref())
    }

    /// Bytes from `offset` on, and how many the artifact has in all. A length of 0 only looks.
    pub async fn read(&self, job: JobId, name: &str, offset: u64, length: u64) -> Result<(u64, Bytes), Failure> {
        let request = v1::ReadArtifact { job: job.0, name: name.into(), offset, length };
        let part = self.client.clone().read(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok((part.size, part.data))
    }

    /// Stores a file under a fenced name, which it answers.
    pub async fn write(&self, job: JobId, fence: Fence, file: &Path, bytes: u64) -> Result<String, Failure> {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, extension) = (text(file.file_stem()), text(file.extension()));
        let unreadable =
            |error: &std::io::Error| Failure::new(Class::Host, "store_failed", format!("{}: {error}", file.display()));
        let mut file = tokio::fs::File::open(file).await.map_err(|error| unreadable(&error))?;
        let (parts, stream) = tokio::sync::mpsc::channel(PARTS_AHEAD);
        let begin = v1::BeginArtifact { job: job.0, fence: fence.0, stem, extension, bytes };
        let send = async move {
            let message = |kind| v1::WriteArtifact { kind: Some(kind) };
            // A closed channel: the server has answered, and says why.
            if parts.send(message(Kind::Begin(begin))).await.is_err() {
                return Ok(());
            }
            loop {
                let mut data = bytes::BytesMut::with_capacity(PART);
                if file.read_buf(&mut data).await? == 0 || parts.send(message(Kind::Data(data.freeze()))).await.is_err()
                {
                    return Ok::<(), std::io::Error>(());
                }
            }
        };
        let mut client = self.client.clone();
        let (sent, written) = tokio::join!(send, client.write(ReceiverStream::new(stream)));
        sent.map_err(|error| unreadable(&error))?;
        Ok(written.map_err(|status| failure(&status))?.into_inner().name)
    }
}

fn failure(status: &tonic::Status) -> Failure {
    failure_of(status).unwrap_or_else(|| {
        let text = format!("the server did not answer about an artifact ({}: {})", status.code(), status.message());
        Failure::new(Class::Transient, "server_unreachable", text)
    })
}
