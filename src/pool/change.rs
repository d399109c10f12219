//! A change of the tree: tried on a copy of the state, or made and told.

use clap::Args;
use spool_proto::failure::Failure;
use spool_proto::pool::PoolTree;
use spool_proto::view::{FieldChange, PoolsPreview};

use super::show;
use crate::client::Client;
use crate::client::pools::Change;
use crate::exit::Stop;
use crate::output::{self, Style};

/// Somebody else's change may come between reading the tree and applying it this often before an edit is given up.
const EDIT_TRIES: u32 = 5;

#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Kept with the change
    #[arg(long, default_value = "")]
    reason: String,
    /// Change nothing: tell what each pool would gain and lose, and which tasks would be stopped
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    style: Style,
}

impl ChangeArgs {
    /// Previews or applies `tree`.
    pub async fn make(&self, client: &Client, tree: PoolTree, expected_version: Option<u64>) -> anyhow::Result<()> {
        let change = Change { tree, expected_version, reason: self.reason.clone() };
        if self.dry_run {
            let preview = client.preview_pools(&change).await?;
            let names = || preempted(&preview);
            return output::print(&self.style.render(&preview, names, |_| show::preview(&preview, self.style))?);
        }
        let (version, made) = client.apply_pools(&change).await?;
        let Some(made) = made else {
            return output::print(&format!("nothing to change; the pools are at version {version}\n"));
        };
        let names = || pools_of(&made.changes);
        let table = |_| format!("{}the pools are at version {version}\n", show::fields(&made.changes, self.style));
        output::print(&self.style.render(&made, names, table)?)
    }
}

fn pools_of(changes: &[FieldChange]) -> Vec<String> {
    let mut pools: Vec<String> = changes.iter().map(|field| field.pool.to_string()).collect();
    pools.dedup();
    pools
}

fn preempted(preview: &PoolsPreview) -> Vec<String> {
    preview.preempted.iter().map(|task| task.task.to_string()).collect()
}

/// A change of the tree as it is.
#[derive(Debug, Clone, Copy)]
pub struct Edited<'a> {
    pub client: &'a Client,
    /// Given: only at this version.
    pub if_version: Option<u64>,
    pub change: &'a ChangeArgs,
}

impl Edited<'_> {
    /// Reads the tree, lets `edit` change it, and applies it unless somebody was faster: then again, unless a version was asked
    /// for.
    pub async fn run(&self, edit: impl Fn(&mut PoolTree) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            let (version, mut tree) = self.client.pool_tree().await?;
            if let Some(expected) = self.if_version.filter(|expected| *expected != version) {
                return Err(Stop::usage(format!(
                    "the pools are at version {version}, not {expected}: somebody changed them meanwhile; look again, then apply"
                )));
            }
            edit(&mut tree)?;
            tries += 1;
            match self.change.make(self.client, tree, Some(version)).await {
                Err(error) if is_too_late(&error) && self.if_version.is_none() && tries < EDIT_TRIES => {}
                done => return done,
            }
        }
    }
}

fn is_too_late(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.code == "pools_changed")
}
