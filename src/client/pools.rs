//! Pools and queues of a server.

use spool_proto::pool::{Hold, PoolName, PoolTree};
use spool_proto::view::{JobView, PoolChangeView, PoolView, PoolsPreview, QueueStats, QueueView};
use spool_proto::wire::pool::tree_to_wire;
use spool_proto::wire::v1;

use super::Client;

/// A tree that is to be, and why.
#[derive(Debug, Clone)]
pub struct Change {
    pub tree: PoolTree,
    /// Refused unless the tree has this version now.
    pub expected_version: Option<u64>,
    pub reason: String,
}

impl Change {
    fn request(&self) -> v1::ApplyPoolsRequest {
        v1::ApplyPoolsRequest {
            tree: Some(tree_to_wire(0, &self.tree)),
            expected_version: self.expected_version,
            by: by(),
            reason: self.reason.clone(),
        }
    }
}

impl Client {
    /// The quota tree and its version.
    pub async fn pool_tree(&self) -> anyhow::Result<(u64, PoolTree)> {
        let answer = self.pools.clone().tree(v1::PoolTreeRequest {}).await.map_err(|s| self.error(s))?.into_inner();
        Ok((answer.version, answer.try_into()?))
    }

    /// The version after it, and what was changed; nothing if the tree was so before.
    pub async fn apply_pools(&self, change: &Change) -> anyhow::Result<(u64, Option<PoolChangeView>)> {
        let answer = self.pools.clone().apply(change.request()).await.map_err(|s| self.error(s))?.into_inner();
        Ok((answer.version, answer.change.map(Into::into)))
    }

    pub async fn preview_pools(&self, change: &Change) -> anyhow::Result<PoolsPreview> {
        let answer = self.pools.clone().preview(change.request()).await.map_err(|s| self.error(s))?;
        Ok(answer.into_inner().try_into()?)
    }

    pub async fn pool(&self, pool: &PoolName) -> anyhow::Result<PoolView> {
        let request = v1::GetPoolRequest { pool: pool.to_string() };
        Ok(self.pools.clone().get(request).await.map_err(|s| self.error(s))?.into_inner().try_into()?)
    }

    /// Of `below` and the pools below it; of all for none.
    pub async fn pools(&self, below: Option<&PoolName>) -> anyhow::Result<Vec<PoolView>> {
        let request = v1::ListPoolsRequest { below: below.map(ToString::to_string).unwrap_or_default() };
        let answer = self.pools.clone().list(request).await.map_err(|s| self.error(s))?.into_inner();
        answer.pools.into_iter().map(|pool| Ok(pool.try_into()?)).collect()
    }

    /// Newest first.
    pub async fn pool_history(&self, pool: Option<&PoolName>, limit: u32) -> anyhow::Result<Vec<PoolChangeView>> {
        let pool = pool.map(ToString::to_string).unwrap_or_default();
        let request = v1::PoolHistoryRequest { pool, limit };
        let answer = self.pools.clone().history(request).await.map_err(|s| self.error(s))?.into_inner();
        Ok(answer.changes.into_iter().map(Into::into).collect())
    }

    pub async fn hold_pool(&self, pool: &PoolName, hold: Hold, reason: &str) -> anyhow::Result<PoolView> {
        let hold = match hold {
            Hold::Open => "open",
            Hold::Held => "held",
            Hold::Draining => "draining",
        };
        let request =
            v1::HoldPoolRequest { pool: pool.to_string(), hold: hold.into(), by: by(), reason: reason.into() };
        Ok(self.pools.clone().hold(request).await.map_err(|s| self.error(s))?.into_inner().try_into()?)
    }

    pub async fn move_job(&self, job: &str, pool: &PoolName) -> anyhow::Result<JobView> {
        let request = v1::MoveJobRequest { job_id: job.into(), pool: pool.to_string() };
        self.job(self.jobs.clone().r#move(request).await)
    }

    /// What waits in `below` and the pools below it; everything for none.
    pub async fn queue(&self, below: Option<&PoolName>, limit: u32) -> anyhow::Result<Vec<QueueView>> {
        let request = v1::ListQueueRequest { pool: below.map(ToString::to_string).unwrap_or_default(), limit };
        let answer = self.queues.clone().list(request).await.map_err(|s| self.error(s))?.into_inner();
        answer.lines.into_iter().map(|line| Ok(line.try_into()?)).collect()
    }

    pub async fn queue_stats(&self) -> anyhow::Result<QueueStats> {
        let answer = self.queues.clone().stats(v1::QueueStatsRequest {}).await.map_err(|s| self.error(s))?;
        Ok(answer.into_inner().try_into()?)
    }
}

/// Who asks: `ada@build7`, kept with every change.
pub(super) fn by() -> String {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    let name = name.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
    format!("{name}@{}", crate::roles::host_name())
}
