//! Any bytes are an identity or an error.
#![no_main]

use hurtig_transport::{Identity, Tls};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(identity) = Identity::from_bytes(bytes) {
        let _ = Tls::new(identity);
    }
});
