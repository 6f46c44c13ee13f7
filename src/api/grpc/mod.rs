//! The gRPC services: what they share, and how they are put together with health and reflection.

mod execution;
mod export;
mod history;
mod server;

use std::time::Duration;

use tokio_util::task::TaskTracker;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use super::convert::fault;
use super::guard::MAX_REQUEST_BYTES;
pub use super::guard::{Guard, GuardLayer};
use super::status;
use crate::history::filter::Filter;
use crate::history::page::{PageKey, PageToken};
use crate::proto;
use crate::proto::execution_service_server::ExecutionServiceServer;
use crate::proto::history_service_server::HistoryServiceServer;
use crate::proto::server_service_server::ServerServiceServer;
use crate::supervisor::{Fault, Supervisor};

/// Handed to every handler.
#[derive(Clone)]
pub struct Parts {
    /// The one door.
    pub supervisor: Supervisor,
    /// The watchers' tasks.
    pub watchers: TaskTracker,
    /// How long a watcher may take nothing.
    pub stall: Duration,
    /// Since when the server runs.
    pub started: jiff::Timestamp,
}

/// All services, health and reflection included.
pub async fn routes(parts: Parts) -> (Routes, HealthReporter) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExecutionServiceServer<execution::Service>>().await;
    health.set_serving::<HistoryServiceServer<history::Service>>().await;
    health.set_serving::<ServerServiceServer<server::Service>>().await;

    let execution = ExecutionServiceServer::new(execution::Service(parts.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    // Live output is never compressed: many clients accept gzip without having asked for it, and would pay for it.
    let history = HistoryServiceServer::new(history::Service(parts.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = ServerServiceServer::new(server::Service(parts));

    let reflection = |builder: tonic_reflection::server::Builder<'static>| {
        builder
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection(tonic_reflection::server::Builder::configure()).build_v1();
    let v1alpha = reflection(tonic_reflection::server::Builder::configure()).build_v1alpha();
    let routes = Routes::new(execution)
        .add_service(history)
        .add_service(server)
        .add_service(health_service)
        .add_service(v1.expect("the descriptors were made by the compiler of this build"))
        .add_service(v1alpha.expect("the descriptors were made by the compiler of this build"));
    (routes, health)
}

/// The services that stop serving when the server takes no new runs.
pub async fn stop_serving(health: &HealthReporter) {
    health.set_not_serving::<ExecutionServiceServer<execution::Service>>().await;
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}

/// A filter as it came.
fn filter(text: &str) -> Result<Filter, tonic::Status> {
    Filter::parse(text).map_err(|error| status::invalid_filter(&error))
}

/// The place a page begins behind, from a token as it came.
fn after(field: &str, token: &str, filter: &Filter) -> Result<Option<PageKey>, tonic::Status> {
    if token.is_empty() {
        return Ok(None);
    }
    PageToken::decode(token, filter).map(Some).map_err(|error| status::invalid_token(field, &error))
}

/// A page size as it came: 50 when left out, 1,000 at most.
fn page_size(wire: i32) -> Result<usize, Fault> {
    match usize::try_from(wire) {
        Ok(0) => Ok(50),
        Ok(size) => Ok(size.min(1000)),
        Err(_) => Err(fault("page_size", "must not be negative")),
    }
}
