//! An open input, read in blocks: cached, fetched ahead where the reading is sequential, and always the same version.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use spool_proto::call::SourceRead;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use tokio::task::JoinSet;

use super::artifacts::Artifacts;
use super::cache::Cache;
use super::refusal::{changed, http_status, is_transient, is_without_ranges, refusal};
use super::{BLOCK, Look, Object};

/// A file from a server that knows no ranges is read whole, and kept for the call: up to this many bytes.
pub const WHOLE_MAX: u64 = 16 << 20;
/// Blocks on their way ahead of the reader, at most: what fills a fast line in spite of its round trips.
const AHEAD_MAX: u64 = 32;
/// One block ahead for so many read in a row: what is fetched for nothing stays a small part of what is read.
const ROW_PER_AHEAD: u64 = 8;
/// A body that breaks off where nothing tells its version is asked for again, besides what the store's client retries.
const TRIES: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// An input that the worker fetches.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    bytes: u64,
    /// Of a server without ranges.
    whole: Option<Bytes>,
    ahead: JoinSet<()>,
    /// The block read last, and how many were read in a row up to it.
    last: u64,
    row: u64,
    /// Blocks before this one are on their way, or were.
    asked: u64,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Origin {
    Object(Object),
    /// It never changes: its name holds the number of the lease it was made under.
    Artifact {
        artifacts: Artifacts,
        job: JobId,
        name: String,
    },
}

/// What fetching ahead shares with the reader.
#[derive(Debug)]
struct Shared {
    origin: Origin,
    cache: Cache,
    /// Of the object in this version, in the cache.
    key: Arc<str>,
    version: Version,
    fetched: AtomicU64,
}

/// What tells one state of an object from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    bytes: u64,
    etag: Option<String>,
    /// Seconds of the epoch; looked at where there is no tag.
    modified: Option<i64>,
}

impl Version {
    fn of(meta: &ObjectMeta) -> Version {
        let etag = meta.e_tag.clone().filter(|tag| !tag.is_empty());
        // The client's word for "not told" is the epoch.
        let modified = Some(meta.last_modified.timestamp()).filter(|at| *at > 0 && etag.is_none());
        Version { bytes: meta.size, etag, modified }
    }

    fn text(&self) -> String {
        match (&self.etag, self.modified) {
            (Some(tag), _) => format!("{} {tag}", self.bytes),
            (None, Some(at)) => format!("{} @{at}", self.bytes),
            (None, None) => self.bytes.to_string(),
        }
    }

    /// Weak tags (RFC 9110, 8.8.3) never match a condition; the answer's own tag is compared instead.
    fn condition(&self) -> Option<String> {
        self.etag.clone().filter(|tag| !tag.starts_with("W/"))
    }
}

impl Origin {
    pub async fn look(&self) -> Result<Look, Failure> {
        let (version, _) = self.ask().await?;
        Ok(Look { bytes: version.bytes, version: version.text() })
    }

