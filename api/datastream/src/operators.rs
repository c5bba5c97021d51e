//! The operators: one file each, with the method that adds it to a stream.

pub(crate) mod aggregate;
pub(crate) mod async_map;
pub(crate) mod broadcast_process;
pub(crate) mod co_map;
pub(crate) mod co_process;
pub(crate) mod filter;
pub(crate) mod flat_map;
pub(crate) mod interval_join;
pub(crate) mod keyed_process;
pub(crate) mod map;
pub(crate) mod pane_windows;
pub(crate) mod process;
pub(crate) mod reduce;
pub(crate) mod slice_windows;
pub(crate) mod timestamps;
pub(crate) mod window_join;
