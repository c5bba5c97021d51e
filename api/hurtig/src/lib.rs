//! hurtig, a distributed stateful stream processor
