//! Records as text, page by page, resumable behind every chunk.
//!
//! A resume token is a page token; in the middle of a run's events it has the number of the last event behind a dot.

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

use super::super::convert::{fault, signal_name, timestamp};
use super::super::status;
use crate::execution::event::Cursor;
use crate::execution::log::{From, Item, ReadOptions};
use crate::execution::outcome::Ending;
use crate::history::filter::Filter;
use crate::history::page::{PageKey, PageToken};
use crate::history::{Query, Record};
use crate::json;
use crate::proto;
use crate::supervisor::{Fault, Run, Supervisor};

/// Records fetched at once.
const PAGE: usize = 200;

/// A chunk is sent when it has grown to this, bytes.
const CHUNK: usize = 64 << 10;

const CSV_HEADER: [&str; 14] = [
    "execution_id",
    "cause",
    "success",
    "exit_code",
    "signal",
    "command",
    "user",
    "create_time",
    "start_time",
    "complete_time",
    "running_seconds",
    "queued_seconds",
    "output_bytes",
    "labels",
];

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    JsonLines,
    Csv,
    Events,
}

impl Format {
    pub(super) fn parse(wire: i32) -> Result<Format, Fault> {
        use proto::export_records_request::Format as Wire;
        match Wire::try_from(wire) {
            Ok(Wire::Unspecified | Wire::JsonLines) => Ok(Format::JsonLines),
            Ok(Wire::Csv) => Ok(Format::Csv),
            Ok(Wire::Events) => Ok(Format::Events),
            Err(_) => Err(fault("format", "is not a value of this enum")),
        }
    }
}

/// An export under way.
pub(super) struct Export {
    supervisor: Supervisor,
    filter: Filter,
    format: Format,
    after: Option<PageKey>,
    /// The run in whose middle to go on, and behind which event.
    within: Option<Cursor>,
    chunk: Vec<u8>,
    /// Runs of which something could not be read.
    corrupt: Vec<String>,
}

/// Where chunks go.
type Chunks = mpsc::Sender<Result<proto::ExportRecordsResponse, Status>>;

/// The reader is gone.
struct Gone;

impl Export {
    pub(super) fn new(
        supervisor: Supervisor,
        filter: Filter,
        format: Format,
        resume_token: &str,
    ) -> Result<Export, Status> {
        let (page_token, seq) = match resume_token.rsplit_once('.') {
            Some((page_token, seq)) => (page_token, Some(seq)),
            None => (resume_token, None),
        };
        let after = super::after("resume_token", page_token, &filter)?;
        let within = match seq.map(str::parse) {
            None => None,
            Some(Ok(seq)) if format == Format::Events && after.is_some() => Some(Cursor::at(seq)),
            Some(_) => return Err(fault("resume_token", "is not a token of an export in this format").into()),
        };
        Ok(Export { supervisor, filter, format, after, within, chunk: Vec::new(), corrupt: Vec::new() })
    }

    /// Writes everything, or until the reader is gone.
    pub(super) async fn write(mut self, chunks: Chunks) {
        match self.pages(&chunks).await {
            Ok(Ok(())) | Err(Gone) => {}
            Ok(Err(error)) => {
                let _gone = chunks.send(Err(error)).await;
            }
        }
    }

