//! Functions that a server keeps.

use spool_function::Package;
use spool_proto::time::Timestamp;
use spool_proto::wire::v1;

use super::Client;
use super::pools::by;

/// A version of a function, as the server shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VersionView {
    pub function: String,
    pub version: String,
    pub hash: String,
    pub current: bool,
    pub pushed: Timestamp,
    pub pushed_by: String,
    pub files: u32,
    pub bytes: u64,
    pub manifest: serde_json::Value,
}

impl From<v1::FunctionVersion> for VersionView {
    fn from(wire: v1::FunctionVersion) -> VersionView {
        VersionView {
            manifest: serde_json::from_str(&wire.manifest).unwrap_or_default(),
            function: wire.function,
            version: wire.version,
            hash: wire.hash,
            current: wire.current,
            pushed: Timestamp(wire.pushed_us),
            pushed_by: wire.pushed_by,
            files: wire.files,
            bytes: wire.bytes,
        }
    }
}

impl Client {
    /// The version, and whether the same was there before.
    pub async fn push_function(&self, package: Package) -> anyhow::Result<(VersionView, bool)> {
        let file = |(path, file): (String, spool_function::File)| v1::FunctionFile {
            path,
            executable: file.executable,
            data: file.bytes.into(),
        };
        let files = v1::FunctionFiles { files: package.into_files().into_iter().map(file).collect() };
        let request = v1::PushFunctionRequest { files: Some(files), by: by() };
        let answer = self.functions.clone().push(request).await.map_err(|s| self.error(s))?.into_inner();
        Ok((answer.version.unwrap_or_default().into(), answer.existing))
    }

    pub async fn functions(&self) -> anyhow::Result<Vec<VersionView>> {
        let answer = self.functions.clone().list(v1::ListFunctionsRequest {}).await.map_err(|s| self.error(s))?;
        Ok(answer.into_inner().versions.into_iter().map(Into::into).collect())
    }

    /// `name` may be `name@version`.
    pub async fn function(&self, name: &str) -> anyhow::Result<VersionView> {
        let request = v1::GetFunctionRequest { function: name.into(), version: String::new() };
        Ok(self.functions.clone().get(request).await.map_err(|s| self.error(s))?.into_inner().into())
    }
}
