//! `PoolService`: the quota tree, read, previewed, changed.

use spool_core::io::{Input, PoolChange, Refusal, Reply};
use spool_proto::failure::Failure;
use spool_proto::pool::{Hold, PoolName, PoolTree};
use spool_proto::view::{PoolChangeView, PoolView};
use spool_proto::wire::pool::tree_to_wire;
use spool_proto::wire::{BadField, v1};
use tonic::{Request, Response, Status};
use tracing::info;
use v1::pool_service_server::PoolService;

use super::{TEXT_MAX, accepted, refused, status};
use crate::run_loop::inbox::Inbox;

/// A tree of a hundred thousand pools, which is the most there may be, is a third of this.
pub(crate) const TREE_BYTES_MAX: usize = 64 << 20;
const HISTORY_DEFAULT: u32 = 100;

#[derive(Debug, Clone)]
pub(crate) struct Pools {
    pub(crate) inbox: Inbox,
}

impl Pools {
    async fn view(&self, pool: PoolName) -> Result<PoolView, Failure> {
        let wanted = pool.clone();
        let found = self.inbox.query(move |engine, now| engine.pools(now).into_iter().find(|view| view.pool == wanted));
        found.await?.ok_or_else(|| refused(&Refusal::NoSuchPool(pool)))
    }

    async fn list_below(&self, below: PoolName) -> Result<(u64, Vec<PoolView>), Failure> {
        let wanted = below.clone();
        let (version, views) = self
            .inbox
            .query(move |engine, now| {
                let views = engine.pools(now).into_iter().filter(|view| view.pool.is_within(&wanted));
                (engine.pools_state().version, views.collect::<Vec<_>>())
            })
            .await?;
        if views.is_empty() && !below.is_root() {
            return Err(refused(&Refusal::NoSuchPool(below)));
        }
        Ok((version, views))
    }

    async fn apply_change(&self, change: PoolChange) -> Result<v1::ApplyPoolsResponse, Failure> {
        let before = self.inbox.query(|engine, _| engine.pools_state()).await?;
        // What changes nothing leaves no trace.
        if before.tree == change.tree && change.expected_version.is_none_or(|expected| expected == before.version) {
            return Ok(v1::ApplyPoolsResponse { version: before.version, change: None });
        }
        let (by, reason) = (change.by.clone(), change.reason.clone());
        let version = match self.inbox.ask(|token| Input::ApplyPools { token, change }).await? {
            Reply::Pools { version } => version,
            Reply::Refused(refusal) => return Err(refused(&refusal)),
            Reply::Ok | Reply::Submitted { .. } => unreachable!("a tree is answered with its version"),
        };
        info!(version, by, reason, "pools changed");
        let change = self.inbox.query(move |engine, _| {
            // A hold since then has the same version.
            engine.pools_state().changes.iter().find(|change| change.version == version).map(Into::into)
        });
        Ok(v1::ApplyPoolsResponse { version, change: change.await? })
    }

    async fn change_history(&self, pool: Option<PoolName>, limit: u32) -> Result<Vec<PoolChangeView>, Failure> {
        let limit = usize::try_from(if limit == 0 { HISTORY_DEFAULT } else { limit }).unwrap_or(usize::MAX);
        self.inbox
            .query(move |engine, _| {
                let newest_first = engine.pools_state().changes.into_iter().rev();
                newest_first.filter_map(|change| of_pool(change, pool.as_ref())).take(limit).collect()
            })
            .await
    }
}

/// What a change did to `pool`; all of it for none. `None`: nothing.
fn of_pool(mut change: PoolChangeView, pool: Option<&PoolName>) -> Option<PoolChangeView> {
    if let Some(pool) = pool {
        change.changes.retain(|field| field.pool == *pool);
        if change.changes.is_empty() {
            return None;
        }
    }
    Some(change)
}

#[tonic::async_trait]
impl PoolService for Pools {
    async fn tree(&self, _: Request<v1::PoolTreeRequest>) -> Result<Response<v1::PoolTree>, Status> {
        let state = self.inbox.query(|engine, _| engine.pools_state()).await.map_err(|f| status(&f))?;
        Ok(Response::new(tree_to_wire(state.version, &state.tree)))
    }

