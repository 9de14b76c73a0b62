//! The second half of a pipeline: from batches to the endpoint, until it has them for sure.
//!
//! Invariant: a batch is kept until it is confirmed, so it can be sent again; and no position is
//! passed on before those of all earlier batches.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use store::drain_positions::RejectedLine;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::status::Counts;
use super::{FINISH, Status};
use crate::batch::{Batch, Reached, Resume};
use crate::destination::{Destination, Failure, Remedy};
use crate::lines::Checkpoint;
use crate::room::Share;
use crate::trace::Trace;

const FIRST_RETRY: Duration = Duration::from_millis(500);
/// An endpoint that returns after whatever time gets its first lines within 5 s.
const LONGEST_RETRY: Duration = Duration::from_secs(3);
const PARKED_RETRY: Duration = Duration::from_mins(1);
const MOST_RESTRICTED: usize = 100_000;
const MANY_REFUSALS: u32 = 3;

pub(super) struct Delivery {
    destination: Box<dyn Destination>,
    format: String,
    /// Batches that are not confirmed, oldest first, of which so many are sent.
    window: VecDeque<Batch>,
    sent: usize,
    /// Bytes that may come again after a crash.
    redelivery_bytes: usize,
    share: Arc<Share>,
    /// Lines are gathered, so what there is room for is of use again and again.
    is_gathered: bool,
    /// Where to begin should everything be thrown away.
    resume: Resume,
    /// Bytes that are delivered, other than those.
    apart: usize,
    /// Everything was, and how long to wait then.
    thrown_away: Option<Duration>,
    /// Failures since the last confirmation.
    failures: u32,
    /// Batches, since the last confirmation, of which a part was refused.
    refusals: u32,
    /// Lines that may be sent and not confirmed. An endpoint that ends every connection after a few
    /// lines would otherwise get the same ones for ever.
    allowed: usize,
    /// Until when the drain is surely this worker's.
    until: watch::Receiver<Instant>,
    status: Arc<Status>,
    stop: CancellationToken,
}

impl Delivery {
    pub(super) fn new(
        (destination, format): (Box<dyn Destination>, String),
        redelivery_bytes: usize,
        (share, is_gathered): (Arc<Share>, bool),
        from: Checkpoint,
        until: watch::Receiver<Instant>,
        status: Arc<Status>,
        stop: CancellationToken,
    ) -> Self {
        let window = VecDeque::new();
        let (sent, failures, refusals, allowed) = (0, 0, 0, usize::MAX);
        Self {
            destination,
            format,
            window,
            sent,
            redelivery_bytes,
            share,
            is_gathered,
            resume: Resume { checkpoint: from, ..Resume::default() },
            apart: 0,
            thrown_away: None,
            failures,
            refusals,
            allowed,
            until,
            status,
            stop,
        }
    }

    /// Where to begin anew, after how long, if everything was thrown away for its memory.
    pub(super) fn thrown_away(&mut self) -> Option<(&mut Resume, Duration)> {
        self.thrown_away.take().map(|wait| (&mut self.resume, wait))
    }

