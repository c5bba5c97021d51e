//! The DataStream API of hurtig
