//! What the server says of itself: information, health, reflection.

use std::collections::BTreeSet;

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Containment, GetServerInfoRequest, GetServerInfoResponse};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::calls::Client;
use crate::support::run::{With, argv};
use crate::support::{Server, eventually, shell};

const SERVICES: [&str; 3] =
    ["ccexecutor.v1.ExecutionService", "ccexecutor.v1.HistoryService", "ccexecutor.v1.ServerService"];

async fn info(client: &Client) -> GetServerInfoResponse {
    client.server.clone().get_server_info(GetServerInfoRequest {}).await.expect("it answers").into_inner()
}

#[tokio::test]
async fn the_server_tells_the_truth_about_itself() {
    let settings = "node = \"here\"\nshell = \"/bin/sh\"\n[limits]\nmax_concurrent = 2\nmax_queued = 7\n\
                    max_output = \"1MiB\"\nmax_timeout = \"48h\"\nstdin_window = \"128KiB\"\n\
                    [retention]\nage = \"2h\"\nsize = \"1GiB\"";
    let server = Server::setup().settings(settings).start().await;
    let client = server.client().await;
    let told = info(&client).await;
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    assert!(told.build.starts_with(&told.version) && told.build.len() > told.version.len(), "{}", told.build);
    assert_eq!((told.node.as_str(), told.default_shell.as_str()), ("here", "/bin/sh"));
    assert!(!told.instance.is_empty() && told.platform.starts_with("Linux"), "{}", told.platform);
    let limits = told.limits.unwrap();
    assert_eq!((limits.max_concurrent, limits.max_queued, limits.max_request_bytes), (2, 7, 4 << 20));
    assert_eq!(
        (limits.max_output_bytes, limits.stdin_window_bytes, limits.retention_bytes),
        (1 << 20, 128 << 10, 1 << 30)
    );
    assert_eq!((limits.max_timeout.unwrap().seconds, limits.retention_age.unwrap().seconds), (48 * 3600, 7200));
    assert!(told.degraded.is_empty(), "{:?}", told.degraded);
    for limit in ["cpu_time", "open_files", "output_bytes"] {
        assert!(told.enforceable_limits.iter().any(|name| name == limit), "{limit}");
    }
    let age = jiff::Timestamp::now().as_second() - told.start_time.unwrap().seconds;
    assert!((0..=60).contains(&age), "it runs for {age} s");

    let mut first = client.execute(shell("seq 1 10000; exec sleep 1000").id("first")).await;
    let started = first.until(|event| if let Event::Started(it) = event { Some(it.clone()) } else { None }).await;
    assert_eq!(started.containment(), told.containment());
    client.create(argv("sleep", &["1000"]).id("second")).await;
    client.create(argv("sleep", &["1000"]).id("third")).await;
    let load = info(&client).await.load.unwrap();
    assert_eq!((load.running, load.queued, load.watchers), (2, 1, 1));
    client.until("first", |run| run.channels.iter().any(|channel| channel.bytes_total == 48_894)).await;
    for id in ["third", "second", "first"] {
        client.kill(id).await;
    }
    first.to_end().await;
    eventually("the load is gone", async || {
        let load = info(&client).await.load.unwrap();
        ((load.running, load.queued, load.watchers) == (0, 0, 0) && load.spool_bytes >= 48_894).then_some(())
    })
    .await;
    let another = Server::start().await;
    assert_ne!(info(&another.client().await).await.instance, told.instance);
}

#[tokio::test]
async fn a_weaker_containment_is_named_with_its_reason() {
    let server = Server::setup().arg("--containment").arg("shim").start().await;
    let client = server.client().await;
    assert_eq!(info(&client).await.containment(), Containment::Shim);
    let mut run = client.execute(argv("true", &[])).await;
    let started = run.until(|event| if let Event::Started(it) = event { Some(it.clone()) } else { None }).await;
    assert_eq!(started.containment(), Containment::Shim);
}

#[tokio::test]
async fn health_is_told_for_the_server_and_each_service_until_it_stops() {
    let server = Server::setup().arg("--drain").arg("50s").start().await;
    let client = server.client().await;
    let mut running = client.execute(argv("sleep", &["1000"]).id("last")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nope".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut next = async || watch.next().await.unwrap().map(|answer: HealthCheckResponse| answer.status()).unwrap();
    assert_eq!(next().await, ServingStatus::Serving);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(next().await, ServingStatus::NotServing);
    let request = HealthCheckRequest { service: SERVICES[0].to_owned() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let request = HealthCheckRequest { service: SERVICES[1].to_owned() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving, "history is read");
    client.kill("last").await;
    running.to_end().await;
}

/// The two versions of reflection differ in nothing but their package.
macro_rules! reflected {
    ($server:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let mut client = ServerReflectionClient::new($server.channel().await);
        let request = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let symbol = |name: &str| request(MessageRequest::FileContainingSymbol(name.to_owned()));
        let requests = [
            request(MessageRequest::ListServices(String::new())),
            symbol("ccexecutor.v1.ExecutionService"),
            symbol("ccexecutor.v1.ErrorReason"),
            symbol("google.rpc.ErrorInfo"),
        ];
        let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let mut next = async || answers.next().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
        let names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
        for _ in 0..3 {
            assert!(matches!(next().await, MessageResponse::FileDescriptorResponse(_)));
        }
        names
    }};
}

#[tokio::test]
async fn reflection_shows_all_services_in_both_versions() {
    let server = Server::start().await;
    for names in [reflected!(server, v1), reflected!(server, v1alpha)] {
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.contains(service), "{service} is missing from {names:?}");
        }
    }
}
