//! Reads batches that the program holds: one split, in order. For `VALUES`, for tables made of streams, for tests.

use crate::changes::Changes;
use crate::connector::{Connector, Scan, ScanRequest, TableDefinition};
use crate::error::SqlError;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Rows, Timestamp};
use std::sync::Arc;

/// Reads a list of batches, one at a time.
#[derive(Clone)]
pub(crate) struct BatchesSource {
    batches: Arc<[Changes]>,
}

impl BatchesSource {
    pub(crate) fn new(batches: Vec<Changes>) -> Self {
        BatchesSource { batches: batches.into() }
    }
}

impl Source for BatchesSource {
    type Out = Changes;
    /// Number of batches read.
    type Split = u64;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<u64>>> {
        Ok(Box::new(FixedSplits::new([0], restored)?))
    }

    fn open(&self, at: u64, _: &Place) -> OpResult<Box<dyn SplitReader<Out = Changes, Split = u64>>> {
        Ok(Box::new(Reader { batches: Arc::clone(&self.batches), at }))
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

/// Tables of batches that the program holds.
pub(crate) struct BatchesConnector {
    batches: Vec<Changes>,
}

impl BatchesConnector {
    pub(crate) fn new(batches: Vec<Changes>) -> Self {
        BatchesConnector { batches }
    }
}

impl Connector for BatchesConnector {
    fn name(&self) -> &'static str {
        "batches"
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_append_only(&self, _: &TableDefinition) -> bool {
        self.batches.iter().all(|changes| changes.weights.is_none())
    }

    fn scan(&self, _: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        let projected = self.batches.iter().map(|changes| {
            let batch = changes.batch.project(&request.columns)?;
            Ok(Changes { batch, weights: changes.weights.clone() })
        });
        let batches = projected.collect::<Result<Vec<_>, SqlError>>()?;
        Ok(Scan::of(BatchesSource::new(batches), request).with_max_subtasks(1))
    }
}

struct Reader {
    batches: Arc<[Changes]>,
    at: u64,
}

impl SplitReader for Reader {
    type Out = Changes;
    type Split = u64;

    fn poll(&mut self, _: usize, _: Timestamp) -> OpResult<Polled<Changes>> {
        let next = usize::try_from(self.at).ok().and_then(|at| self.batches.get(at));
        Ok(match next {
            Some(batch) => {
                self.at += 1;
                Polled::Rows(Rows::untimed(vec![batch.clone()]))
            }
            None => Polled::End,
        })
    }

    fn position(&self) -> u64 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::{read_all, table};

    #[test]
    fn every_batch_comes_once_and_in_order() {
        let batches: Vec<Changes> = (0..9).map(|n| table(&format!("{n}, {n}a"))).collect();
        assert_eq!(read_all(&BatchesSource::new(batches.clone()), 1), batches);
        assert!(read_all(&BatchesSource::new(Vec::new()), 1).is_empty());
    }
}
