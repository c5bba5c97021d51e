//! Processes of a cluster that run a user's program: started by the daemons ([`child`]), they are a job's master
//! ([`master`]) or one of its workers ([`worker`]).

pub mod child;
pub mod master;
pub mod worker;
