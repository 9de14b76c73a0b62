//! Pauses of less than a millisecond, the tick of the runtime's own timers (tokio, `time::sleep`).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's (`timerfd_create(2)`), made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct ShortPause {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl ShortPause {
    /// Waits, at least a millisecond where the kernel has no timer to give. Losing the wait is safe.
    pub(crate) async fn wait(&mut self, time: Duration) {
        if self.wait_for_kernel(time).await.is_err() {
            tokio::time::sleep(time).await;
        }
    }

    async fn wait_for_kernel(&mut self, time: Duration) -> io::Result<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
                let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
                #[expect(
                    deprecated,
                    reason = "its successor is unsafe, and an OwnedFd keeps to what that asks for"
                )]
                let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
                none.insert(timer)
            }
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: time.as_secs().cast_signed(),
                // None at all would disarm the timer.
                tv_nsec: i64::from(time.subsec_nanos()).max(1),
            },
        };
        // Setting it anew forgets an expiration that nobody has waited for.
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut expirations = [0; 8];
        timer
            .async_io(Interest::READABLE, |timer| Ok(rustix::io::read(timer, &mut expirations)?))
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn waits_as_long_as_it_was_told_last() {
        let mut pause = ShortPause::default();
        // Lost, and expired before the next one.
        let _lost = pause.wait(Duration::from_millis(5)).now_or_never();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        pause.wait(Duration::from_millis(20)).await;
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(pause.timer.is_some());
    }
}
