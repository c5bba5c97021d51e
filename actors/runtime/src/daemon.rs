//! The daemons of a cluster: the JobManager's process ([`jobmanager`]) and the TaskManagers' ([`taskmanager`]). They run
//! no code of any user: a job's is in processes of its own.

pub mod client;
pub mod jobmanager;
pub mod memory;
pub mod taskmanager;
