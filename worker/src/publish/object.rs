//! To an object store: in one request, or in parts that appear as one object when the last is there.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Error, GetOptions, PutMode, PutMultipartOptions, PutOptions, WriteMultipart,
};
use spool_proto::failure::{Class, Failure};
use tokio::runtime::Handle;

use super::{Alive, Content, From};
use crate::executor::Unanswered;
use crate::stores::{Object, advice, cause, http_status};

/// What is larger goes in parts of this many bytes.
const PART: u64 = 16 << 20;
/// S3 takes 10,000 parts.
const PARTS_MAX: u64 = 9_000;
/// Parts on their way.
const PARTS_AT_ONCE: usize = 3;
/// Between two looks at whether to go on.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// In the object's metadata: BLAKE3 of its content, so that a retry knows its own work.
const HASH_KEY: &str = "spool-blake3";

pub struct ObjectTarget {
    object: Object,
    overwrite: bool,
    runtime: Handle,
}

impl ObjectTarget {
    /// # Panics
    /// Outside of a runtime.
    pub fn new(object: Object, overwrite: bool) -> ObjectTarget {
        ObjectTarget { object, overwrite, runtime: Handle::current() }
    }

    pub fn holds(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<bool, Unanswered> {
        let Object { store, path, .. } = &self.object;
        let head = GetOptions { head: true, ..GetOptions::default() };
        let there = match self.wait(0, alive, store.get_opts(path, head))? {
            Err(Error::NotFound { .. }) => return Ok(false),
            // Who may write and not read cannot look. A condition, or the user's word, guards what is there all the same.
            Err(error) if is_denied(&error) && (self.overwrite || content.bytes <= PART) => return Ok(false),
            Err(error) => return Err(self.refused(&error).into()),
            Ok(there) => there,
        };
        let hash = there.attributes.get(&Attribute::Metadata(HASH_KEY.into()));
        if there.meta.size == content.bytes && hash.is_some_and(|hash| **hash == *content.hash) {
            return Ok(true);
        }
        if self.overwrite { Ok(false) } else { Err(super::exists(&self.object.shown).into()) }
    }

    pub fn put(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<(), Unanswered> {
        match content.from {
            From::File(path) => {
                let mut file = File::open(path).map_err(|error| super::stopped(&error, path))?;
                match content.bytes <= PART {
                    true => {
                        let bytes = part(&mut file, PART).map_err(|error| super::stopped(&error, path))?;
                        self.put_whole(bytes, content, alive)
                    }
                    false => self.put_parts(file, path, content, alive),
                }
            }
            From::Memory(bytes) => self.put_whole(Bytes::copy_from_slice(bytes), content, alive),
        }
    }

    fn put_whole(&self, bytes: Bytes, content: &Content<'_>, alive: Alive<'_>) -> Result<(), Unanswered> {
        let Object { store, path, .. } = &self.object;
        let put = |mode| {
            let options = PutOptions { mode, attributes: self.attributes(content), ..PutOptions::default() };
            store.put_opts(path, bytes.clone().into(), options)
        };
        let mode = if self.overwrite { PutMode::Overwrite } else { PutMode::Create };
        match self.wait(0, alive, put(mode))? {
            Ok(_) => Ok(()),
            // It may be our own, whose answer was lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => match self.holds(content, alive)? {
                true => Ok(()),
                false => Err(super::exists(&self.object.shown).into()),
            },
            // A store that knows no conditions: that nothing is there was seen a moment ago.
            Err(error) if is_unconditional(&error) => {
                let put = self.wait(0, alive, put(PutMode::Overwrite))?;
                put.map(drop).map_err(|error| self.refused(&error).into())
            }
            Err(error) => Err(self.refused(&error).into()),
        }
    }

    fn put_parts(
        &self,
        mut file: File,
        film: &std::path::Path,
        content: &Content<'_>,
        alive: Alive<'_>,
    ) -> Result<(), Unanswered> {
        let Object { store, path, .. } = &self.object;
        let size = PART.max(content.bytes.div_ceil(PARTS_MAX));
        let options = PutMultipartOptions { attributes: self.attributes(content), ..PutMultipartOptions::default() };
        let upload = self.wait(0, alive, store.put_multipart_opts(path, options))?;
        let upload = upload.map_err(|error| self.refused(&error))?;
        let chunk = usize::try_from(size).expect("a part fits memory");
        let mut upload = WriteMultipart::new_with_chunk_size(upload, chunk);
        let mut sent = 0;
        let written = loop {
            let bytes = match part(&mut file, size) {
                Ok(bytes) if bytes.is_empty() => break Ok(()),
                Ok(bytes) => bytes,
                Err(error) => break Err(super::stopped(&error, film)),
            };
            match self.wait(sent, alive, upload.wait_for_capacity(PARTS_AT_ONCE)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break Err(self.refused(&error).into()),
                Err(stopped) => break Err(stopped),
            }
            sent += bytes.len() as u64;
            upload.put(bytes);
        };
        // The last part but the completion, which no condition guards: what appeared meanwhile is seen here.
        let ready = written
            .and_then(|()| match self.wait(sent, alive, upload.wait_for_capacity(1))? {
                Ok(()) => Ok(()),
                Err(error) => Err(self.refused(&error).into()),
            })
            .and_then(|()| self.holds(content, alive));
        match ready {
            Ok(false) => {
                let done = self.wait(sent, alive, upload.finish())?;
                done.map(drop).map_err(|error| self.refused(&error).into())
            }
            other => {
                // Parts nobody asks for cost their owner money. When even this fails, the bucket's own rules remove them.
                if let Err(error) = self.runtime.block_on(upload.abort()) {
                    tracing::warn!(output = self.object.shown, %error, "an upload that ended could not be taken back");
                }
                other.map(drop)
            }
        }
    }

    fn attributes(&self, content: &Content<'_>) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(HASH_KEY.into()), content.hash.clone().into());
        attributes.insert(Attribute::ContentType, content_type(self.object.path.as_ref()).into());
        attributes
    }

    /// Drives a request on the runtime, looking at whether to go on.
    fn wait<T>(&self, sent: u64, alive: Alive<'_>, work: impl Future<Output = T>) -> Result<T, Unanswered> {
        self.runtime.block_on(async {
            tokio::pin!(work);
            loop {
                match tokio::time::timeout(LOOK_EVERY, &mut work).await {
                    Ok(done) => return Ok(done),
                    Err(_) if alive(sent) => {}
                    Err(_) => return Err(Unanswered::Stopped),
                }
            }
        })
    }

    fn refused(&self, error: &Error) -> Failure {
        let output = &self.object.shown;
        let spec = |why: String| Failure::new(Class::Spec, "output_unwritable", format!("output {output}: {why}"));
        match (error, http_status(error)) {
            (Error::NotFound { .. }, _) | (_, Some(404)) => spec("there is no such bucket; make it first".into()),
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
                spec(format!("it may not be written ({}); {}", cause(error), advice(output)))
            }
            (_, Some(status @ 400..500)) if !matches!(status, 408 | 429) => spec(cause(error)),
            _ => Failure::new(
                Class::Transient,
                "output_unreachable",
                format!("output {output} could not be written: {}; check the store and the network", cause(error)),
            ),
        }
    }
}

fn is_denied(error: &Error) -> bool {
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
}

fn is_unconditional(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. }) || http_status(error) == Some(501)
}

/// The next bytes of a file, up to `most`.
fn part(file: &mut File, most: u64) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// By the name's end, as browsers want to be told (RFC 4337, RFC 9559).
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("mp4") => "video/mp4",
        Some("mov") => "video/quicktime",
        Some("mkv") => "video/matroska",
        Some("webm") => "video/webm",
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("mpd") => "application/dash+xml",
        Some("m4s") => "video/iso.segment",
        Some("vtt") => "text/vtt",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
