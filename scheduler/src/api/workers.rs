//! `WorkerService`.

use spool_core::io::{Input, Refusal};
use spool_proto::failure::Failure;
use spool_proto::ids::WorkerName;
use spool_proto::wire::v1;
use tonic::{Request, Response, Status};
use v1::worker_service_server::WorkerService;

use super::{accepted, refused, status};
use crate::run_loop::inbox::Inbox;

#[derive(Debug, Clone)]
pub(crate) struct Workers {
    pub(crate) inbox: Inbox,
}

impl Workers {
    async fn cordon(
        &self,
        worker: String,
        cordoned: bool,
        drain: bool,
        reason: String,
    ) -> Result<Response<v1::Worker>, Status> {
        let view = self.cordoned(worker.into(), cordoned, drain, reason).await;
        view.map(Response::new).map_err(|failure| status(&failure))
    }

    async fn cordoned(
        &self,
        worker: WorkerName,
        cordoned: bool,
        drain: bool,
        reason: String,
    ) -> Result<v1::Worker, Failure> {
        let name = worker.clone();
        let request = move |token| Input::Cordon { token, worker: name, cordoned, drain, reason };
        accepted(self.inbox.ask(request).await?)?;
        let name = worker.clone();
        let view = self.inbox.query(move |engine, _| engine.worker(&name)).await?;
        view.map(|view| (&view).into()).ok_or_else(|| refused(&Refusal::NoSuchWorker(worker)))
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    async fn list(&self, _: Request<v1::ListWorkersRequest>) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let views = self.inbox.query(|engine, _| engine.workers().map(|view| (&view).into()).collect()).await;
        let workers = views.map_err(|failure| status(&failure))?;
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn cordon(&self, request: Request<v1::CordonRequest>) -> Result<Response<v1::Worker>, Status> {
        let v1::CordonRequest { worker, reason } = request.into_inner();
        Workers::cordon(self, worker, true, false, reason).await
    }

    async fn uncordon(&self, request: Request<v1::UncordonRequest>) -> Result<Response<v1::Worker>, Status> {
        let v1::UncordonRequest { worker, reason } = request.into_inner();
        Workers::cordon(self, worker, false, false, reason).await
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::Worker>, Status> {
        let v1::DrainRequest { worker, reason } = request.into_inner();
        Workers::cordon(self, worker, true, true, reason).await
    }
}
