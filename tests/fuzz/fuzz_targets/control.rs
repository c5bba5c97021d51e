//! Any bytes are a message of the control plane, for each of those who take some, or an error.
#![no_main]

use hurtig_runtime::node::decode;
use hurtig_runtime::protocol::{
    ClientRequest, FromMaster, FromTaskManager, FromWorker, ToMaster, ToTaskManager, ToWorker,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode::<ClientRequest>(bytes);
    let _ = decode::<FromTaskManager>(bytes);
    let _ = decode::<ToTaskManager>(bytes);
    let _ = decode::<FromMaster>(bytes);
    let _ = decode::<ToMaster>(bytes);
    let _ = decode::<FromWorker>(bytes);
    let _ = decode::<ToWorker>(bytes);
});
