//! `ArtifactService`: pieces between the steps of a job, for workers that do not share this machine's disk.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId};
use spool_proto::uri;
use spool_proto::view::TaskState;
use spool_proto::wire::{BadField, v1};
use tonic::{Request, Response, Status, Streaming};
use v1::artifact_service_server::ArtifactService;
use v1::write_artifact::Kind;

use super::status;
use crate::run_loop::inbox::Inbox;

/// Bytes of one answer to Read, at most.
const READ_MAX: u64 = 1 << 20;

/// The store of artifacts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    inbox: Inbox,
    /// Canonical.
    directory: PathBuf,
    /// A file beside the directory, and what stands in it: who finds that there sees this very directory.
    mark_file: PathBuf,
    mark: String,
}

impl Artifacts {
    /// Leaves the mark. Blocks, briefly.
    pub(crate) fn new(inbox: Inbox, directory: PathBuf) -> io::Result<Artifacts> {
        // It needs to differ from every other server's, not to be secret.
        let random = || RandomState::new().build_hasher().finish();
        let mark = format!("{:016x}{:016x}", random(), random());
        let mark_file = directory.with_extension("mark");
        std::fs::write(&mark_file, &mark)?;
        Ok(Artifacts { inbox, directory, mark_file, mark })
    }

    /// Only who holds a task of the job may leave something, and only under the number of that lease.
    async fn check_lease(&self, job: JobId, fence: Fence) -> Result<(), Failure> {
        let holds = self.inbox.query(move |engine, _| {
            let holding = [TaskState::Running, TaskState::Prefetched];
            let held = |job| engine.tasks(job).any(|task| task.fence == Some(fence) && holding.contains(&task.state));
            engine.job(job).is_some_and(held)
        });
        match holds.await? {
            true => Ok(()),
            false => Err(Failure::new(
                Class::Transient,
                "lease_not_held",
                format!("an artifact of {job} came under lease {}, which nobody holds any more", fence.0),
            )),
        }
    }

    async fn write_stream(&self, mut parts: Streaming<v1::WriteArtifact>) -> Result<v1::WrittenArtifact, Status> {
        let first = parts.message().await?.and_then(|part| part.kind);
        let Some(Kind::Begin(v1::BeginArtifact { job, fence, stem, extension, bytes })) = first else {
            return Err(BadField::new("kind", "the first message must say what is written").into());
        };
        let (job, fence) = (JobId(job), Fence(fence));
        let name = format!("{stem}.f{}.{extension}", fence.0);
        if !uri::is_artifact_name(&name) {
            return Err(BadField::new("begin.stem", format!("{name:?} is no artifact's name")).into());
        }
        let refuse = |failure: Failure| status(&failure);
        self.check_lease(job, fence).await.map_err(refuse)?;
        let folder = self.directory.join(job.to_string());
        let part = folder.join(format!("{name}.part"));
        let failed = |error: &io::Error| status(&write_failure(&folder, error));
        let mut writing = Part::create(part).await.map_err(|error| failed(&error))?;
        while let Some(message) = parts.message().await? {
            let Some(Kind::Data(data)) = message.kind else {
                return Err(BadField::new("kind", "only data follows").into());
            };
            writing.append(data).await.map_err(|error| failed(&error))?;
        }
        if writing.bytes != bytes {
            return Err(BadField::new("begin.bytes", format!("{} bytes came, not {bytes}", writing.bytes)).into());
        }
        // It may have been lost meanwhile, and the job be over.
        self.check_lease(job, fence).await.map_err(refuse)?;
        writing.finish(folder.join(&name)).await.map_err(|error| failed(&error))?;
        Ok(v1::WrittenArtifact { name })
    }
}

/// A file that is written. Dropped before it is finished, it goes.
struct Part {
    file: Option<File>,
    path: PathBuf,
    bytes: u64,
}

impl Part {
    /// Never makes the folder: when it is gone, the job is over.
    async fn create(path: PathBuf) -> io::Result<Part> {
        let at = path.clone();
        let file = blocking(move || File::create(at)).await?;
        Ok(Part { file: Some(file), path, bytes: 0 })
    }

    async fn append(&mut self, data: impl AsRef<[u8]> + Send + 'static) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Err(ErrorKind::BrokenPipe.into()) };
        self.bytes += data.as_ref().len() as u64;
        self.file = Some(blocking(move || file.write_all(data.as_ref()).map(|()| file)).await?);
        Ok(())
    }

    /// Durable under its name.
    async fn finish(mut self, target: PathBuf) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Err(ErrorKind::BrokenPipe.into()) };
        let path = self.path.clone();
        blocking(move || {
            file.sync_all()?;
            std::fs::rename(&path, &target)?;
            File::open(target.parent().unwrap_or(Path::new("/")))?.sync_all()
        })
        .await
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After it was finished, nothing is there.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn write_failure(folder: &Path, error: &io::Error) -> Failure {
    let shown = folder.display();
    match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Class::Host,
            "artifact_directory_gone",
            format!("{shown} is gone: the job is over, or somebody cleaned the data directory"),
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::new(
            Class::Host,
            "disk_full",
            format!("{shown}: the server's disk is full; make room and retry the job"),
        ),
        _ => Failure::new(Class::Host, "store_failed", format!("{shown}: {error}")),
    }
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    async fn locate(&self, _: Request<v1::LocateRequest>) -> Result<Response<v1::Located>, Status> {
        Ok(Response::new(v1::Located {
            directory: uri::from_path(&self.directory),
            mark_file: uri::from_path(&self.mark_file),
            mark: self.mark.clone(),
        }))
    }

    async fn read(&self, request: Request<v1::ReadArtifact>) -> Result<Response<v1::ArtifactPart>, Status> {
        let v1::ReadArtifact { job, name, offset, length } = request.into_inner();
        if !uri::is_artifact_name(&name) {
            return Err(BadField::new("name", format!("{name:?} is no artifact's name")).into());
        }
        let path = self.directory.join(JobId(job).to_string()).join(&name);
        let at = path.clone();
        let read = blocking(move || {
            let file = File::open(at)?;
            let size = file.metadata()?.len();
            let length = length.min(READ_MAX).min(size.saturating_sub(offset));
            let mut data = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut data, offset)?;
            Ok(v1::ArtifactPart { size, data: data.into() })
        });
        let read = read.await.map_err(|error| {
            let shown = path.display();
            status(&match error.kind() {
                ErrorKind::NotFound => Failure::new(
                    Class::Host,
                    "artifact_missing",
                    format!("{shown}, an intermediate file of the job, is gone; do not clean the data directory of a job at work"),
                ),
                _ => Failure::new(
                    Class::Host,
                    "artifact_unreadable",
                    format!("{shown}, an intermediate file of the job, cannot be read: {error}"),
                ),
            })
        });
        Ok(Response::new(read?))
    }

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteArtifact>>,
    ) -> Result<Response<v1::WrittenArtifact>, Status> {
        self.write_stream(request.into_inner()).await.map(Response::new)
    }
}
