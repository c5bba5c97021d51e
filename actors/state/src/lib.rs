//! Snapshot files and checkpoint storage of hurtig
