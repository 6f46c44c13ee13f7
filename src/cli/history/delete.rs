//! `history delete`: removes records for good.

use clap::Args;

use crate::cli::connection::{Connection, Reach};
use crate::cli::failure::Failure;
use crate::cli::{human, identify, print};
use crate::proto::DeleteRecordRequest;

/// Removes records and their output for good.
#[derive(Args)]
pub(in crate::cli) struct Delete {
    /// The runs: their ids, or a beginning or end that no other has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Delete {
    pub(super) async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        for text in &self.ids {
            let execution_id = identify::id(connection, text).await?;
            let request = DeleteRecordRequest { execution_id: execution_id.clone() };
            let freed = connection.history().delete_record(request).await?.into_inner().freed_bytes;
            print::line(&format!("{execution_id} deleted, {} freed", human::size(freed)))?;
        }
        Ok(())
    }
}
