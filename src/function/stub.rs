//! What callers are given of a function.

use spool_function::own;
use spool_function::stub::starlark::OWN_FILE;
use spool_function::stub::{Signature, proto, rust, starlark};

use super::{Language, StubArgs, local};
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::output;

pub async fn run(args: &StubArgs) -> anyhow::Result<Exit> {
    let signature = signature(args).await?;
    if signature.own && args.lang == Language::Star {
        let (name, family) = (&signature.name, signature.name.split('.').next().unwrap_or_default());
        let text = format!("{name} comes with Spool: rules write load({OWN_FILE:?}, {family:?}); no file is needed");
        return Err(Stop::usage(text));
    }
    let text = match args.lang {
        Language::Star => starlark::of(&signature),
        Language::Proto => proto::of(&signature),
        Language::Rust => rust::of(&signature),
    };
    output::print(&text)?;
    Ok(Exit::Done)
}

async fn signature(args: &StubArgs) -> anyhow::Result<Signature> {
    if let Some(folder) = &args.folder {
        return Ok(Signature::from(local::package(folder)?.manifest()));
    }
    let name = args.name.as_deref().unwrap_or_default();
    if let Some(own) = own::get(name) {
        return Ok(Signature::from(own));
    }
    let version = Client::connect(&args.server.server).await?.function(name).await?;
    let signature = Signature::shown(&version.manifest).map_err(anyhow::Error::msg)?;
    Ok(if name.contains('@') { signature.of_version(&version.hash) } else { signature })
}
