//! Reads one split: fills a buffer, lets the format decode what is in it, and keeps position and line.

use super::FileSplit;
use super::input::Input;
use crate::error::{Error, failed, shown, told};
use hurtig_dataflow::error::Fatal;
use hurtig_dataflow::source::{Polled, SplitReader};
use hurtig_dataflow::{OpResult, Rows, Timestamp};
use hurtig_formats::{BadLine, Block, DecodeFormat, Decoder, Malformed, OnError, Stop};
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Small enough to stay in a core's own cache from being filled to being decoded.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads the records whose first bytes lie in a split.
pub(super) struct Reader<F: DecodeFormat, P> {
    split: FileSplit,
    decoder: F::Decoder,
    buffered: Buffered,
    records: Vec<F::Out>,
    policy: PhantomData<fn() -> P>,
}

impl<F: DecodeFormat, P: OnError> Reader<F, P> {
    /// Opens a split at its position: behind the file's head, and where a record begins.
    pub(super) fn open(format: &F, mut split: FileSplit, max_record_bytes: usize) -> OpResult<Self> {
        let open = |position| Buffered::open(&split.path, position, max_record_bytes).map_err(told);
        let mut decoder = format.decoder_of(&split.path);
        let mut head = (0, 0);
        let mut from_start = None;
        if format.has_head() || split.position == 0 {
            let mut buffered = open(0)?;
            head = read_head(&mut decoder, &mut buffered, &split.path)?;
            from_start = Some(buffered);
        }
        let buffered = match from_start {
            Some(buffered) if split.position == 0 => {
                (split.position, split.line) = (head.0, split.line.map(|line| line + head.1));
                buffered
            }
            _ if split.position == split.start => {
                // The line break before a record tells that it begins here.
                let mut buffered = open(split.start - 1)?;
                let position = split.start - 1 + buffered.skip_line(&split.path).map_err(told)?;
                if position < head.0 {
                    (split.position, split.line) = (head.0, Some(1 + head.1));
                    open(head.0)?
                } else {
                    split.position = position;
                    buffered
                }
            }
            _ => open(split.position)?,
        };
        Ok(Reader { split, decoder, buffered, records: Vec::new(), policy: PhantomData })
    }

    /// What to put out for a malformed record. `block` says where in the buffer the block with it began, `line` and
    /// `position` where in the file.
    fn bad(
        &mut self,
        bad: Malformed,
        block: usize,
        position: u64,
        line: Option<u64>,
    ) -> OpResult<Option<P::Out<F::Out>>> {
        P::bad(|| {
            let path = &self.split.path;
            let line = match line {
                Some(line) => line,
                None => 1 + count_lines(path, position).map_err(told)?,
            };
            // Where lines had to be counted once they are known from now on.
            let lines_after =
                memchr::memchr_iter(b'\n', &self.buffered.buffer[block..self.buffered.at]).count();
            self.split.line = Some(line + lines_after as u64);
            let text = String::from_utf8_lossy(&self.buffered.buffer[block + bad.start..block + bad.end]);
            Ok(BadLine {
                file: shown(path),
                line: line + bad.lines_before,
                column: bad.column,
                field: bad.field,
                text: text.trim_end_matches(['\n', '\r']).to_string(),
                reason: bad.reason,
            })
        })
    }
}

impl<F: DecodeFormat, P: OnError> SplitReader for Reader<F, P> {
    type Out = P::Out<F::Out>;
    type Split = FileSplit;

