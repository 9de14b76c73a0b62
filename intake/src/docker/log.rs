//! A container's log, read on and on.
//!
//! Docker ends a log that is followed when the container ends. Then it is read once more, from the position on,
//! for what came last; only after that the end is recorded.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use model::{ContainerAction, ContainerEvent, Event, LogLine};
use tokio::time::{Instant, sleep, sleep_until};

use super::Docker;
use super::container::{Trouble, look_up};
use super::daemon::{Container, DaemonError};
use super::journal::Journal;
use super::life::{self, Changes};
use super::lines::Lines;
use super::position::{Life, Position};
use super::reading::Reading;
use crate::sources::Source;

/// What was read waits no longer for more that is there already: the quota may let that through slowly.
const APPEND_AFTER: Duration = Duration::from_millis(100);
/// A container without changes is looked at after this.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// Its names are looked up again after this.
const LOOK_UP_EVERY: Duration = Duration::from_mins(1);
/// The last block is written down as being there after this.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// Docker skips files of a log that were rotated twice while nobody read on, and does not say so. Who did not
/// read for this long asks anew, and gets what those files have.
const STALL: Duration = Duration::from_secs(2);
/// Where Docker does not go on by itself, it is asked again after this, or later if reading took long.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Docker reads all of a log to find where to begin.
const READ_DEADLINE: Duration = Duration::from_mins(10);
/// How long after a container's end the word of it is waited for.
const WORD_DEADLINE: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// A container's log, and how far it is in the stream.
pub(super) struct Log {
    docker: Docker,
    /// As it was when it was last looked at.
    container: Container,
    source: Arc<Source>,
    journal: Journal,
    looked_up: Instant,
    has_complained: bool,
    /// What Docker's last answer has ended with: lines without an end, and what waits for more lines.
    unfinished: Option<Lines>,
}

/// How reading on ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Docker has ended it.
    Over,
    /// It is to be asked for anew.
    Stalled,
}

impl Log {
    pub(super) fn new(
        docker: Docker,
        container: Container,
        source: Arc<Source>,
        journal: Journal,
    ) -> Self {
        let looked_up = Instant::now();
        Self {
            docker,
            container,
            source,
            journal,
            looked_up,
            has_complained: false,
            unfinished: None,
        }
    }

    /// The number of the next record.
    pub(super) const fn progress(&self) -> u64 {
        self.journal.position().next_seq
    }

    /// Reads until the container is gone, or something is in the way.
    pub(super) async fn follow(
        &mut self,
        changes: &mut Changes,
    ) -> Result<std::convert::Infallible, Trouble> {
        let mut delay = Duration::ZERO;
        loop {
            match self.docker.daemon.container(&self.container.id).await {
                Ok(container) => self.container = container,
                Err(DaemonError::Unknown) => {
                    self.finish().await?;
                    self.record_end(changes, true).await?;
                    return Err(Trouble::Gone);
                }
                Err(error) => return Err(error.into()),
            }
            if self.container.started_at > self.life().at {
                // It may have run before, and have written then.
                if let Some(end) = changes.end_before(&self.container) {
                    self.read_rest(Some(end), true).await?;
                }
                self.record_start(changes).await?;
                delay = Duration::ZERO;
            }
            if self.container.is_running && self.docker.daemon.leaves_out(&self.container).await? {
                self.read_again(changes).await?;
                continue;
            }
            if self.container.is_running {
                self.pause(delay).await?;
                let before = self.progress();
                let end = self.read_on(changes).await?;
                let is_idle = end == End::Over && self.progress() == before;
                delay = if is_idle {
                    (delay * 2).clamp(FIRST_RETRY, LONGEST_RETRY)
                } else {
                    Duration::ZERO
                };
                continue;
            }
            if self.life().is_up {
                self.read_rest(None, true).await?;
                self.record_end(changes, false).await?;
            }
            self.journal.settle().await?;
            // Losing an arm loses nothing.
            tokio::select! {
                () = self.docker.stop.cancelled() => return Err(Trouble::Stopped),
                () = changes.hear() => {}
                () = sleep(LOOK_EVERY) => {}
            }
            self.look_up().await?;
        }
    }

