//! ServerService.

use tonic::{Request, Response, Status};

use super::super::convert::{number, span, timestamp};
use super::super::guard::MAX_REQUEST_BYTES;
use super::Parts;
use crate::execution::driver::containment;
use crate::proto;
use crate::proto::server_service_server::ServerService;

/// What every build of this version does.
const FEATURES: [&str; 6] = ["capture_file", "terminal", "stdin_pipe", "run_as_user", "priority_queue", "gzip"];

/// The service.
pub(super) struct Service(pub(super) Parts);

#[tonic::async_trait]
impl ServerService for Service {
    async fn get_server_info(
        &self,
        _request: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        let supervisor = &self.0.supervisor;
        let (host, config, signature) = (supervisor.host(), supervisor.config(), supervisor.signature());
        let enforceable = host.enforceable();
        let limits = [
            ("memory_bytes", enforceable.memory),
            ("processes", enforceable.processes),
            ("cpus", enforceable.cpus),
            ("cpu_time", true),
            ("open_files", true),
            ("output_bytes", true),
        ];
        let load = supervisor.load();
        Ok(Response::new(proto::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: signature.build.clone(),
            node: signature.node.clone(),
            instance: signature.instance.clone(),
            start_time: Some(timestamp(self.0.started)),
            features: FEATURES.map(str::to_owned).to_vec(),
            containment: proto::Containment::from(containment(host.containment())).into(),
            containment_notes: host.refused(),
            enforceable_limits: limits
                .into_iter()
                .filter(|(_, enforced)| *enforced)
                .map(|(name, _)| name.to_owned())
                .collect(),
            limits: Some(proto::ServerLimits {
                max_concurrent: number(config.max_concurrent),
                max_queued: number(config.max_queued),
                max_request_bytes: number(MAX_REQUEST_BYTES),
                max_output_bytes: config.max_output_bytes,
                max_timeout: Some(span(config.max_timeout)),
                retention_age: Some(span(config.retention_age)),
                retention_bytes: config.retention_bytes,
                stdin_window_bytes: config.stdin_window_bytes as u64,
            }),
            load: Some(proto::ServerLoad {
                running: number(load.running),
                queued: number(load.queued),
                watchers: u32::try_from(load.watchers).unwrap_or(u32::MAX),
                spool_bytes: load.spool_bytes,
            }),
            degraded: supervisor.degraded(),
            platform: platform(),
            default_shell: config.shell.clone().unwrap_or_default(),
        }))
    }
}

fn platform() -> String {
    match nix::sys::utsname::uname() {
        Ok(names) => format!(
            "{} {} {}",
            names.sysname().to_string_lossy(),
            names.release().to_string_lossy(),
            names.machine().to_string_lossy()
        ),
        Err(_) => std::env::consts::OS.to_owned(),
    }
}
