//! `spool encode`: one film in, one film out.
//!
//! Reading order: [`options`] (what ffmpeg's users type), [`request`] (files, overwriting, the run's name), then
//! [`crate::run`], which does it.

pub mod options;
pub mod request;

use crate::exit::Exit;
use crate::ffmpeg::status::Status;
use crate::run::Run;
use crate::run::folder::Folder;
use options::EncodeArgs;
use request::Request;

pub async fn run(args: &EncodeArgs) -> anyhow::Result<Exit> {
    let mut request = Request::of(args)?;
    let how = &args.spool.run;
    match how.server(args.spool.queueing.needs_server())? {
        Some(url) => {
            request.look(false).await?;
            request.settle_overwrite(args, false)?;
            run_of(&request, None).through_server(url, how).await
        }
        None => {
            let root = how.root()?;
            request.look(true).await?;
            request.settle_overwrite(args, Folder::of(&root, &request.hash).is_begun())?;
            request.check_writable()?;
            run_of(&request, None).here(&root, how).await
        }
    }
}

/// Told as ffmpeg does where `as_ffmpeg` is given.
pub fn run_of(request: &Request, as_ffmpeg: Option<Status>) -> Run<'_> {
    Run {
        job: &request.job,
        hash: &request.hash,
        request_id: None,
        result: request.output.path(),
        backends: request.backends(),
        as_ffmpeg,
    }
}
