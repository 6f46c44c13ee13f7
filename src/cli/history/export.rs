//! `history export`: many records, through connections that break.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::FILTERS;
use crate::cli::connection::{Connection, Reach};
use crate::cli::failure::Failure;
use crate::cli::patience::Patience;
use crate::proto::ExportRecordsRequest;
use crate::proto::export_records_request::Format;

/// Writes records as JSON lines or CSV, or their events with all output.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(in crate::cli) struct Export {
    /// Only these
    #[arg(long, short, default_value = "", hide_default_value = true)]
    filter: String,
    /// How they are written
    #[arg(long, default_value = "jsonl")]
    format: ExportFormat,
    /// Where to [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// One record in JSON a line
    Jsonl,
    /// RFC 4180 with a header
    Csv,
    /// One event in JSON a line, output included
    Events,
}

impl Export {
    pub(super) async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let mut to: Box<dyn AsyncWrite + Unpin> = match &self.output {
            Some(path) => Box::new(File::create(path).await.map_err(|source| self.unwritable(source))?),
            None => Box::new(tokio::io::stdout()),
        };
        let format = match self.format {
            ExportFormat::Jsonl => Format::JsonLines,
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Events => Format::Events,
        };
        let mut request =
            ExportRecordsRequest { filter: self.filter.clone(), format: format.into(), resume_token: String::new() };
        let mut client = connection.history();
        let mut patience = Patience::default();
        loop {
            // A stream that breaks is taken up behind the last whole chunk.
            let broken = match client.export_records(request.clone()).await {
                Err(status) => status,
                Ok(response) => {
                    let mut chunks = response.into_inner();
                    loop {
                        match chunks.message().await {
                            Ok(Some(chunk)) => {
                                to.write_all(&chunk.data).await.map_err(|source| self.unwritable(source))?;
                                request.resume_token = chunk.resume_token;
                                patience.renew();
                            }
                            Ok(None) => return to.flush().await.map_err(|source| self.unwritable(source)),
                            Err(status) => break status,
                        }
                    }
                }
            };
            patience.wait(broken).await?;
        }
    }

    fn unwritable(&self, source: std::io::Error) -> Failure {
        match &self.output {
            Some(path) => Failure::Io { what: format!("cannot write {}", path.display()), source },
            None => Failure::output(source),
        }
    }
}
