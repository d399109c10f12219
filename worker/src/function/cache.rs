//! Functions that were fetched from the server: each version once, checked against its hash, kept while there is room.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use spool_function::package::is_hash;
use spool_function::{File, Manifest, Package};
use spool_proto::failure::{Class, Failure};
use spool_proto::wire::status::failure_of;
use spool_proto::wire::v1;
use tonic::transport::Channel;
use v1::function_service_client::FunctionServiceClient;

use crate::transfer::write_failure;

/// Bytes of functions kept beyond those that run.
const KEPT_MAX: u64 = 1 << 30;
/// A function's files and what encodes them.
const MESSAGE_BYTES_MAX: usize = 80 << 20;

/// A version, on the disk for as long as this lives.
#[derive(Debug)]
pub struct Ready {
    pub manifest: Manifest,
    pub folder: PathBuf,
    bytes: u64,
    /// Read from somebody's own folder, and left there.
    borrowed: bool,
}

impl Ready {
    /// A folder that is no copy of the worker's.
    pub fn borrowed(package: &Package, folder: PathBuf) -> Ready {
        Ready { manifest: package.manifest().clone(), folder, bytes: 0, borrowed: true }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if !self.borrowed
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "a function could not be removed");
        }
    }
}

#[derive(Debug)]
pub struct Cache {
    server: Channel,
    root: PathBuf,
    /// By hash. A version that is being fetched is waited for.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Numbers uses.
    uses: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    ready: tokio::sync::Mutex<Option<Arc<Ready>>>,
    used: std::sync::atomic::AtomicU64,
}

impl Cache {
    /// `root`: a directory of its own, made when it is needed.
    pub fn new(server: Channel, root: PathBuf) -> Cache {
        Cache { server, root, slots: Mutex::default(), uses: std::sync::atomic::AtomicU64::new(0) }
    }

    /// The version, fetched unless it is here.
    ///
    /// # Errors
    /// `server_unreachable` (transient), `function_damaged` (host), those of the server, and of a full disk.
    pub async fn get(&self, hash: &str) -> Result<Arc<Ready>, Failure> {
        use std::sync::atomic::Ordering::Relaxed;
        if !is_hash(hash) {
            return Err(Failure::new(Class::Internal, "bad_call", format!("{hash:?} is no version of a function")));
        }
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(hash.to_owned()).or_default())
        };
        slot.used.store(self.uses.fetch_add(1, Relaxed), Relaxed);
        let mut ready = slot.ready.lock().await;
        if let Some(ready) = ready.as_ref() {
            return Ok(Arc::clone(ready));
        }
        let fetched = Arc::new(self.fetch(hash).await?);
        *ready = Some(Arc::clone(&fetched));
        drop(ready);
        self.make_room();
        Ok(fetched)
    }

    /// Lets go of those used longest ago that nothing runs.
    fn make_room(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = Vec::new();
        let mut bytes = 0;
        for (hash, slot) in slots.iter() {
            // One that is locked is in use.
            let Ok(ready) = slot.ready.try_lock() else { continue };
            let Some(ready) = ready.as_ref() else { continue };
            bytes += ready.bytes;
            if Arc::strong_count(ready) == 1 {
                idle.push((slot.used.load(std::sync::atomic::Ordering::Relaxed), ready.bytes, hash.clone()));
            }
        }
        idle.sort();
        for (_, freed, hash) in idle {
            if bytes <= KEPT_MAX {
                return;
            }
            bytes -= freed;
            slots.remove(&hash);
        }
    }

    async fn fetch(&self, hash: &str) -> Result<Ready, Failure> {
        let mut client = FunctionServiceClient::new(self.server.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let fetched = client.fetch(v1::FetchFunctionRequest { hash: hash.to_owned() }).await;
        let files = fetched.map_err(|status| {
            failure_of(&status).unwrap_or_else(|| {
                let text =
                    format!("the server did not answer about a function ({}: {})", status.code(), status.message());
                Failure::new(Class::Transient, "server_unreachable", text)
            })
        })?;
        let (root, hash) = (self.root.clone(), hash.to_owned());
        // One of the same version, let go of, may be on its way out.
        let number = self.uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crate::blocking(move || unpack(files.into_inner(), &root, &hash, number)).await
    }
}

fn unpack(files: v1::FunctionFiles, root: &Path, hash: &str, number: u64) -> Result<Ready, Failure> {
    let file = |file: v1::FunctionFile| (file.path, File { executable: file.executable, bytes: file.data.into() });
    let named: BTreeMap<String, File> = files.files.into_iter().map(file).collect();
    let damaged = |why: String| {
        let text = format!("the server sent something else than the function's version {hash:.12}: {why}");
        Failure::new(Class::Host, "function_damaged", text)
    };
    let package = Package::new(named).map_err(|problem| damaged(problem.to_string()))?;
    if package.hash() != hash {
        return Err(damaged(format!("its hash is {:.12}", package.hash())));
    }
    let folder = root.join(format!("{hash:.16}-{number}"));
    let failed = |path: &Path, error: &std::io::Error| write_failure(error, path, "scratch_unwritable");
    std::fs::create_dir_all(root).map_err(|error| failed(root, &error))?;
    if let Err((path, error)) = package.write(&folder) {
        drop(std::fs::remove_dir_all(&folder));
        return Err(failed(&path, &error));
    }
    Ok(Ready { manifest: package.manifest().clone(), folder, bytes: package.bytes(), borrowed: false })
}
