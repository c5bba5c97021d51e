//! Runs a statement's job and shows what it gives while it runs.

use hurtig::datastream::Environment;
use hurtig::{Cluster, Config};
use std::time::Duration;

/// How often results are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the job to its end, or until the user interrupts it; `show` is called again and again meanwhile.
pub(super) fn run(
    name: &str,
    env: &Environment,
    config: &Config,
    mut show: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = hurtig::runtime()?;
    let config = hurtig::configured(env, config);
    let result = runtime.block_on(async {
        let cluster = Cluster::start(&config).await?;
        let job = cluster.submit(name, &env.graph(), &config).await?;
        let mut looks = tokio::time::interval(LOOK);
        let ended = job.wait();
        tokio::pin!(ended);
        let ended = loop {
            tokio::select! {
                ended = &mut ended => break ended.map(|_| ()).map_err(anyhow::Error::from),
                _ = looks.tick() => {
                    if let Err(error) = show() {
                        // Whoever reads the results is gone.
                        let _ = job.cancel();
                        break Err(error);
                    }
                }
                interrupted = tokio::signal::ctrl_c() => {
                    if interrupted.is_ok() {
                        let _ = job.cancel();
                        eprintln!("interrupted");
                        break Ok(());
                    }
                }
            }
        };
        cluster.shutdown().await;
        ended
    });
    // A blocking read that never returns must not hold the process.
    runtime.shutdown_background();
    result
}
