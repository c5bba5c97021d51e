//! The actors of hurtig: JobManager, JobMaster, TaskManager, subtasks

pub mod config;
