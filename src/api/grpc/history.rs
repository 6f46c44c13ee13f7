//! HistoryService.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::super::convert::{self, fault};
use super::export::{Export, Format};
use super::{Parts, after, filter, page_size};
use crate::execution::event::Channel;
use crate::execution::log::LogError;
use crate::history::page::PageToken;
use crate::history::stats::Group;
use crate::history::{Query, Record};
use crate::proto;
use crate::proto::history_service_server::HistoryService;
use crate::supervisor::Run;

/// The service.
pub(super) struct Service(pub(super) Parts);

#[tonic::async_trait]
impl HistoryService for Service {
    type ReadOutputStream = ReceiverStream<Result<proto::ReadOutputResponse, Status>>;
    type ExportRecordsStream = ReceiverStream<Result<proto::ExportRecordsResponse, Status>>;

    async fn get_record(
        &self,
        request: Request<proto::GetRecordRequest>,
    ) -> Result<Response<proto::GetRecordResponse>, Status> {
        let id = convert::execution_id(request.into_inner().execution_id)?;
        let record = self.0.supervisor.record(&id).await?;
        Ok(Response::new(proto::GetRecordResponse { record: Some(record.into()) }))
    }

    async fn list_records(
        &self,
        request: Request<proto::ListRecordsRequest>,
    ) -> Result<Response<proto::ListRecordsResponse>, Status> {
        let request = request.into_inner();
        let page_size = page_size(request.page_size)?;
        let filter = filter(&request.filter)?;
        let after = after("page_token", &request.page_token, &filter)?;
        let query = Query { filter, page_size, after, include_unfinished: false };
        let page = self.0.supervisor.history().list(&query).await?;
        Ok(Response::new(proto::ListRecordsResponse {
            records: page.records.sound.into_iter().map(Record::into).collect(),
            next_page_token: page.next.map(|key| PageToken::encode(&key, &query.filter)).unwrap_or_default(),
            corrupt_execution_ids: page.records.corrupt.into_iter().map(Into::into).collect(),
        }))
    }

    async fn read_output(
        &self,
        request: Request<proto::ReadOutputRequest>,
    ) -> Result<Response<Self::ReadOutputStream>, Status> {
        let request = request.into_inner();
        let id = convert::execution_id(request.execution_id)?;
        let channel = convert::optional_channel(request.channel, "channel")?;
        let run = self.0.supervisor.find(&id).await?;
        let has_terminal = self.0.supervisor.snapshot(&run).command.options.terminal.is_some();
        let channel = channel.unwrap_or(if has_terminal { Channel::Terminal } else { Channel::Stdout });
        let log = self.0.supervisor.log(&run).await?;
        let mut bytes = log.read_channel(channel, request.offset, request.limit)?;
        let is_cut = match &run {
            Run::Live(_) => false,
            // Only the very last event may be missing: a crash can come between the record and it.
            Run::Ended(record) => log.last().seq + 1 < record.snapshot.last_cursor.seq,
        };
        let (pieces, stream) = mpsc::channel(2);
        self.0.watchers.spawn(async move {
            loop {
                let piece = match bytes.next().await {
                    Ok(None) if is_cut => Err(LogError::Corrupt.into()),
                    Ok(None) => return,
                    Ok(Some((offset, data))) => Ok(proto::ReadOutputResponse { offset, data }),
                    Err(error) => Err(error.into()),
                };
                let last = piece.is_err();
                if pieces.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        let mut response = Response::new(ReceiverStream::new(stream));
        response.disable_compression();
        Ok(response)
    }

    async fn export_records(
        &self,
        request: Request<proto::ExportRecordsRequest>,
    ) -> Result<Response<Self::ExportRecordsStream>, Status> {
        let request = request.into_inner();
        let filter = filter(&request.filter)?;
        let format = Format::parse(request.format)?;
        let export = Export::new(self.0.supervisor.clone(), filter, format, &request.resume_token)?;
        let (chunks, stream) = mpsc::channel(2);
        self.0.watchers.spawn(export.write(chunks));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_stats(
        &self,
        request: Request<proto::GetStatsRequest>,
    ) -> Result<Response<proto::GetStatsResponse>, Status> {
        let request = request.into_inner();
        let filter = filter(&request.filter)?;
        let group = match request.group {
            Some(proto::get_stats_request::Group::ByCommand(true)) => Some(Group::Command),
            Some(proto::get_stats_request::Group::ByLabel(key)) if key.is_empty() => {
                return Err(fault("by_label", "must name a label").into());
            }
            Some(proto::get_stats_request::Group::ByLabel(key)) => Some(Group::Label(key)),
            Some(proto::get_stats_request::Group::ByCommand(false)) | None => None,
        };
        let stats = self.0.supervisor.history().stats(&filter, group.as_ref()).await?;
        Ok(Response::new(proto::GetStatsResponse {
            total: Some(stats.total.into()),
            groups: stats
                .groups
                .into_iter()
                .map(|group| proto::StatsGroup { key: group.key, stats: Some(group.figures.into()) })
                .collect(),
        }))
    }

    async fn delete_record(
        &self,
        request: Request<proto::DeleteRecordRequest>,
    ) -> Result<Response<proto::DeleteRecordResponse>, Status> {
        let id = convert::execution_id(request.into_inner().execution_id)?;
        let freed_bytes = self.0.supervisor.delete(&id).await?;
        Ok(Response::new(proto::DeleteRecordResponse { freed_bytes }))
    }
}
