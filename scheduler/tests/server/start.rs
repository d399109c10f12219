//! Starting and stopping.

use std::net::SocketAddr;

use spool_scheduler::{Server, ServerError, ServerOptions};
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

use super::start;

fn listening(data: &std::path::Path, addr: SocketAddr) -> ServerOptions {
    ServerOptions { listen: Some(addr), ..ServerOptions::new(data) }
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused_with_the_pid_of_the_first() {
    let data = tempfile::tempdir().expect("a directory");
    let first = start(data.path()).await;
    let refused = Server::start(ServerOptions::new(data.path())).await.expect_err("it is taken");
    let pid = std::process::id().to_string();
    assert!(matches!(&refused, ServerError::Locked { holder: Some(holder), .. } if *holder == pid), "{refused}");
    assert!(refused.to_string().contains(&pid));
    first.shutdown().await.expect("a clean end");
    start(data.path()).await.shutdown().await.expect("the directory is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_refused_by_name() {
    let data = tempfile::tempdir().expect("a directory");
    let first = Server::start(listening(&data.path().join("a"), any_port())).await.expect("the server starts");
    let addr = first.local_addr().expect("it listens");
    let refused = Server::start(listening(&data.path().join("b"), addr)).await.expect_err("it is in use");
    assert!(matches!(refused, ServerError::AddressInUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&addr.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_are_kept_out_without_tls() {
    let data = tempfile::tempdir().expect("a directory");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Server::start(listening(data.path(), everywhere)).await.expect_err("there is no TLS");
    assert!(matches!(refused, ServerError::Insecure { .. }), "{refused}");
    let allowed = ServerOptions { allow_insecure: true, ..listening(data.path(), everywhere) };
    Server::start(allowed).await.expect("it was allowed").shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_served_on_the_port() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(listening(data.path(), any_port())).await.expect("the server starts");
    let addr = server.local_addr().expect("it listens");
    let channel =
        Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connected");
    let request = HealthCheckRequest { service: "spool.v1.JobService".into() };
    let health = HealthClient::new(channel).check(request).await.expect("checked").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    server.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_made_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let refused = Server::start(ServerOptions::new(file.join("data"))).await.expect_err("a file is no directory");
    assert!(matches!(&refused, ServerError::Data { path, .. } if path.starts_with(&file)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_reflection() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let ask = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let mut client = ServerReflectionClient::new(server.connect());
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("answered");
    let answer = answers.into_inner().message().await.expect("a message").expect("one answer");
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = service.iter().map(|service| service.name.as_str()).collect();
    for name in ["JobService", "WorkerService", "PoolService", "QueueService", "FleetService"] {
        assert!(names.contains(&format!("spool.v1.{name}").as_str()), "{name} is not among {names:?}");
    }
}
