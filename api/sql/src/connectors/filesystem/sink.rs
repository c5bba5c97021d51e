//! Divides batches by the folders that their rows go to, and hands the pieces to the file sink.

use super::partitions::Partitions;
use crate::changes::Changes;
use crate::connector::SinkInput;
use crate::connectors::formats::{Encoding, Piece};
use arrow::array::UInt32Array;
use hurtig_dataflow::operator::{OpenContext, Place};
use hurtig_dataflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Rows, Timestamp};
use hurtig_files::FileSink;
use std::collections::HashMap;
use std::sync::Arc;

/// Writes pieces of batches to files.
pub(super) struct Pieces {
    files: FileSink<Piece, Encoding>,
    divide: Arc<Divide>,
}

/// How batches are divided.
struct Divide {
    partitions: Partitions,
    /// Columns that are written.
    in_files: Vec<usize>,
    /// Of these, those that tell rows apart, as far as they are written.
    key: Option<Vec<usize>>,
}

impl Pieces {
    pub(super) fn new(files: FileSink<Piece, Encoding>, partitions: Partitions, input: SinkInput) -> Self {
        let in_files = partitions.in_files();
        // What is not written is the same for all rows of a file.
        let place = |column: &usize| in_files.iter().position(|other| other == column);
        let key = input.key.map(|key| key.iter().filter_map(place).collect());
        Pieces { files, divide: Arc::new(Divide { partitions, in_files, key }) }
    }
}

impl Sink for Pieces {
    type In = Changes;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<Changes>>> {
        Ok(Box::new(Writer { files: self.files.writer(place)?, divide: Arc::clone(&self.divide) }))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        self.files.committer()
    }
}

impl Divide {
    fn pieces(&self, changes: Changes) -> OpResult<Vec<Piece>> {
        let piece = |folder: String, changes: Changes| -> OpResult<Piece> {
            let batch = changes.batch.project(&self.in_files)?;
            Ok(Piece { folder, changes: Changes { batch, weights: changes.weights }, key: self.key.clone() })
        };
        if self.partitions.columns.is_empty() {
            return Ok(vec![piece(String::new(), changes)?]);
        }
        let cells = self.partitions.cells(&changes.batch)?;
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut folders: Vec<(String, Vec<u32>)> = Vec::new();
        let (mut folder, mut value) = (String::new(), Vec::new());
        let mut last = usize::MAX;
        for row in 0..changes.batch.num_rows() {
            self.partitions.folder(&cells, row, &mut value, &mut folder);
            if folders.get(last).is_none_or(|(name, _)| *name != folder) {
                last = match places.get(&folder) {
                    Some(place) => *place,
                    None => {
                        places.insert(folder.clone(), folders.len());
                        folders.push((folder.clone(), Vec::new()));
                        folders.len() - 1
                    }
                };
            }
            folders[last].1.push(row as u32);
        }
        folders
            .into_iter()
            .map(|(folder, rows)| piece(folder, changes.take(&UInt32Array::from(rows))?))
            .collect()
    }
}

struct Writer {
    files: Box<dyn SinkWriter<Piece>>,
    divide: Arc<Divide>,
}

impl SinkWriter<Changes> for Writer {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.files.open(ctx)
    }

    fn write(&mut self, batch: Rows<Changes>, ctx: &mut SinkContext<'_>) -> OpResult {
        let mut pieces = Vec::with_capacity(batch.len());
        for changes in batch.records.into_iter().filter(|changes| changes.batch.num_rows() > 0) {
            pieces.append(&mut self.divide.pieces(changes)?);
        }
        self.files.write(Rows::untimed(pieces), ctx)
    }

    fn prepare_commit(&mut self, ctx: &mut SinkContext<'_>) -> OpResult<Vec<Vec<u8>>> {
        self.files.prepare_commit(ctx)
    }

    fn end(&mut self, ctx: &mut SinkContext<'_>) -> OpResult {
        self.files.end(ctx)
    }

    fn next_processing_time(&self) -> Option<Timestamp> {
        self.files.next_processing_time()
    }

    fn on_processing_time(&mut self, ctx: &mut SinkContext<'_>) -> OpResult {
        self.files.on_processing_time(ctx)
    }
}
