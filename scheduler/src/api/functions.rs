//! `FunctionService`: functions that users push, kept and handed to workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_function::package::BYTES_MAX;
use spool_function::{File, Package};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{JobSpec, Service};
use spool_proto::wire::{BadField, v1};
use tonic::{Request, Response, Status};
use tracing::info;
use v1::function_service_server::{FunctionService, FunctionServiceServer};

use super::{TEXT_MAX, status};
use crate::functions::{Entry, Registry};

/// A function's files with their paths, and what encodes them.
const MESSAGE_BYTES_MAX: usize = 80 << 20;
const _: () = assert!(BYTES_MAX < MESSAGE_BYTES_MAX as u64);

#[derive(Debug, Clone)]
pub(crate) struct Functions {
    pub(crate) registry: Registry,
}

impl Functions {
    pub(crate) fn service(self) -> FunctionServiceServer<Functions> {
        FunctionServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn version(&self, entry: &Entry) -> v1::FunctionVersion {
        let Entry { manifest, hash, pushed } = entry;
        v1::FunctionVersion {
            function: manifest.name.clone(),
            hash: hash.clone(),
            version: manifest.version.clone(),
            pushed_us: pushed.at.0,
            pushed_by: pushed.by.clone(),
            current: self.registry.is_current(entry),
            files: pushed.files,
            bytes: pushed.bytes,
            manifest: manifest.to_json().to_string(),
        }
    }
}

/// Settles which version a job runs and what it is given.
pub(super) fn freeze(registry: &Registry, spec: &mut JobSpec) -> Result<(), Failure> {
    match &mut spec.service {
        Service::Function(function) => registry.freeze(function),
        _ => Ok(()),
    }
}

fn package(files: v1::FunctionFiles) -> Result<Package, Failure> {
    let mut named = BTreeMap::new();
    for v1::FunctionFile { path, executable, data } in files.files {
        let shown = path.escape_debug().to_string();
        if named.insert(path, File { executable, bytes: data.into() }).is_some() {
            return Err(Failure::new(Class::Spec, "bad_function", format!("{shown}: it came twice")));
        }
    }
    Ok(Package::new(named)?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::new(Class::Internal, "server_panicked", error.to_string()));
    done.flatten().map_err(|failure| status(&failure))
}

#[tonic::async_trait]
impl FunctionService for Functions {
    async fn push(
        &self,
        request: Request<v1::PushFunctionRequest>,
    ) -> Result<Response<v1::PushFunctionResponse>, Status> {
        let v1::PushFunctionRequest { files, by } = request.into_inner();
        if by.len() > TEXT_MAX {
            return Err(BadField::new("by", format!("longer than {TEXT_MAX} bytes")).into());
        }
        let files = files.ok_or_else(|| BadField::new("files", "missing"))?;
        let registry = self.registry.clone();
        let (entry, existing): (Arc<Entry>, bool) = blocking(move || registry.push(&package(files)?, &by)).await?;
        info!(function = entry.manifest.name, version = entry.manifest.version, hash = entry.hash, existing, "pushed");
        Ok(Response::new(v1::PushFunctionResponse { version: Some(self.version(&entry)), existing }))
    }

    async fn list(&self, _: Request<v1::ListFunctionsRequest>) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        let versions = self.registry.list().iter().map(|entry| self.version(entry)).collect();
        Ok(Response::new(v1::ListFunctionsResponse { versions }))
    }

    async fn get(&self, request: Request<v1::GetFunctionRequest>) -> Result<Response<v1::FunctionVersion>, Status> {
        let v1::GetFunctionRequest { function, version } = request.into_inner();
        let found = match version.is_empty() {
            true => self.registry.resolve(&function),
            false => self.registry.version(&function, &version),
        };
        Ok(Response::new(self.version(&*found.map_err(|failure| status(&failure))?)))
    }

    async fn fetch(&self, request: Request<v1::FetchFunctionRequest>) -> Result<Response<v1::FunctionFiles>, Status> {
        let hash = request.into_inner().hash;
        let registry = self.registry.clone();
        let package = blocking(move || registry.read(&hash)).await?;
        let file = |(path, file): (String, File)| v1::FunctionFile {
            path,
            executable: file.executable,
            data: file.bytes.into(),
        };
        Ok(Response::new(v1::FunctionFiles { files: package.into_files().into_iter().map(file).collect() }))
    }
}