    async fn apply(&self, request: Request<v1::ApplyPoolsRequest>) -> Result<Response<v1::ApplyPoolsResponse>, Status> {
        let change = read_change(request.into_inner())?;
        if change.by.is_empty() {
            return Err(nobody());
        }
        self.apply_change(change).await.map(Response::new).map_err(|f| status(&f))
    }

    async fn preview(&self, request: Request<v1::ApplyPoolsRequest>) -> Result<Response<v1::PoolsPreview>, Status> {
        let change = read_change(request.into_inner())?;
        let preview = self.inbox.query(move |engine, now| engine.preview_pools(now, &change)).await;
        let preview = preview.and_then(|preview| preview.map_err(|refusal| refused(&refusal)));
        preview.map(|preview| Response::new((&preview).into())).map_err(|f| status(&f))
    }

    async fn get(&self, request: Request<v1::GetPoolRequest>) -> Result<Response<v1::Pool>, Status> {
        let pool = pool_name("pool", &request.into_inner().pool)?;
        self.view(pool).await.map(|view| Response::new((&view).into())).map_err(|f| status(&f))
    }

    async fn list(&self, request: Request<v1::ListPoolsRequest>) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let below = pool_or_root("below", &request.into_inner().below)?;
        let (version, views) = self.list_below(below).await.map_err(|f| status(&f))?;
        Ok(Response::new(v1::ListPoolsResponse { version, pools: views.iter().map(Into::into).collect() }))
    }

    async fn history(
        &self,
        request: Request<v1::PoolHistoryRequest>,
    ) -> Result<Response<v1::PoolHistoryResponse>, Status> {
        let v1::PoolHistoryRequest { pool, limit } = request.into_inner();
        // A pool that is gone has a history still.
        let pool = if pool.is_empty() { None } else { Some(pool_name("pool", &pool)?) };
        let changes = self.change_history(pool, limit).await.map_err(|f| status(&f))?;
        Ok(Response::new(v1::PoolHistoryResponse { changes: changes.iter().map(Into::into).collect() }))
    }

    async fn hold(&self, request: Request<v1::HoldPoolRequest>) -> Result<Response<v1::Pool>, Status> {
        let v1::HoldPoolRequest { pool, hold, by, reason } = request.into_inner();
        check_texts(&by, &reason)?;
        if by.is_empty() {
            return Err(nobody());
        }
        let pool = pool_name("pool", &pool)?;
        let hold = match hold.as_str() {
            "open" => Hold::Open,
            "held" => Hold::Held,
            "draining" => Hold::Draining,
            other => return Err(BadField::new("hold", format!("{other:?} is not open, held or draining")).into()),
        };
        info!(%pool, ?hold, by, reason, "pool steered");
        let name = pool.clone();
        let reply = self.inbox.ask(move |token| Input::HoldPool { token, pool: name, hold, by, reason }).await;
        reply.and_then(accepted).map_err(|f| status(&f))?;
        self.view(pool).await.map(|view| Response::new((&view).into())).map_err(|f| status(&f))
    }
}

fn read_change(request: v1::ApplyPoolsRequest) -> Result<PoolChange, BadField> {
    let v1::ApplyPoolsRequest { tree, expected_version, by, reason } = request;
    check_texts(&by, &reason)?;
    let tree = PoolTree::try_from(tree.ok_or_else(|| BadField::new("tree", "missing"))?)?;
    Ok(PoolChange { tree, expected_version, by, reason })
}

/// They are kept for as long as the change is.
fn check_texts(by: &str, reason: &str) -> Result<(), BadField> {
    for (field, text) in [("by", by), ("reason", reason)] {
        if text.len() > TEXT_MAX {
            return Err(BadField::new(field, format!("longer than {TEXT_MAX} bytes")));
        }
    }
    Ok(())
}

fn nobody() -> Status {
    BadField::new("by", "missing: name who wants the change, such as user@host").into()
}

/// A name as it should be written. Whether there is such a pool, the engine knows.
pub(super) fn pool_name(field: &str, name: &str) -> Result<PoolName, BadField> {
    let pool = PoolName::from(name);
    pool.check().map_err(|e| BadField::new(field, e.rule))?;
    Ok(pool)
}

/// Nothing named is everything.
pub(super) fn pool_or_root(field: &str, name: &str) -> Result<PoolName, BadField> {
    if name.is_empty() { Ok(PoolName::root()) } else { pool_name(field, name) }
}
