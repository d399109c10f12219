//! `QueueService`: what waits.

use spool_proto::wire::v1;
use tonic::{Request, Response, Status};
use v1::queue_service_server::QueueService;

use super::pools::pool_or_root;
use super::status;
use crate::run_loop::inbox::Inbox;

const LIST_DEFAULT: u32 = 1_000;

#[derive(Debug, Clone)]
pub(crate) struct Queues {
    pub(crate) inbox: Inbox,
}

#[tonic::async_trait]
impl QueueService for Queues {
    async fn list(&self, request: Request<v1::ListQueueRequest>) -> Result<Response<v1::ListQueueResponse>, Status> {
        let v1::ListQueueRequest { pool, limit } = request.into_inner();
        let below = pool_or_root("pool", &pool)?;
        let limit = usize::try_from(if limit == 0 { LIST_DEFAULT } else { limit }).unwrap_or(usize::MAX);
        let lines = self.inbox.query(move |engine, now| {
            let lines = engine.queue(now).into_iter().filter(|line| line.pool.is_within(&below));
            lines.take(limit).map(|line| (&line).into()).collect()
        });
        Ok(Response::new(v1::ListQueueResponse { lines: lines.await.map_err(|f| status(&f))? }))
    }

    async fn stats(&self, _: Request<v1::QueueStatsRequest>) -> Result<Response<v1::QueueStats>, Status> {
        let stats = self.inbox.query(|engine, now| engine.queue_stats(now)).await.map_err(|f| status(&f))?;
        Ok(Response::new((&stats).into()))
    }
}