    fn poll(&mut self, max: usize, _now: Timestamp) -> OpResult<Polled<Self::Out>> {
        let max = max.max(1);
        let mut out = Vec::new();
        while out.len() < max {
            let left = self.split.end.map_or(u64::MAX, |end| end.saturating_sub(self.split.position));
            let limit = usize::try_from(left).unwrap_or(usize::MAX);
            let block = Block { bytes: self.buffered.bytes(), limit, last: self.buffered.last };
            let decoded = self.decoder.decode(block, max - out.len(), &mut self.records);
            P::good(&mut self.records, &mut out);
            let (block, position, line) = (self.buffered.at, self.split.position, self.split.line);
            self.buffered.at += decoded.used;
            self.split.position += decoded.used as u64;
            self.split.line = line.map(|line| line + decoded.lines);
            match decoded.stop {
                Stop::Full => break,
                Stop::NeedsMore => {
                    self.buffered.read_more(&self.split.path, self.split.position).map_err(told)?;
                }
                Stop::End => break,
                Stop::Malformed(bad) => out.extend(self.bad(bad, block, position, line)?),
            }
        }
        Ok(if out.is_empty() { Polled::End } else { Polled::Rows(Rows::untimed(out)) })
    }

    fn position(&self) -> FileSplit {
        self.split.clone()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let split = &self.split;
        Some(match split.end {
            Some(end) => (split.position.min(end) - split.start, end - split.start),
            None => {
                let raw = self.buffered.input.raw.load(Ordering::Relaxed);
                (raw.min(split.file_bytes), split.file_bytes)
            }
        })
    }
}

/// Lets the decoder read the file's head; returns its length and lines.
fn read_head<D: Decoder>(decoder: &mut D, buffered: &mut Buffered, path: &Path) -> OpResult<(u64, u64)> {
    loop {
        match decoder.read_head(buffered.bytes(), buffered.last) {
            Ok(Some((length, lines))) => {
                buffered.at += length;
                return Ok((length as u64, lines));
            }
            Ok(None) => buffered.read_more(path, 0).map_err(told)?,
            Err(bad) => {
                let text =
                    String::from_utf8_lossy(&buffered.bytes()[bad.start..bad.end]).trim_end().to_string();
                let (file, line) = (shown(path), 1 + bad.lines_before);
                let Malformed { column, field, reason, .. } = bad;
                let bad = BadLine { file, line, column, field, text, reason };
                return Err(Fatal(hurtig_formats::Error::BadHead(bad).into()).into());
            }
        }
    }
}

/// Number of line breaks in the first `length` bytes of a file that is not compressed.
fn count_lines(path: &Path, length: u64) -> Result<u64, Error> {
    let mut bytes = File::open(path).map_err(failed("read", path))?.take(length);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut lines = 0;
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(lines),
            Ok(read) => lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path, error)),
        }
    }
}

/// Bytes of a file, from `at` on those not yet decoded.
struct Buffered {
    input: Input,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    /// Whether the file ends with the buffer.
    last: bool,
    max_record_bytes: usize,
}

impl Buffered {
    fn open(path: &Path, position: u64, max_record_bytes: usize) -> Result<Self, Error> {
        let input = Input::open(path, position)?;
        Ok(Buffered { input, buffer: Vec::new(), at: 0, filled: 0, last: false, max_record_bytes })
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    /// Reads more behind what is there. The buffer grows if one record takes up half of it.
    fn read_more(&mut self, path: &Path, position: u64) -> Result<(), Error> {
        let kept = self.filled - self.at;
        if kept >= self.max_record_bytes {
            return Err(Error::RecordTooLong { path: shown(path), position, limit: self.max_record_bytes });
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        self.at = 0;
        let size = self.buffer.len().max(BUFFER_BYTES).max(kept * 2);
        self.buffer.resize(size, 0);
        self.filled = self.input.fill(&mut self.buffer, kept, path)?;
        self.last = self.filled < self.buffer.len();
        Ok(())
    }

    /// Skips what is left of a line; returns its length with the line break.
    fn skip_line(&mut self, path: &Path) -> Result<u64, Error> {
        let mut skipped = 0;
        loop {
            if let Some(length) = memchr::memchr(b'\n', self.bytes()) {
                self.at += length + 1;
                return Ok(skipped + length as u64 + 1);
            }
            skipped += self.bytes().len() as u64;
            self.at = self.filled;
            if self.last {
                return Ok(skipped);
            }
            self.read_more(path, 0)?;
        }
    }
}
