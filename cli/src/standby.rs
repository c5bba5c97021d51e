//! Several JobManagers of one cluster: they elect the one that leads, and what it must not forget lies in a folder that
//! all of them share. One that stands by does not listen. One that leads and is followed by another begins again as one
//! that stands by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hurtig::Config;
use hurtig::dataflow::error::describe;
use hurtig::dataflow::ids::LeaderEpoch;
use hurtig_state::lease::{Lease, LeaseOptions, Renewal, Standing};
use hurtig_state::{CheckpointStore, ErrorKind};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::memory::ProgramFolder;
use crate::shared::SharedJobs;

/// What one term of leadership came to.
pub(crate) enum Term {
    /// The user has ended the process.
    Asked,
    /// Another JobManager leads.
    Lost(String),
}

/// Stands by and leads in turn until the user ends it. `lead` is called for each term, with the jobs there are and what
/// tells why the term is over.
pub(crate) async fn serve(
    config: &Config,
    folder: &Path,
    address: &str,
    programs: Arc<ProgramFolder>,
    mut asked: watch::Receiver<bool>,
    mut lead: impl AsyncFnMut(Arc<SharedJobs>, oneshot::Receiver<String>) -> anyhow::Result<Term>,
) -> anyhow::Result<()> {
    let location = std::path::absolute(folder)?.display().to_string();
    let store = CheckpointStore::open(&location).map_err(|error| anyhow::anyhow!(describe(&error)))?;
    store.probe().await.with_context(|| format!("'high-availability.dir' {location} cannot be used"))?;
    let started = Instant::now();
    #[allow(clippy::disallowed_methods, reason = "it must differ from those of all other processes")]
    let holder = format!("{address}-{:032x}", rand::random::<u128>());
    let options =
        LeaseOptions { holder, address: address.to_string(), duration: config.high_availability.lease };
    let mut lease = Lease::new(&store, options, Arc::new(move || started.elapsed()))?;
    loop {
        let epoch = tokio::select! {
            _ = asked.wait_for(|asked| *asked) => return Ok(()),
            epoch = acquire(&mut lease) => epoch?,
        };
        tracing::info!("this JobManager leads, in epoch {}", epoch.0);
        let (tell, lost) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let pause = config.high_availability.lease / 4;
        let holding = async {
            tokio::select! {
                // One that has ended needs no reason.
                reason = hold(&mut lease, pause) => drop(tell.send(reason)),
                _ = ended => {}
            }
        };
        let leading = async {
            let jobs = SharedJobs::open(&store, Arc::clone(&programs), epoch).await;
            let term = match jobs {
                Ok(jobs) => lead(Arc::new(jobs), lost).await,
                Err(error) => Err(error),
            };
            drop(end);
            term
        };
        let (term, ()) = tokio::join!(leading, holding);
        match term {
            Ok(Term::Lost(reason)) => tracing::warn!("this JobManager stands by: {reason}"),
            ended => {
                if let Err(error) = lease.release().await {
                    tracing::warn!("those that stand by are not told: {}", describe(&error));
                }
                return ended.map(drop);
            }
        }
    }
}

/// Waits until this process leads.
async fn acquire(lease: &mut Lease) -> anyhow::Result<LeaderEpoch> {
    let mut known = None;
    loop {
        match lease.acquire().await {
            Ok(Standing::Leading(epoch)) => return Ok(epoch),
            Ok(Standing::Standby { leader, look_again_in }) => {
                if let Some(leader) = leader.filter(|leader| known != Some(leader.epoch)) {
                    tracing::info!("this JobManager stands by: the one at {} leads", leader.address);
                    known = Some(leader.epoch);
                }
                sleep(look_again_in).await;
            }
            Err(error) if error.kind() == ErrorKind::Retry => {
                tracing::warn!("no election: {}", describe(&error));
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(anyhow::anyhow!(describe(&error))),
        }
    }
}

/// Renews the lease until it is lost, and returns why.
async fn hold(lease: &mut Lease, pause: Duration) -> String {
    loop {
        sleep(pause).await;
        let why = match lease.renew().await {
            Ok(Renewal::Leading(_)) => continue,
            Ok(Renewal::Deposed { by: Some(leader) }) => {
                return format!("the one at {} leads", leader.address);
            }
            Ok(Renewal::Deposed { by: None }) => return "it does not lead any more".into(),
            Err(error) => describe(&error),
        };
        tracing::warn!("the lease is not renewed: {why}");
        if lease.leads_until().is_none() {
            return format!("its lease has run out: {why}");
        }
    }
}