    /// The second is true where ranges are not honoured.
    async fn ask(&self) -> Result<(Version, bool), Failure> {
        match self {
            Origin::Object(object) => ask(object).await,
            Origin::Artifact { artifacts, job, name } => {
                let (bytes, _) = artifacts.read(*job, name, 0, 0).await?;
                Ok((Version { bytes, etag: Some(name.clone()), modified: None }, false))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Origin::Object(object) => object.shown.clone(),
            Origin::Artifact { job, name, .. } => format!("spool://{job}/{name}"),
        }
    }

    /// Tells it from all others, in the cache.
    fn key(&self) -> String {
        match self {
            Origin::Object(Object { store, path, .. }) => format!("{store}\0{path}"),
            Origin::Artifact { .. } => self.shown(),
        }
    }
}

/// One byte tells size, version, and whether ranges are honoured. A HEAD would not: a URL signed for GET refuses it.
async fn ask(object: &Object) -> Result<(Version, bool), Failure> {
    let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
    match object.store.get_opts(&object.path, options).await {
        Ok(answer) => Ok((Version::of(&answer.meta), false)),
        Err(error) if is_without_ranges(&error) => {
            // Its size is in the head of the answer; the body is not read.
            let answer = object.store.get(&object.path).await.map_err(|error| refusal(object, &error))?;
            Ok((Version::of(&answer.meta), true))
        }
        // An empty file has no first byte.
        Err(error) if http_status(&error) == Some(416) => Ok((Version { bytes: 0, etag: None, modified: None }, false)),
        Err(error) => Err(refusal(object, &error)),
    }
}

impl Remote {
    pub(super) async fn open(origin: Origin, cache: Cache, pinned: Option<&str>) -> Result<Remote, Failure> {
        let (version, without_ranges) = origin.ask().await?;
        if pinned.is_some_and(|pinned| pinned != version.text()) {
            return Err(changed(&origin.shown()));
        }
        let bytes = version.bytes;
        if without_ranges && bytes > WHOLE_MAX {
            let text = format!(
                "source {} is on a server that does not answer requests for ranges of bytes, and with {bytes} bytes too large to be \
                 fetched whole for every chunk (at most {WHOLE_MAX}); put it on a server that does, or into an S3 bucket",
                origin.shown()
            );
            return Err(Failure::new(Class::Input, "source_without_ranges", text));
        }
        // Without anything that tells versions apart, blocks are this call's alone.
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let alone = match version.etag.is_none() && version.modified.is_none() {
            true => OPENED.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        };
        let key = format!("{}\0{}\0{alone}", origin.key(), version.text()).into();
        let shared = Arc::new(Shared { origin, cache, key, version, fetched: AtomicU64::new(0) });
        let whole = match without_ranges {
            true => Some(shared.fetch(None).await?),
            false => None,
        };
        Ok(Remote { shared, bytes, whole, ahead: JoinSet::new(), last: 0, row: 0, asked: 0 })
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was fetched so far.
    pub fn read_so_far(&self) -> SourceRead {
        SourceRead {
            fetched_bytes: self.shared.fetched.load(Ordering::Relaxed),
            source_bytes: self.bytes,
            version: self.shared.version.text(),
        }
    }

    /// Bytes at a position: at most `length`, fewer where a block or the file ends, none behind its end. Cancel safe.
    ///
    /// # Errors
    /// `source_changed`, `source_missing`, `source_unreadable` (input), `source_unreachable` (transient).
    pub async fn read(&mut self, position: u64, length: u64) -> Result<Bytes, Failure> {
        if position >= self.bytes || length == 0 {
            return Ok(Bytes::new());
        }
        if let Some(whole) = &self.whole {
            return Ok(part(whole, position, length));
        }
        let number = position / BLOCK;
        self.read_ahead(number);
        let block = self.shared.block(number).await?;
        Ok(part(&block, position - number * BLOCK, length))
    }

    fn read_ahead(&mut self, number: u64) {
        match number.checked_sub(self.last) {
            Some(0) => return,
            Some(1) => self.row += 1,
            _ => (self.row, self.asked) = (0, 0),
        }
        self.last = number;
        while self.ahead.try_join_next().is_some() {}
        let end = (number + 1 + (self.row / ROW_PER_AHEAD).min(AHEAD_MAX).min(self.shared.cache.ahead()))
            .min(self.bytes.div_ceil(BLOCK));
        for next in self.asked.max(number + 1)..end {
            let shared = Arc::clone(&self.shared);
            // Its error is the reader's to meet, should it come so far.
            self.ahead.spawn(async move { drop(shared.block(next).await) });
        }
        self.asked = self.asked.max(end);
    }
}

/// From `from`, as much of `length` as there is.
fn part(bytes: &Bytes, from: u64, length: u64) -> Bytes {
    let have = bytes.len();
    let from = usize::try_from(from).unwrap_or(have).min(have);
    let length = usize::try_from(length).unwrap_or(have).min(have - from);
    bytes.slice(from..from + length)
}

impl Shared {
    async fn block(&self, number: u64) -> Result<Bytes, Failure> {
        let start = number * BLOCK;
        let end = (start + BLOCK).min(self.version.bytes);
        let cell = self.cache.cell(&self.key, number);
        // Who waits for another's fetch takes over when that one is stopped.
        cell.get_or_try_init(|| self.fetch(Some(start..end))).await.cloned()
    }

    /// `None`: all of it.
    async fn fetch(&self, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.fetch_once(range.clone()).await {
                Err(failure) if is_transient(&failure) && tries < TRIES => {
                    tracing::debug!(%failure, tries, "fetched again");
                    tokio::time::sleep(TRY_AGAIN_AFTER * tries).await;
                }
                done => return done,
            }
        }
    }

    async fn fetch_once(&self, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let wanted = range.as_ref().map_or(self.version.bytes, |range| range.end - range.start);
        let bytes = match &self.origin {
            Origin::Object(object) => self.fetch_object(object, range).await?,
            Origin::Artifact { artifacts, job, name } => {
                artifacts.read(*job, name, range.map_or(0, |range| range.start), wanted).await?.1
            }
        };
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 != wanted {
            let text = format!("source {}: {} bytes came instead of {wanted}", self.origin.shown(), bytes.len());
            return Err(Failure::new(Class::Transient, "source_unreachable", text));
        }
        Ok(bytes)
    }

    async fn fetch_object(&self, object: &Object, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let range = range.map(GetRange::Bounded);
        let options = GetOptions { range, if_match: self.version.condition(), ..GetOptions::default() };
        let refused = |error: Error| match is_without_ranges(&error) || http_status(&error) == Some(416) {
            // It was longer, and gave ranges, a moment ago.
            true => changed(&object.shown),
            false => refusal(object, &error),
        };
        let answer = object.store.get_opts(&object.path, options).await.map_err(refused)?;
        if Version::of(&answer.meta) != self.version {
            return Err(changed(&object.shown));
        }
        answer.bytes().await.map_err(|error| refusal(object, &error))
    }
}