    /// Reads what comes until Docker ends it.
    async fn read_on(&mut self, changes: &mut Changes) -> Result<End, Trouble> {
        let since = self.journal.position().since();
        let id = &self.container.id;
        let mut bytes = self.docker.daemon.log(id, since, true).await?;
        self.unfinished = None;
        let mut reading = self.reading(None);
        let mut settle_at = Instant::now() + SETTLE_AFTER;
        loop {
            let complete_at = reading.lines.complete_at().map_or(settle_at, Instant::from_std);
            // What an arm has taken is dealt with in it; losing the others loses nothing.
            let chunk = tokio::select! {
                () = self.docker.stop.cancelled() => {
                    self.journal.settle().await?;
                    return Err(Trouble::Stopped);
                }
                chunk = bytes.next() => chunk?,
                () = changes.hear() => {
                    self.record_meanwhile(changes).await?;
                    continue;
                }
                () = sleep_until(complete_at.min(settle_at)) => {
                    reading.lines.complete(&mut reading.ready);
                    self.append(&mut reading).await?;
                    if settle_at <= Instant::now() {
                        self.journal.settle().await?;
                        self.look_up().await?;
                        settle_at = Instant::now() + LOOK_UP_EVERY;
                    }
                    continue;
                }
            };
            let taken_at = Instant::now();
            let mut next = Some(chunk);
            while let Some(chunk) = next {
                let Some(chunk) = chunk else {
                    reading.rest()?;
                    self.append(&mut reading).await?;
                    self.unfinished = Some(reading.lines);
                    return Ok(End::Over);
                };
                self.take(&mut reading, &chunk).await?;
                next = if reading.is_full() || taken_at.elapsed() >= APPEND_AFTER {
                    None
                } else {
                    bytes.next().now_or_never().transpose()?
                };
            }
            self.append(&mut reading).await?;
            if taken_at.elapsed() >= STALL {
                return Ok(End::Stalled);
            }
            settle_at = Instant::now() + SETTLE_AFTER;
        }
    }

    /// Ends what was unfinished at the end of Docker's last answer, for there is no other that could be read.
    async fn finish(&mut self) -> Result<(), Trouble> {
        let Some(mut lines) = self.unfinished.take() else { return Ok(()) };
        let mut ready = Vec::new();
        lines.finish(&mut ready);
        self.append_lines(&mut ready, &lines).await
    }

    /// Reads what is new, and waits a little: where Docker cannot be asked to go on by itself.
    async fn read_again(&mut self, changes: &mut Changes) -> Result<(), Trouble> {
        let began_at = Instant::now();
        self.read_rest(None, false).await?;
        self.journal.settle().await?;
        self.look_up().await?;
        let wait = READ_AGAIN.max(began_at.elapsed() * 10);
        // Losing an arm loses nothing.
        tokio::select! {
            () = self.docker.stop.cancelled() => Err(Trouble::Stopped),
            () = changes.hear() => self.record_meanwhile(changes).await,
            () = sleep(wait) => Ok(()),
        }
    }

    /// Reads what there is: to its end, if the container, or a run of it before `until`, has ended.
    async fn read_rest(&mut self, until: Option<u64>, has_ended: bool) -> Result<(), Trouble> {
        let since = self.journal.position().since();
        let id = &self.container.id;
        let mut bytes = match self.docker.daemon.log(id, since, false).await {
            // It is gone meanwhile.
            Err(DaemonError::Unknown) => return self.finish().await,
            bytes => bytes?,
        };
        let mut reading = self.reading(until);
        while let Some(chunk) = bytes.next_within(READ_DEADLINE).await? {
            if self.docker.stop.is_cancelled() {
                self.journal.settle().await?;
                return Err(Trouble::Stopped);
            }
            self.take(&mut reading, &chunk).await?;
            if reading.is_full() {
                self.append(&mut reading).await?;
            }
        }
        if !has_ended {
            reading.lines.complete_old(&mut reading.ready);
            return self.append(&mut reading).await;
        }
        reading.rest()?;
        if reading.is_empty {
            // Docker is removing the container, and its log is gone already.
            return self.finish().await;
        }
        self.unfinished = None;
        reading.lines.finish(&mut reading.ready);
        self.append(&mut reading).await
    }

    fn reading(&self, until: Option<u64>) -> Reading {
        Reading::new(self.journal.position(), &self.container, self.source.engine(), until)
    }

