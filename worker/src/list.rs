//! `spool.list`: the files of a folder, or under a prefix of a store. Whoever watches a folder compares two listings.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use spool_proto::call::{LIST_MAX, ListArgs, ListedFile, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::uri::{self, Location};
use tokio_stream::StreamExt;

use crate::stores::{Stores, refusal};

/// Entries that are looked at, taken or not.
const LOOKS_MAX: usize = 200_000;

/// Lists what is asked for, sorted by URI. Hidden files (a dot first: what others are still writing) and folders are left out.
///
/// # Errors
/// `source_missing`, `source_unreadable`, `too_many_files` (input), `source_unreachable` (transient), `bad_uri`, `unsupported_scheme`
/// (spec), `storage_setup` (host).
pub async fn list(args: &ListArgs, stores: &Stores) -> Result<Value, Failure> {
    let mut files = match Location::parse(&args.folder)? {
        Location::File(folder) => {
            let args = args.clone();
            let walk = tokio::task::spawn_blocking(move || walk(folder, &args)).await;
            walk.map_err(|e| Failure::new(Class::Internal, "list_failed", format!("the listing ended: {e}")))??
        }
        Location::S3 { bucket, key } => objects(args, &bucket, &key, stores).await?,
        Location::Http(_) | Location::Spool { .. } => {
            let text =
                format!("{} cannot be listed; name a folder (file://…) or a prefix (s3://BUCKET/…)", args.folder);
            return Err(Failure::new(Class::Spec, "unsupported_scheme", text));
        }
    };
    files.sort_by(|a, b| a.uri.cmp(&b.uri));
    Ok(Value::Listed { files })
}

struct Found<'a> {
    args: &'a ListArgs,
    files: Vec<ListedFile>,
    looks: usize,
}

impl Found<'_> {
    fn new(args: &ListArgs) -> Found<'_> {
        Found { args, files: Vec::new(), looks: 0 }
    }

    fn look(&mut self) -> Result<(), Failure> {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return Err(self.too_many(&format!("more than {LOOKS_MAX} entries were looked at")));
        }
        Ok(())
    }

    /// `name`: the last part of what the URI names.
    fn wants(&self, name: &str) -> bool {
        let lower = name.to_lowercase();
        let suffixes = &self.args.suffixes;
        !name.is_empty()
            && !name.starts_with('.')
            && (suffixes.is_empty() || suffixes.iter().any(|suffix| lower.ends_with(&suffix.to_lowercase())))
    }

    fn take(&mut self, file: ListedFile) -> Result<(), Failure> {
        if self.files.len() >= LIST_MAX {
            return Err(self.too_many(&format!("it has more than {LIST_MAX} of the files asked for")));
        }
        self.files.push(file);
        Ok(())
    }

    fn too_many(&self, why: &str) -> Failure {
        let text =
            format!("{} is too large to be listed: {why}; name suffixes, or move away what is done", self.args.folder);
        Failure::new(Class::Input, "too_many_files", text)
    }
}

fn walk(folder: PathBuf, args: &ListArgs) -> Result<Vec<ListedFile>, Failure> {
    let mut found = Found::new(args);
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let is_root = folders.is_empty() && found.looks == 0;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It went away since it was seen.
            Err(e) if e.kind() == ErrorKind::NotFound && !is_root => continue,
            Err(e) => return Err(unreadable(&folder, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(&folder, &e))?;
            found.look()?;
            let (path, name) = (entry.path(), entry.file_name());
            // Links are followed to files and not into folders, which may lead around in a circle.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && found.args.recursive && !name.as_encoded_bytes().starts_with(b".") {
                folders.push(path);
                continue;
            }
            if is_folder || !found.wants(&name.to_string_lossy()) {
                continue;
            }
            let Some(meta) = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file) else { continue };
            let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let modified_us = u64::try_from(modified.as_micros()).unwrap_or(u64::MAX);
            found.take(ListedFile { uri: uri::from_path(&path), bytes: meta.len(), modified_us })?;
        }
    }
    Ok(found.files)
}

fn unreadable(folder: &Path, error: &std::io::Error) -> Failure {
    let code = if error.kind() == ErrorKind::NotFound { "source_missing" } else { "source_unreadable" };
    let text = format!("folder {} cannot be listed: {error}; the machine of the worker must see it", folder.display());
    Failure::new(Class::Input, code, text)
}

async fn objects(args: &ListArgs, bucket: &str, key: &str, stores: &Stores) -> Result<Vec<ListedFile>, Failure> {
    let folder = stores.object(&Location::S3 { bucket: bucket.into(), key: key.into() }, &args.folder)?;
    let mut found = Found::new(args);
    let mut entries = folder.store.list(Some(&folder.path));
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|error| refusal(&folder, &error))?;
        found.look()?;
        let Some(parts) = entry.location.prefix_match(&folder.path) else { continue };
        let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        let (Some(name), is_direct) = (parts.last(), parts.len() == 1) else { continue };
        let is_hidden = parts.iter().any(|part| part.starts_with('.'));
        if (is_direct || args.recursive) && !is_hidden && found.wants(name) {
            let uri = format!("s3://{bucket}/{}", entry.location);
            let modified_us = u64::try_from(entry.last_modified.timestamp_micros()).unwrap_or(0);
            found.take(ListedFile { uri, bytes: entry.size, modified_us })?;
        }
    }
    Ok(found.files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn uris(listed: Value) -> Vec<String> {
        let Value::Listed { files } = listed else { panic!("no listing: {listed:?}") };
        files.into_iter().map(|file| file.uri).collect()
    }

    #[tokio::test]
    async fn a_folder_is_listed_by_suffix_and_without_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("deep/.tmp")).unwrap();
        for name in ["b.mp4", "A.MOV", ".c.mp4", "notes.txt", "deep/d.mp4", "deep/.tmp/e.mp4"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("deep/around")).unwrap();
        let uri = uri::from_path(folder.path());
        let mut args = ListArgs { folder: uri.clone(), suffixes: vec![".mp4".into(), ".mov".into()], recursive: false };
        let listed = list(&args, &Stores::default()).await.unwrap();
        let Value::Listed { files } = &listed else { panic!("{listed:?}") };
        assert!(files[1].bytes == 5 && files[1].modified_us > 1_600_000_000_000_000, "{files:?}");
        assert_eq!(uris(listed), [format!("{uri}/A.MOV"), format!("{uri}/b.mp4")]);
        args.recursive = true;
        let listed = uris(list(&args, &Stores::default()).await.unwrap());
        assert_eq!(listed, [format!("{uri}/A.MOV"), format!("{uri}/b.mp4"), format!("{uri}/deep/d.mp4")]);
    }

    #[tokio::test]
    async fn what_cannot_be_listed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let code = async |folder: String| {
            let args = ListArgs { folder, suffixes: Vec::new(), recursive: false };
            list(&args, &Stores::default()).await.unwrap_err().code
        };
        assert_eq!(code(uri::from_path(&folder.path().join("none"))).await, "source_missing");
        assert_eq!(code("https://example.org/films/".into()).await, "unsupported_scheme");
        for n in 0..=LIST_MAX {
            std::fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        assert_eq!(code(uri::from_path(folder.path())).await, "too_many_files");
    }
}
