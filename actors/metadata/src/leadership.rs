//! Who leads: the newest epoch that this store has served.

use crate::error::Error;
use crate::row::{self, NAME_BYTES, bounded, signed};
use crate::store::MetadataStore;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::LeaderEpoch;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A leader and its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Who leads in it.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
}

impl MetadataStore {
    /// Begins an epoch. The same again, by the same holder, does nothing.
    ///
    /// # Errors
    /// A newer epoch has begun, or this one with another holder; the disk failed.
    pub fn begin_epoch(&self, epoch: LeaderEpoch, holder: &str, now: Timestamp) -> Result<(), Error> {
        bounded("a holder's name", holder, NAME_BYTES)?;
        let number = signed("an epoch", epoch.0)?;
        self.write("begin an epoch in", |transaction| {
            match find(transaction)? {
                Some(found) if found.epoch == epoch && found.holder == holder => return Ok(()),
                Some(found) if found.epoch >= epoch => {
                    let Leadership { epoch: current, holder, .. } = found;
                    return Err(Error::Superseded { given: epoch, current, holder }.into());
                }
                _ => {}
            }
            let sql =
                "INSERT OR REPLACE INTO leadership (one, epoch, holder, since_ms) VALUES (1, ?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute(params![number, holder, now])?;
            Ok(())
        })
    }

    /// The newest epoch; `None` before the first.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn leadership(&self) -> Result<Option<Leadership>, Error> {
        self.read("read", find)
    }
}

fn find(connection: &Connection) -> rusqlite::Result<Option<Leadership>> {
    let mut query = connection.prepare_cached("SELECT epoch, holder, since_ms FROM leadership")?;
    let record = |row: &Row<'_>| {
        Ok(Leadership {
            epoch: LeaderEpoch(row::unsigned(row, "epoch")?),
            holder: row.get("holder")?,
            since: row.get("since_ms")?,
        })
    };
    query.query_row([], record).optional()
}
