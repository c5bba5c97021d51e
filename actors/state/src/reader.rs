//! Reads one layer of a subtask's snapshot: the end of its file, then the blocks that are wanted.

use crate::directory::{Directory, is_file_name, join, off_the_loop};
use crate::error::Error;
use crate::snapshot_file::{
    Footer, HEADER_BYTES, Layer, TRAILER_BYTES, WHAT, check_header, footer_range, read_footer,
};
use crate::store::METADATA_FILE;
use bytes::Bytes;
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::snapshot::SubtaskSnapshot;

/// The footer of most files is within this many of their last bytes.
const TAIL_BYTES: u64 = 64 << 10;

/// Blocks fetched at once have about this many bytes.
const FETCH_BYTES: u64 = 8 << 20;

pub(crate) async fn read_layer(
    directory: &Directory,
    checkpoint: &str,
    layer: &Layer,
    groups: Option<KeyGroupRange>,
    unkeyed: bool,
) -> Result<SubtaskSnapshot, Error> {
    match layer {
        Layer::Inline(bytes) => {
            let path = format!("{} (inline snapshot)", join(checkpoint, METADATA_FILE));
            let bytes = Bytes::copy_from_slice(bytes);
            check_header(&bytes, &path)?;
            let mut footer = read_footer(&bytes, bytes.len() as u64, &path)?;
            for wanted in footer.blocks(groups, unkeyed) {
                // The footer is checked to lie behind the blocks.
                let stored = &bytes[wanted.range.start as usize..wanted.range.end as usize];
                footer.add_block(&wanted, stored, groups, &path)?;
            }
            Ok(footer.snapshot)
        }
        Layer::File { name, .. } if !is_file_name(name) => {
            Err(Error::corrupt(checkpoint, format!("it names '{name}', which is not the name of a file")))
        }
        Layer::File { name, bytes } => {
            let file = File { directory, name, path: join(&directory.url, name), bytes: *bytes };
            file.read(groups, unkeyed).await
        }
    }
}

struct File<'a> {
    directory: &'a Directory,
    name: &'a str,
    path: String,
    bytes: u64,
}

impl File<'_> {
    async fn read(&self, groups: Option<KeyGroupRange>, unkeyed: bool) -> Result<SubtaskSnapshot, Error> {
        let length = self.directory.length(self.name).await?;
        if length != self.bytes {
            let reason = format!("it has {length} bytes instead of {}", self.bytes);
            return Err(Error::corrupt(&self.path, reason));
        }
        let mut footer = self.footer().await?;
        let wanted = footer.blocks(groups, unkeyed);
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let more = rest.iter().take_while(|wanted| {
                let fits = bytes < FETCH_BYTES;
                bytes += wanted.range.end - wanted.range.start;
                fits
            });
            let (now, after) = rest.split_at(more.count());
            rest = after;
            let ranges: Vec<_> = now.iter().map(|wanted| wanted.range.clone()).collect();
            let stored = self.directory.get_ranges(self.name, &ranges).await?;
            let (now, path) = (now.to_vec(), self.path.clone());
            let work = move || {
                for (wanted, stored) in now.iter().zip(&stored) {
                    footer.add_block(wanted, stored, groups, &path)?;
                }
                Ok(footer)
            };
            footer = off_the_loop(bytes as usize, "read", WHAT, work).await?;
        }
        Ok(footer.snapshot)
    }

    async fn footer(&self) -> Result<Footer, Error> {
        if self.bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(Error::corrupt(&self.path, "it is cut off"));
        }
        let header = 0..HEADER_BYTES as u64;
        let tail = self.bytes.saturating_sub(TAIL_BYTES)..self.bytes;
        let mut parts = self.directory.get_ranges(self.name, &[header, tail]).await?;
        let mut tail = parts.pop().unwrap_or_default();
        check_header(&parts.pop().unwrap_or_default(), &self.path)?;
        let range = footer_range(&tail, self.bytes, &self.path)?;
        if range.start < self.bytes - tail.len() as u64 {
            let range = range.start..self.bytes;
            tail = self.directory.get_ranges(self.name, &[range]).await?.pop().unwrap_or_default();
        }
        read_footer(&tail, self.bytes, &self.path)
    }
}
