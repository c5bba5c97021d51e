//! File source and sink of hurtig
