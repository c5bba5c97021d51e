//! Reads lines of text from a TCP server. For trying things out: lines read but not processed before a failure are lost.

use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Rows, Timestamp};
use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the socket is looked at while nothing comes.
const POLL_INTERVAL_MS: i64 = 20;

/// A line longer than this fails the attempt: the server sends something else than text.
const LONGEST_LINE: usize = 1 << 20;

pub(crate) struct SocketTextSource {
    address: String,
}

impl SocketTextSource {
    pub(crate) fn new(address: &str) -> Self {
        SocketTextSource { address: address.to_string() }
    }
}

impl Source for SocketTextSource {
    type Out = String;
    type Split = ();

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<()>>> {
        Ok(Box::new(FixedSplits::new([()], restored)?))
    }

    fn open(&self, (): (), _: &Place) -> OpResult<Box<dyn SplitReader<Out = String, Split = ()>>> {
        let mut failed = format!("'{}' is no address", self.address);
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    return Ok(Box::new(Reader { stream, unfinished: Vec::new(), ended: false }));
                }
                Err(error) => failed = format!("cannot connect to '{}': {error}", self.address),
            }
        }
        Err(failed.into())
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

struct Reader {
    stream: TcpStream,
    /// Bytes after the last line break.
    unfinished: Vec<u8>,
    ended: bool,
}

impl Reader {
    /// Takes up to `max` whole lines out of what was read.
    fn lines(&mut self, max: usize) -> OpResult<Vec<String>> {
        let mut lines = Vec::new();
        let mut start = 0;
        while lines.len() < max
            && let Some(length) = self.unfinished[start..].iter().position(|byte| *byte == b'\n')
        {
            let line = &self.unfinished[start..start + length];
            lines.push(std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line))?.to_string());
            start += length + 1;
        }
        self.unfinished.drain(..start);
        if self.ended && lines.len() < max && !self.unfinished.is_empty() {
            lines.push(String::from_utf8(std::mem::take(&mut self.unfinished))?);
        }
        Ok(lines)
    }
}

impl SplitReader for Reader {
    type Out = String;
    type Split = ();

    fn poll(&mut self, max: usize, now: Timestamp) -> OpResult<Polled<String>> {
        let mut buffer = [0; 16 * 1024];
        while !self.ended && self.unfinished.len() < LONGEST_LINE {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.unfinished.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let lines = self.lines(max)?;
        Ok(match (lines.is_empty(), self.ended) {
            (false, _) => Polled::Rows(Rows::untimed(lines)),
            (true, true) => Polled::End,
            (true, false) if self.unfinished.len() >= LONGEST_LINE => {
                return Err(format!("a line is longer than {LONGEST_LINE} bytes").into());
            }
            (true, false) => Polled::Until(now + POLL_INTERVAL_MS),
        })
    }

    fn position(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::strided::tests::place;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn lines_come_whole_and_the_stream_ends_with_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = SocketTextSource::new(&listener.local_addr().unwrap().to_string());
        let mut reader = source.open((), &place()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert!(matches!(reader.poll(10, 0).unwrap(), Polled::Until(POLL_INTERVAL_MS)));
        server.write_all("to be\r\nor n".as_bytes()).unwrap();
        let mut found = Vec::new();
        while found.is_empty() {
            if let Polled::Rows(rows) = reader.poll(10, 0).unwrap() {
                found.extend(rows.records);
            }
        }
        server.write_all("ot\n\nto".as_bytes()).unwrap();
        drop(server);
        loop {
            match reader.poll(2, 0).unwrap() {
                Polled::Rows(rows) => found.extend(rows.records),
                Polled::End => break,
                _ => {}
            }
        }
        assert_eq!(found, ["to be", "or not", "", "to"]);
    }
}