    /// Delivers until the queue or the pipeline ends; what was sent by then has a little time to be
    /// confirmed, so that it need not be repeated. Or until everything is [thrown away](Self::thrown_away).
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Batch>) -> Self {
        let stop = self.stop.clone();
        // Losing the delivery loses no line: what is not confirmed is read again.
        tokio::select! {
            () = self.deliver(&mut queue) => {}
            () = async { stop.cancelled().await; sleep(FINISH).await } => {}
        }
        self
    }

    async fn deliver(&mut self, queue: &mut mpsc::Receiver<Batch>) {
        let mut open = true;
        while open || !self.window.is_empty() {
            // A process that was frozen beyond its lease wakes here: what follows is another's.
            if Instant::now() >= *self.until.borrow() {
                return self.stop.cancel();
            }
            let step = if let Some(confirmed) = self.destination.confirmed(false).now_or_never() {
                self.confirm(confirmed).await
            } else if self.may_send()
                && let Some(batch) = self.window.get(self.sent)
            {
                let mut trace = Trace::default();
                let expired = expiry(self.until.clone());
                // A request of several may have been waited for while the process was frozen: what is left of
                // them is another's.
                let sent = tokio::select! {
                    biased;
                    () = expired => return self.stop.cancel(),
                    sent = self.destination.send(batch, &mut trace) => sent,
                };
                if let Some(peer) = trace.peer {
                    self.status.connected(&peer);
                }
                if trace.repeated > 0 {
                    self.status.repeated(trace.repeated);
                }
                match sent {
                    Ok(()) => {
                        self.sent += 1;
                        ControlFlow::Continue(())
                    }
                    Err(mut failure) => {
                        if let Some(left) = failure.left.take() {
                            self.sent_in_part(left);
                        }
                        match failure.remedy {
                            Remedy::Refuse { lines, upto } => {
                                self.refuse(lines, upto, failure.message).await
                            }
                            _ => self.recover(failure).await,
                        }
                    }
                }
            } else {
                let pressed = self.is_full() || self.sent < self.window.len();
                let unwritten = self.status.unwritten();
                // Losing an arm is safe: each only waits.
                tokio::select! {
                    biased;
                    confirmed = self.destination.confirmed(pressed) => {
                        self.confirm(confirmed).await
                    }
                    batch = queue.recv(), if open && !pressed => {
                        match batch {
                            Some(batch) => self.accept(batch),
                            None => open = false,
                        }
                        ControlFlow::Continue(())
                    }
                    () = self.status.fewer_than(unwritten.bytes), if unwritten.writable => {
                        ControlFlow::Continue(())
                    }
                }
            };
            if step.is_break() {
                return;
            }
        }
    }

    /// Whether so much waits for its confirmation that no more is taken. The oldest does not count:
    /// what comes after it may be what shows that it was read.
    fn is_full(&self) -> bool {
        let bytes = || self.window.iter().map(|batch| batch.bytes().len());
        bytes().skip(1).sum::<usize>() >= self.redelivery_bytes
            || !self.share.has_room(bytes().sum())
    }

    fn lines_sent(&self) -> usize {
        self.window.iter().take(self.sent).map(Batch::lines).sum()
    }

    /// Whether the next batch may be sent now; divides it where it has more lines than are allowed.
    fn may_send(&mut self) -> bool {
        let bytes: usize =
            self.window.iter().take(self.sent + 1).map(|one| one.bytes().len()).sum();
        // All of it comes again when the worker is killed. The lines of one block may be more than
        // that: only at its end is there a position to write.
        let unwritten = self.status.unwritten();
        let repeats = bytes + unwritten.bytes;
        if (self.sent > 0 || unwritten.writable) && repeats > self.redelivery_bytes {
            return false;
        }
        if self.sent > 0 && !self.share.has_room(bytes) {
            return false;
        }
        if self.allowed == usize::MAX {
            return true;
        }
        let room = self.allowed.saturating_sub(self.lines_sent());
        while let Some(batch) = self.window.get(self.sent).filter(|next| next.lines() > room) {
            let Some((first, second)) = batch.halves().filter(|_| room > 0) else { return false };
            self.window.remove(self.sent);
            self.window.insert(self.sent, second);
            self.window.insert(self.sent, first);
        }
        true
    }

    fn accept(&mut self, batch: Batch) {
        if batch.lines() > 0 {
            self.window.push_back(batch);
        } else if let Some(last) = self.window.back_mut() {
            // Only the position has moved: it counts when the lines before it are delivered.
            last.reached = batch.reached;
        } else {
            self.settle(Counts::default(), (0, 0), batch.reached);
        }
    }

    /// Of the batch that was just sent only this is not delivered.
    fn sent_in_part(&mut self, left: Vec<Batch>) {
        let Some(batch) = self.window.remove(self.sent) else { return };
        let lines: usize = left.iter().map(Batch::lines).sum();
        let bytes: usize = left.iter().map(|part| part.bytes().len()).sum();
        let bytes = batch.bytes().len().saturating_sub(bytes);
        let delivered = batch.lines().saturating_sub(lines);
        for (part, at) in batch.with_left(left).into_iter().zip(self.sent..) {
            self.window.insert(at, part);
        }
        if delivered > 0 {
            self.failures = 0;
            self.apart += bytes;
            self.share.release(bytes);
            self.status.delivered(Counts { delivered, bytes, ..Counts::default() }, bytes, None);
        }
    }

    /// So many lines and bytes are delivered or refused, all that were before them being so.
    fn settle(&mut self, counts: Counts, (lines, bytes): (usize, usize), reached: Option<Reached>) {
        match &reached {
            Some(Reached { checkpoint, bytes, behind, .. }) => {
                self.resume =
                    Resume { checkpoint: checkpoint.clone(), bytes: *bytes, lines: *behind };
            }
            None => self.resume.lines += lines,
        }
        self.share.release(bytes);
        // Its last part makes a batch whole.
        self.apart = if lines == 0 { self.apart + bytes } else { 0 };
        self.status.delivered(counts, bytes, reached);
    }

    async fn confirm(&mut self, confirmed: Result<usize, Failure>) -> ControlFlow<()> {
        match confirmed {
            Ok(count) => {
                let (mut is_full, mut is_newest) = (false, false);
                for _ in 0..count {
                    let Some(batch) = self.window.pop_front() else { break };
                    let done = (batch.counted, batch.bytes().len());
                    is_full |= self.share.is_full(done.1);
                    is_newest = batch.reached.as_ref().is_some_and(|reached| reached.is_newest);
                    self.settle(counts(&batch), done, batch.reached);
                }
                if is_newest && self.window.is_empty() && !self.is_gathered {
                    self.share.give_back();
                } else if is_full {
                    self.share.grow();
                }
                self.sent = self.sent.saturating_sub(count);
                (self.failures, self.refusals) = (0, 0);
                // Far above what a batch has, there is nothing to restrict.
                let doubled = self.allowed.saturating_mul(2);
                self.allowed = if doubled > MOST_RESTRICTED { usize::MAX } else { doubled };
                ControlFlow::Continue(())
            }
            Err(failure) => self.recover(failure).await,
        }
    }

    /// Prepares to send again; breaks when the pipeline is to stop instead.
    async fn recover(&mut self, failure: Failure) -> ControlFlow<()> {
        let again = self.failures > 0 || self.allowed < usize::MAX;
        if failure.remedy == Remedy::Reconnect && again {
            // The batch that was being sent counts, too.
            let tried = self.lines_sent() + self.window.get(self.sent).map_or(0, Batch::lines);
            self.allowed = (self.allowed.min(tried) / 2).max(1);
        }
        let in_doubt = self.window.get(self.sent).filter(|_| failure.in_doubt);
        self.status.repeated(self.lines_sent() + in_doubt.map_or(0, Batch::lines));
        let at = std::mem::take(&mut self.sent);
        tracing::debug!(remedy = ?failure.remedy, "not delivered: {failure}");
        let wait = match failure.remedy {
            Remedy::Halve | Remedy::Isolate => return self.divide(at, failure.message).await,
            // The first time is no trouble yet: endpoints restart.
            Remedy::Reconnect if self.failures == 0 => {
                self.failures = 1;
                return ControlFlow::Continue(());
            }
            // A part is refused only of what was just sent.
            Remedy::Reconnect | Remedy::Refuse { .. } => full_jitter(self.failures),
            // An endpoint may say at once.
            Remedy::Retry(after) => after.unwrap_or_default().max(full_jitter(self.failures)),
            Remedy::Park => PARKED_RETRY,
        };
        let fails_again = self.failures > 0;
        self.failures = self.failures.saturating_add(1);
        self.status.failed(&failure.message);
        if fails_again { self.wait_without_memory(wait).await } else { self.wait(wait).await }
    }

    /// Breaks when the pipeline is to stop meanwhile.
    async fn wait(&mut self, time: Duration) -> ControlFlow<()> {
        // Losing the wait loses nothing.
        tokio::select! {
            () = sleep(time) => ControlFlow::Continue(()),
            () = self.stop.cancelled() => ControlFlow::Break(()),
        }
    }

    /// The same, but what waits is thrown away if others want its memory.
    async fn wait_without_memory(&mut self, time: Duration) -> ControlFlow<()> {
        if !self.share.is_wanted() {
            return self.wait(time).await;
        }
        tracing::debug!("what waits is thrown away for its memory, and read again");
        self.window.clear();
        self.sent = 0;
        self.status.undone(std::mem::take(&mut self.apart));
        self.thrown_away = Some(time);
        // The queue, too, is of what was thrown away.
        ControlFlow::Break(())
    }

    async fn divide(&mut self, at: usize, reason: String) -> ControlFlow<()> {
        let Some(batch) = self.window.remove(at) else { return ControlFlow::Continue(()) };
        if let Some((first, second)) = batch.halves() {
            self.window.insert(at, second);
            self.window.insert(at, first);
            return ControlFlow::Continue(());
        }
        self.status.rejected(self.rejected(batch.bytes(), reason.clone())).await;
        let done = (batch.counted, batch.bytes().len());
        self.settle_at(at, Counts::default(), done, batch.reached);
        self.wait_if_all_are_refused(&reason).await
    }

    /// An endpoint that refuses every line rests after many of them, for as long as one that refuses the drain:
    /// most of the backlog is kept for when it is mended.
    async fn wait_if_all_are_refused(&mut self, reason: &str) -> ControlFlow<()> {
        if !self.status.refuses_all(reason) {
            return ControlFlow::Continue(());
        }
        // Parts of a batch that are settled would be sent and refused again.
        if self.apart > 0 {
            return self.wait(PARKED_RETRY).await;
        }
        self.wait_without_memory(PARKED_RETRY).await
    }

    /// Settles the first lines of the batch that was just sent: some are refused, the others delivered.
    async fn refuse(
        &mut self,
        lines: Vec<(usize, String)>,
        upto: usize,
        message: String,
    ) -> ControlFlow<()> {
        let is_about = |batch: &Batch| {
            (1..=batch.lines()).contains(&upto) && lines.iter().all(|(number, _)| *number < upto)
        };
        if !self.window.get(self.sent).is_some_and(is_about) {
            // An endpoint that speaks of lines that it was not sent has said nothing of any.
            return self.recover(Failure::new(Remedy::Retry(None), message)).await;
        }
        let Some(mut batch) = self.window.remove(self.sent) else {
            return ControlFlow::Continue(());
        };
        if let Some((first, rest)) = batch.split(upto) {
            self.refusals = self.refusals.saturating_add(1);
            // One by one, each would be sent with all that follow it.
            match rest.halves().filter(|_| self.refusals > MANY_REFUSALS) {
                Some((one, other)) => {
                    self.window.insert(self.sent, other);
                    self.window.insert(self.sent, one);
                }
                None => self.window.insert(self.sent, rest),
            }
            batch = first;
        }
        let (done, mut counts) = ((batch.counted, batch.bytes().len()), counts(&batch));
        for (number, reason) in lines {
            if let Some(line) = batch.line(number) {
                counts.delivered -= 1;
                counts.bytes -= line.len();
                self.status.rejected(self.rejected(line, reason)).await;
            }
        }
        self.failures = 0;
        self.settle_at(self.sent, counts, done, batch.reached);
        self.wait_if_all_are_refused(&message).await
    }

    /// The same as [`Self::settle`] of a batch that stood there in the window: with older ones unconfirmed, its
    /// position counts when theirs do.
    fn settle_at(
        &mut self,
        at: usize,
        counts: Counts,
        done: (usize, usize),
        reached: Option<Reached>,
    ) {
        let Some(before) = at.checked_sub(1).and_then(|before| self.window.get_mut(before)) else {
            return self.settle(counts, done, reached);
        };
        before.counted += done.0;
        match (reached, &mut before.reached) {
            (None, Some(reached)) => reached.behind += done.0,
            (reached, before) => *before = reached,
        }
        self.apart += done.1;
        self.share.release(done.1);
        self.status.delivered(counts, done.1, None);
    }

    fn rejected(&self, line: &[u8], reason: String) -> RejectedLine {
        let encoded = line.to_vec();
        let line = self.destination.rejected(line);
        let id = line.get("id").and_then(|id| id.as_str()).filter(|id| !id.is_empty());
        // Two without an id would be kept as one.
        let line_id = id.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
        RejectedLine { line_id, line, encoded, format: self.format.clone(), reason }
    }
}

/// Waits until the drain may be another worker's.
async fn expiry(until: watch::Receiver<Instant>) {
    loop {
        let at = *until.borrow();
        if Instant::now() >= at {
            return;
        }
        sleep_until(at.into()).await;
    }
}

/// Of a batch that is delivered.
fn counts(batch: &Batch) -> Counts {
    let (delivered, bytes) = (batch.lines(), batch.bytes().len());
    Counts { delivered, bytes, redacted: batch.redacted, ..Counts::default() }
}

/// A time between none and the exponential back-off, so that many drains do not return together
/// (AWS, "Exponential Backoff And Jitter").
fn full_jitter(failures: u32) -> Duration {
    let longest = FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(LONGEST_RETRY);
    longest.mul_f64(rand::random())
}
