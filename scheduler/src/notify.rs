//! Tells the addresses that users named that their jobs have ended.
//!
//! A notice is a file in an outbox, written before the archive has the job: whatever dies in between, the job is found again as not
//! archived and its notice written once more, under the same name. The file goes when the address has taken it, or a day after the job
//! ended. All calls are made beside the run loop.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spool_proto::time::{Span, Timestamp};
use spool_proto::uri;
use spool_proto::view::JobView;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::files::write_json;

/// A call that takes longer has failed.
const CALL: Duration = Duration::from_secs(10);
/// Calls at once.
const CALLS_MAX: usize = 8;
/// Waits double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// So long after the job's end nobody is told any more.
const GIVE_UP: Span = Span::from_secs(24 * 3600);
/// What else there is in the folder is looked for so often.
const LOOK: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The same for every try at one end of a job.
    pub id: String,
    pub event: String,
    /// When the job ended.
    pub at: Timestamp,
    /// Without its tasks.
    pub job: JobView,
}

#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    url: String,
    event: Event,
}

/// Where notices wait.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    folder: PathBuf,
    filled: Arc<Notify>,
}

impl Outbox {
    pub fn new(folder: PathBuf) -> Outbox {
        Outbox { folder, filled: Arc::default() }
    }

    /// Keeps that a job has ended, for `url`.
    pub async fn put(&self, url: &str, job: JobView) -> io::Result<()> {
        let at = job.finished.unwrap_or_default();
        let id = format!("{}-{}", job.job, at.0);
        let notice = Notice { url: url.into(), event: Event { id, event: "job.ended".into(), at, job } };
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || write(&folder, &notice)).await.map_err(io::Error::other)??;
        self.filled.notify_one();
        Ok(())
    }

    /// Sends what there is and what comes, for ever.
    pub async fn send(self) {
        let mut waiting: BTreeMap<PathBuf, Wait> = BTreeMap::new();
        let mut calls: JoinSet<(PathBuf, bool)> = JoinSet::new();
        let mut client = None;
        loop {
            for path in self.files() {
                waiting.entry(path).or_default();
            }
            let now = Instant::now();
            for (path, wait) in &mut waiting {
                if wait.is_called || wait.until.is_some_and(|until| until > now) || calls.len() >= CALLS_MAX {
                    continue;
                }
                // Made when it is first needed: most servers tell nobody.
                let Some(client) = client.get_or_insert_with(client_of) else { continue };
                wait.is_called = true;
                calls.spawn(call(client.clone(), path.clone()));
            }
            let next = waiting.values().filter(|wait| !wait.is_called).filter_map(|wait| wait.until);
            // What is late waits for a call to end.
            let next = next.filter(|until| *until > now).min();
            let next = next.unwrap_or(now + LOOK).min(now + LOOK);
            tokio::select! {
                () = self.filled.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = calls.join_next() => match ended {
                    Ok((path, true)) => drop(waiting.remove(&path)),
                    Ok((path, false)) => waiting.entry(path).or_default().once_more(),
                    Err(error) => {
                        warn!(%error, "a call that tells of a job's end broke");
                        waiting.retain(|_, wait| !wait.is_called);
                    }
                },
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
    }
}

#[derive(Debug, Default)]
struct Wait {
    is_called: bool,
    tries: u32,
    /// `None`: now.
    until: Option<Instant>,
}

impl Wait {
    fn once_more(&mut self) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(12)).min(LONGEST_WAIT);
        self.tries += 1;
        (self.is_called, self.until) = (false, Some(Instant::now() + wait));
    }
}

/// All of it or nothing, also after a power cut.
fn write(folder: &Path, notice: &Notice) -> io::Result<()> {
    write_json(&folder.join(format!("{}.json", notice.event.id)), notice)
}

/// Follows nobody elsewhere: an address is what its user named.
fn client_of() -> Option<reqwest::Client> {
    // Another part of this process may have chosen it before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let built = reqwest::Client::builder()
        .timeout(CALL)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("spool/", env!("CARGO_PKG_VERSION")))
        .build();
    built.inspect_err(|error| warn!(%error, "no client for HTTP: nobody is told of jobs that ended")).ok()
}

/// Whether the notice is done with: taken, or given up.
async fn call(client: reqwest::Client, path: PathBuf) -> (PathBuf, bool) {
    let notice = match std::fs::read(&path).map(|bytes| serde_json::from_slice::<Notice>(&bytes)) {
        Ok(Ok(notice)) => notice,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (path, true),
        Err(error) => {
            warn!(path = %path.display(), %error, "a notice cannot be read yet");
            return (path, false);
        }
        Ok(Err(error)) => {
            warn!(path = %path.display(), %error, "a notice is damaged: nobody is told");
            return (path.clone(), remove(&path));
        }
    };
    let Notice { url, event } = &notice;
    let (id, job, shown) = (&event.id, event.job.job, uri::shown(url));
    let body = serde_json::to_vec(event).unwrap_or_default();
    let post = client
        .post(url)
        .header("content-type", "application/json")
        .header("spool-event", &event.event)
        .header("spool-event-id", id)
        .body(body);
    let why = match post.send().await {
        Ok(answer) if answer.status().is_success() => {
            info!(%job, url = shown, id, "told that the job has ended");
            return (path.clone(), remove(&path));
        }
        Ok(answer) => format!("it answered {}", answer.status()),
        // The text would show the address with its query.
        Err(error) => error.without_url().to_string(),
    };
    if now() > event.at + GIVE_UP {
        warn!(%job, url = shown, id, why, "could not be told that the job has ended; given up after a day");
        return (path.clone(), remove(&path));
    }
    debug!(%job, url = shown, id, why, "could not be told yet that the job has ended");
    (path, false)
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A file that stays would be sent again: it is tried again, then.
fn remove(path: &Path) -> bool {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "a notice that was sent cannot be removed");
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        let mut wait = Wait::default();
        let mut seconds = Vec::new();
        for _ in 0..15 {
            let before = Instant::now();
            wait.once_more();
            seconds.push(wait.until.map(|until| (until - before).as_secs()));
        }
        assert_eq!(seconds[..4], [1, 2, 4, 8].map(Some));
        assert_eq!(seconds[11..], [2048, 3600, 3600, 3600].map(Some));
    }
}