    async fn pages(&mut self, chunks: &Chunks) -> Result<Result<(), Status>, Gone> {
        if self.format == Format::Csv && self.after.is_none() {
            self.chunk = csv_line(CSV_HEADER.map(str::to_owned));
        }
        if let (Some(key), Some(cursor)) = (self.after.clone(), self.within.take()) {
            match self.supervisor.record(&key.id).await {
                Ok(record) => self.events(&record, From::Cursor(cursor), chunks).await?,
                Err(error) => return Ok(Err(error.into())),
            }
        }
        loop {
            let query = Query {
                filter: self.filter.clone(),
                page_size: PAGE,
                after: self.after.clone(),
                include_unfinished: false,
            };
            let page = match self.supervisor.history().list(&query).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error.into())),
            };
            self.corrupt.extend(page.records.corrupt.into_iter().map(String::from));
            for record in page.records.sound {
                self.record(record, chunks).await?;
            }
            if page.next.is_none() {
                break;
            }
            self.after = page.next;
        }
        self.flush(None, chunks).await?;
        Ok(if self.corrupt.is_empty() { Ok(()) } else { Err(status::partly_corrupt(&self.corrupt)) })
    }

    async fn record(&mut self, record: Record, chunks: &Chunks) -> Result<(), Gone> {
        let key = PageKey::of(&record.snapshot);
        match self.format {
            Format::JsonLines => {
                let wire = proto::Record::from(record);
                self.chunk.extend_from_slice(json::text("Record", &wire).as_bytes());
                self.chunk.push(b'\n');
            }
            Format::Csv => self.chunk.append(&mut csv_line(csv_fields(&record))),
            Format::Events => {
                self.after = Some(key);
                return self.events(&record, From::Start, chunks).await;
            }
        }
        self.after = Some(key);
        if self.chunk.len() >= CHUNK { self.flush(None, chunks).await } else { Ok(()) }
    }

    /// The events of one run, output included.
    async fn events(&mut self, record: &Record, from: From, chunks: &Chunks) -> Result<(), Gone> {
        let id = record.snapshot.id.to_string();
        let log = self.supervisor.log(&Run::Ended(Box::new(record.clone()))).await;
        let Ok(mut reader) = log.and_then(|log| Ok(log.read(from, ReadOptions::default())?)) else {
            self.corrupt.push(id);
            return Ok(());
        };
        loop {
            let event = match reader.next().await {
                Ok(Item::Event(event) | Item::Gap(event)) => event,
                Ok(Item::Live) => continue,
                Ok(Item::End) => break,
                Err(error) => {
                    tracing::warn!(id, %error, "the export leaves out the rest of a damaged log");
                    self.corrupt.push(id);
                    break;
                }
            };
            let cursor = Cursor::at(event.seq);
            let wire = proto::ExecutionEvent {
                execution_id: id.clone(),
                cursor: Some(cursor.into()),
                time: Some(timestamp(event.time)),
                event: Some(event.kind.into()),
            };
            self.chunk.extend_from_slice(json::text("ExecutionEvent", &wire).as_bytes());
            self.chunk.push(b'\n');
            if self.chunk.len() >= CHUNK {
                self.flush(Some(cursor), chunks).await?;
            }
        }
        self.flush(None, chunks).await
    }

    async fn flush(&mut self, within: Option<Cursor>, chunks: &Chunks) -> Result<(), Gone> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut resume_token = self.after.as_ref().map(|key| PageToken::encode(key, &self.filter)).unwrap_or_default();
        if let Some(cursor) = within {
            resume_token.push_str(&format!(".{}", cursor.seq));
        }
        let data = Bytes::from(std::mem::take(&mut self.chunk));
        chunks.send(Ok(proto::ExportRecordsResponse { data, resume_token })).await.map_err(|_| Gone)
    }
}

fn csv_fields(record: &Record) -> [String; CSV_HEADER.len()] {
    let snapshot = &record.snapshot;
    let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let outcome = snapshot.outcome.as_ref();
    let (exit_code, signal) = match outcome.map(|outcome| &outcome.ending) {
        Some(Ending::Exited(code)) => (code.to_string(), String::new()),
        Some(Ending::Signaled { number, .. }) => (String::new(), signal_name(*number)),
        Some(Ending::NotStarted(_) | Ending::Unknown { .. }) | None => (String::new(), String::new()),
    };
    let durations = outcome.map(|outcome| outcome.durations).unwrap_or_default();
    let output: u64 = snapshot.channels.iter().map(|channel| channel.bytes_total).sum();
    let labels = serde_json::to_string(&snapshot.command.options.labels).unwrap_or_default();
    [
        snapshot.id.to_string(),
        outcome.map(|outcome| outcome.cause.name().to_owned()).unwrap_or_default(),
        outcome.is_some_and(crate::execution::outcome::Outcome::is_success).to_string(),
        exit_code,
        signal,
        snapshot.command.line.text(),
        snapshot.command.options.user.clone().unwrap_or_default(),
        snapshot.created.to_string(),
        time(snapshot.started),
        time(snapshot.completed),
        durations.running.as_secs_f64().to_string(),
        durations.queued.as_secs_f64().to_string(),
        output.to_string(),
        labels,
    ]
}

fn csv_line<const N: usize>(fields: [String; N]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(fields).expect("writing to memory does not fail");
    writer.into_inner().expect("writing to memory does not fail")
}
