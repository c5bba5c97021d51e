//! Connector `blackhole`: throws rows away, for measurements.

use crate::changes::Changes;
use crate::connector::{Connector, SinkInput, TableDefinition, TableSink};
use crate::error::SqlError;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Rows};

/// The connector.
pub(super) struct Blackhole;

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn sink(&self, _: &TableDefinition, _: SinkInput) -> Result<TableSink, SqlError> {
        Ok(TableSink::of(Hole))
    }
}

struct Hole;

impl Sink for Hole {
    type In = Changes;

    fn writer(&self, _: &Place) -> OpResult<Box<dyn SinkWriter<Changes>>> {
        Ok(Box::new(Hole))
    }
}

impl SinkWriter<Changes> for Hole {
    fn write(&mut self, _: Rows<Changes>, _: &mut SinkContext<'_>) -> OpResult {
        Ok(())
    }
}