    /// Takes what has come, when the quota lets it through and there is room.
    async fn take(&mut self, reading: &mut Reading, chunk: &[u8]) -> Result<(), Trouble> {
        if self.docker.intake.quotas.try_take(&self.source, chunk.len()).is_err() {
            // Others do not wait for this quota.
            self.append(reading).await?;
            self.docker.intake.quotas.wait(&self.source, chunk.len()).await;
        }
        if reading.buffer.is_none() {
            let buffers = self.docker.buffers.clone();
            // Losing either arm loses nothing.
            let buffer = tokio::select! {
                () = self.docker.stop.cancelled() => None,
                buffer = buffers.acquire_owned() => buffer.ok(),
            };
            if buffer.is_none() {
                self.journal.settle().await?;
                return Err(Trouble::Stopped);
            }
            reading.buffer = buffer;
        }
        Ok(reading.take(chunk)?)
    }

    async fn append(&mut self, reading: &mut Reading) -> Result<(), Trouble> {
        if let Some(complaint) = reading.complaint.take()
            && !std::mem::replace(&mut self.has_complained, true)
        {
            let (id, name) = (&self.container.id, &self.container.name);
            tracing::warn!(container = id, name, "Docker cannot read all of the log: {complaint}");
        }
        reading.ready_bytes = 0;
        self.append_lines(&mut reading.ready, &reading.lines).await?;
        reading.buffer = None;
        Ok(())
    }

    async fn append_lines(
        &mut self,
        ready: &mut Vec<LogLine>,
        lines: &Lines,
    ) -> Result<(), Trouble> {
        if ready.is_empty() {
            return Ok(());
        }
        let mut next = self.journal.position().clone();
        lines.mark(&mut next);
        let events = ready.drain(..).map(|line| Event::Line(Box::new(line)));
        Ok(self.journal.append(events.collect(), next).await?)
    }

    fn life(&self) -> Life {
        self.journal.position().life
    }

    /// The earlier runs' ends, as far as they are known, and the start of the last.
    async fn record_start(&mut self, changes: &mut Changes) -> Result<(), Trouble> {
        let mut life = self.life();
        if life.is_up {
            changes.hear_of_end(life, WORD_DEADLINE).await;
        }
        let mut actions = changes.record(&mut life, self.container.started_at, false);
        actions.extend(life::record_start(&mut life, &self.container));
        self.record(actions, life).await
    }

    /// What happens while the container runs; its end is recorded after its last line.
    async fn record_meanwhile(&mut self, changes: &mut Changes) -> Result<(), Trouble> {
        let mut life = self.life();
        let actions = changes.record_lack_of_memory(&mut life);
        self.record(actions, life).await
    }

    async fn record_end(&mut self, changes: &mut Changes, is_gone: bool) -> Result<(), Trouble> {
        let mut life = self.life();
        if life.is_up {
            changes.hear_of_end(life, WORD_DEADLINE).await;
        }
        let is_out_of_memory = !is_gone && self.container.is_out_of_memory;
        let mut actions = changes.record(&mut life, u64::MAX, is_out_of_memory);
        if !is_gone {
            actions.extend(life::record_end(&mut life, &self.container));
        }
        self.record(actions, life).await?;
        Ok(self.journal.settle().await?)
    }

    async fn record(&mut self, actions: Vec<ContainerAction>, life: Life) -> Result<(), Trouble> {
        let Container { id, name, image, .. } = &self.container;
        let event = |action| ContainerEvent {
            action,
            id: id.clone(),
            name: name.clone(),
            image: image.clone(),
        };
        let events = actions.into_iter().map(|action| Event::Container(Box::new(event(action))));
        let next = Position { life, ..self.journal.position().clone() };
        Ok(self.journal.append(events.collect(), next).await?)
    }

    /// What the labels name may have another handle by now, or be gone.
    async fn look_up(&mut self) -> Result<(), Trouble> {
        if self.looked_up.elapsed() < LOOK_UP_EVERY {
            return Ok(());
        }
        self.looked_up = Instant::now();
        match look_up(&self.docker, &self.container).await {
            Ok(Ok(source)) => {
                self.journal.set_source(&source);
                self.source = source;
                Ok(())
            }
            Ok(Err(_)) => {
                self.journal.settle().await?;
                Err(Trouble::Unnamed)
            }
            // It was good before.
            Err(error) => {
                self.docker.say_once("labels of containers cannot be looked up", &error);
                Ok(())
            }
        }
    }

    async fn pause(&self, delay: Duration) -> Result<(), Trouble> {
        if delay.is_zero() {
            return Ok(());
        }
        // Losing either arm loses nothing.
        tokio::select! {
            () = self.docker.stop.cancelled() => Err(Trouble::Stopped),
            () = sleep(delay) => Ok(()),
        }
    }
}
