//! Any bytes, in any two pieces, are frames within the limit, or an error, and the same as in one piece.
#![no_main]

use hurtig_transport::frame::{Decoder, Frame, FrameError};
use libfuzzer_sys::fuzz_target;

const LIMIT: u32 = 1 << 16;

fn decode(decoder: &mut Decoder, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
    while let Some(frame) = decoder.decode(&mut bytes)? {
        assert!(frame.payload.len() <= LIMIT as usize);
        frames.push(frame);
    }
    Ok(())
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (one, other) = bytes.split_at((cut as usize).min(bytes.len()));
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let of_whole = decode(&mut Decoder::new(LIMIT), bytes, &mut whole);
    let mut decoder = Decoder::new(LIMIT);
    let of_pieces =
        decode(&mut decoder, one, &mut pieces).and_then(|()| decode(&mut decoder, other, &mut pieces));
    assert_eq!((of_whole, whole), (of_pieces, pieces));
});
