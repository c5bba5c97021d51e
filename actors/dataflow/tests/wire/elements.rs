//! Elements of a channel come back in their kind.

use crate::types::Channel;
use hurtig_dataflow::wire::{Limits, element};
use hurtig_dataflow::{Barrier, Element, Rows, batch::downcast};
use proptest::prelude::*;

fn elements() -> Vec<Element> {
    vec![
        Element::Batch(Box::new(Rows::timed([(1u32, 10), (2, 20)]))),
        Element::Watermark(i64::MIN),
        Element::Watermark(77),
        Element::Barrier(Barrier { checkpoint: 1, savepoint: None, stop: false, overtakes: false }),
        Element::Barrier(Barrier {
            checkpoint: u64::MAX,
            savepoint: Some("file:/ä".into()),
            stop: true,
            overtakes: false,
        }),
        Element::Idle,
        Element::Active,
        Element::End,
    ]
}

#[test]
fn every_element_comes_back_and_no_cut_or_longer_one_does() {
    let mut channel = Channel::<u32>::of();
    for sent in elements() {
        let mut bytes = Vec::new();
        element::encode(&sent, &mut *channel.encoder, &mut bytes).unwrap();
        let decode = |bytes: &[u8]| element::decode(bytes, &*channel.codec, Limits::default());
        match (decode(&bytes).unwrap(), &sent) {
            (Element::Batch(batch), Element::Batch(_)) => {
                assert_eq!(downcast::<Rows<u32>>(batch).unwrap(), Rows::timed([(1, 10), (2, 20)]));
            }
            (Element::Barrier(read), Element::Barrier(written)) => assert_eq!(read, *written),
            (read, written) => assert_eq!(format!("{read:?}"), format!("{written:?}")),
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{sent:?} cut at {cut}");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err(), "{sent:?} and a byte more");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(kind in 0u8..8, mut bytes: Vec<u8>) {
        bytes.insert(0, kind);
        drop(element::decode(&bytes, &*Channel::<(u32, String)>::of().codec, Limits { rows: 10 }));
    }
}
