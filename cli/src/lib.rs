//! The hurtig command
