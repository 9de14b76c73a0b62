//! Waiting on conditions.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it answers `Some`, and gives that back. A failing probe ends
/// the wait at once; at the deadline the error says what was awaited.
pub async fn until<T, F>(what: &str, deadline: Duration, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        match timeout_at(end, probe()).await {
            Ok(found) => {
                if let Some(found) = found.with_context(|| format!("while waiting for {what}"))? {
                    return Ok(found);
                }
            }
            Err(_) => bail!("{what}: not within {deadline:?}"),
        }
        if Instant::now() >= end {
            bail!("{what}: not within {deadline:?}");
        }
        sleep(PAUSE).await;
    }
}

/// Asks until `probe` answers true.
pub async fn until_true<F>(what: &str, deadline: Duration, mut probe: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<bool>,
{
    until(what, deadline, async || Ok(probe().await?.then_some(()))).await
}
