use proptest::prelude::*;

use super::*;

const LIMIT: u32 = 1 << 20;

fn encode(frame: &Frame) -> Vec<u8> {
    encode_with(frame, 0, &frame.payload)
}

fn encode_with(frame: &Frame, flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header { length: payload.len() as u32, channel: frame.channel, kind: frame.kind, flags };
    [&header.encode()[..], payload].concat()
}

fn frame_of(payload: Vec<u8>) -> Frame {
    Frame { channel: 3, kind: 9, payload: payload.into() }
}

fn decode_all(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut bytes)? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_anything_is_allocated() {
    for length in [LIMIT + 1, u32::MAX] {
        let mut decoder = Decoder::new(LIMIT);
        let header = Header { length, channel: 1, kind: 0, flags: 0 };
        assert_eq!(
            decoder.decode(&mut &header.encode()[..]),
            Err(FrameError::TooLong { length, channel: 1, limit: LIMIT })
        );
        assert!(decoder.body.capacity() < 1024);
    }
}

#[test]
fn memory_grows_with_what_arrives_not_with_what_is_declared() {
    let mut decoder = Decoder::new(u32::MAX);
    let header = Header { length: u32::MAX, channel: 1, kind: 0, flags: 0 };
    assert_eq!(decoder.decode(&mut &header.encode()[..]), Ok(None));
    assert!(decoder.body.capacity() <= 2 * FIRST_ALLOCATION_BYTES);
    let some = vec![0; 3 << 20];
    assert_eq!(decoder.decode(&mut &some[..]), Ok(None));
    assert!(decoder.body.capacity() <= 8 << 20, "{}", decoder.body.capacity());
}

#[test]
fn a_frame_of_another_version_is_refused() {
    let bytes = encode_with(&frame_of(vec![1]), 0b10, &[1]);
    assert_eq!(
        decode_all(&mut Decoder::new(LIMIT), &bytes),
        Err(FrameError::UnknownFlags { channel: 3, flags: 0b10 })
    );
}

#[test]
fn a_compressed_payload_is_the_same_after_decompression() {
    let frame = frame_of(b"all work and no play ".repeat(1000));
    let compressed = compress(&frame.payload).unwrap();
    assert!(compressed.len() * 10 < frame.payload.len());
    let bytes = encode_with(&frame, FLAG_COMPRESSED, &compressed);
    assert_eq!(decode_all(&mut Decoder::new(LIMIT), &bytes), Ok(vec![frame]));
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    let mut random = 1u64;
    let noise: Vec<u8> = (0..10_000)
        .map(|_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as u8
        })
        .collect();
    assert_eq!(compress(&noise), None);
    assert_eq!(compress(&[]), None);
}

#[test]
fn a_compressed_payload_cannot_ask_for_memory() {
    let refused = |length: u32, limit: u32, block: &[u8]| {
        let payload = [&length.to_le_bytes()[..], block].concat();
        decode_all(&mut Decoder::new(limit), &encode_with(&frame_of(vec![]), FLAG_COMPRESSED, &payload))
            .unwrap_err()
    };
    // over the limit
    assert!(matches!(refused(LIMIT + 1, LIMIT, &[0; 100]), FrameError::TooLong { .. }));
    // within the limit, but no block of this size can hold so much
    assert_eq!(refused(u32::MAX, u32::MAX, &[0; 100]), FrameError::Compression { channel: 3 });
    // another length than declared
    let block = lz4_flex::block::compress(&[7; 1000]);
    assert_eq!(refused(999, LIMIT, &block), FrameError::Compression { channel: 3 });
    assert_eq!(refused(1001, LIMIT, &block), FrameError::Compression { channel: 3 });
    assert_eq!(refused(0, LIMIT, &[]), FrameError::Compression { channel: 3 });
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0usize..(600 << 10)).prop_map(|length| vec![5; length]),
    ];
    let frame = (any::<u32>(), any::<u8>(), payload).prop_map(|(channel, kind, payload)| Frame {
        channel,
        kind,
        payload: payload.into(),
    });
    prop::collection::vec(frame, 0..12)
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_frames(frames in frames(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut decoder = Decoder::new(LIMIT);
        let mut decoded = Vec::new();
        for pair in cuts.windows(2) {
            decoded.extend(decode_all(&mut decoder, &bytes[pair[0]..pair[1]])?);
        }
        prop_assert_eq!(decoded, frames);
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4096), limit in any::<u32>()) {
        let mut decoder = Decoder::new(limit);
        if let Ok(frames) = decode_all(&mut decoder, &bytes) {
            prop_assert!(frames.iter().all(|frame| frame.payload.len() <= limit as usize));
        }
        prop_assert!(decoder.body.capacity() <= 2 * FIRST_ALLOCATION_BYTES);
    }

    #[test]
    fn any_header_with_any_bytes_is_a_frame_or_an_error(length in 0u32..200, flags in prop_oneof![Just(0u8), Just(FLAG_COMPRESSED), any::<u8>()], bytes in prop::collection::vec(any::<u8>(), 200)) {
        let header = Header { length, channel: 0, kind: 0, flags };
        let _ = decode_all(&mut Decoder::new(1 << 16), &[&header.encode()[..], &bytes].concat());
    }
}
