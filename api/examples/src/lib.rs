//! Example programs of hurtig
