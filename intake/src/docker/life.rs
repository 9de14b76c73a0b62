//! A container's starts and ends, each recorded once.
//!
//! Docker tells changes as they happen, and remembers few; a look at the container tells its last start and end.
//! Either may come first, so both are held against what is recorded.

use std::collections::VecDeque;
use std::time::Duration;

use model::ContainerAction;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::daemon::{Change, Container};
use super::position::Life;

/// Changes that are kept until they are recorded; of more the first are lost.
const KEPT: usize = 256;
/// Nanoseconds after a container's end in which the last of its output is written to its log.
const OUTPUT_AFTER_END: u64 = 100_000_000;

/// What Docker has told of a container.
#[derive(Debug)]
pub(super) struct Changes {
    heard: mpsc::Receiver<(u64, Change)>,
    known: VecDeque<(u64, Change)>,
}

impl Changes {
    pub(super) const fn new(heard: mpsc::Receiver<(u64, Change)>) -> Self {
        Self { heard, known: VecDeque::new() }
    }

    /// Waits for the next change. Losing this future loses nothing.
    pub(super) async fn hear(&mut self) {
        match self.heard.recv().await {
            Some(change) => self.keep(change),
            // Whoever told of changes has stopped; so will this soon.
            None => std::future::pending().await,
        }
    }

    /// Whether it is told that the container is gone.
    pub(super) fn is_destroyed(&self) -> bool {
        self.known.iter().any(|(_, change)| *change == Change::Destroyed)
    }

    /// Waits until it is told that the container has ended, but not long.
    pub(super) async fn hear_of_end(&mut self, life: Life, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.hear_all();
        let is_end =
            |&(at, change): &(u64, Change)| at > life.at && matches!(change, Change::Died { .. });
        while !self.known.iter().any(is_end) && timeout_at(until, self.hear()).await.is_ok() {}
    }

    /// The time before the container's last start to which all that it wrote earlier belongs; None if it has not
    /// run before. Docker tells of an end after the last output; what a run writes first may be a little older
    /// than what a look at the container calls its start.
    pub(super) fn end_before(&mut self, container: &Container) -> Option<u64> {
        self.hear_all();
        let ends = self.known.iter().filter(|(_, change)| matches!(change, Change::Died { .. }));
        let ends = ends.map(|(at, _)| *at).filter(|at| *at < container.started_at);
        match (ends.max(), container.finished_at) {
            (Some(end), _) => Some(end),
            (None, 0) => None,
            (None, end) if end < container.started_at => {
                Some(end + ((container.started_at - end) / 2).min(OUTPUT_AFTER_END))
            }
            (None, _) => Some(container.started_at),
        }
    }

    /// What was told of the time before `until` and is not recorded; `life` becomes that after it.
    /// `is_out_of_memory`: memory was what ended the container at last.
    pub(super) fn record(
        &mut self,
        life: &mut Life,
        until: u64,
        is_out_of_memory: bool,
    ) -> Vec<ContainerAction> {
        self.hear_all();
        let mut actions = Vec::new();
        let is_before = |&(at, _): &(u64, Change)| at < until;
        let (mut told, later): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.known).into_iter().partition(is_before);
        self.known = later;
        while let Some((at, change)) = told.pop_front() {
            if at <= life.at {
                continue;
            }
            match change {
                Change::Started if !life.is_up => start(life, at, &mut actions),
                Change::OutOfMemory if life.is_up && at > life.out_of_memory_at => {
                    life.out_of_memory_at = at;
                    actions.push(ContainerAction::OutOfMemory);
                }
                Change::Died { code } if life.is_up => {
                    let is_last = !told.iter().any(|(_, change)| *change == Change::Started);
                    end(life, at, code, is_last && is_out_of_memory, &mut actions);
                }
                _ => {}
            }
        }
        actions
    }

    /// The same for lack of memory alone, and at any time.
    pub(super) fn record_lack_of_memory(&mut self, life: &mut Life) -> Vec<ContainerAction> {
        self.hear_all();
        let mut actions = Vec::new();
        // What it lacked in a run that has ended meanwhile comes before that end.
        let is_end =
            |(at, change): &(u64, Change)| *at > life.at && matches!(change, Change::Died { .. });
        let end = self.known.iter().position(is_end).unwrap_or(self.known.len());
        for (at, change) in self.known.iter().take(end) {
            let is_new = life.is_up && *at > life.at.max(life.out_of_memory_at);
            if *change == Change::OutOfMemory && is_new {
                life.out_of_memory_at = *at;
                actions.push(ContainerAction::OutOfMemory);
            }
        }
        actions
    }
}

/// What a look at the container tells of its last start beyond that.
pub(super) fn record_start(life: &mut Life, container: &Container) -> Vec<ContainerAction> {
    let mut actions = Vec::new();
    if container.started_at > life.at {
        start(life, container.started_at, &mut actions);
    }
    actions
}

/// What it tells of its last end.
pub(super) fn record_end(life: &mut Life, container: &Container) -> Vec<ContainerAction> {
    let mut actions = Vec::new();
    if life.is_up && !container.is_running {
        let (at, code) = (container.finished_at.max(life.at), container.exit_code);
        end(life, at, code, container.is_out_of_memory, &mut actions);
    }
    actions
}

fn start(life: &mut Life, at: u64, actions: &mut Vec<ContainerAction>) {
    *life = Life { at, is_up: true, ..*life };
    actions.push(ContainerAction::Started);
}

fn end(
    life: &mut Life,
    at: u64,
    code: u32,
    is_out_of_memory: bool,
    actions: &mut Vec<ContainerAction>,
) {
    // Docker may have told of it while it ran.
    if is_out_of_memory && life.out_of_memory_at < life.at {
        life.out_of_memory_at = at;
        actions.push(ContainerAction::OutOfMemory);
    }
    *life = Life { at, is_up: false, ..*life };
    actions.push(ContainerAction::Exited { code });
}

impl Changes {
    fn hear_all(&mut self) {
        while let Ok(change) = self.heard.try_recv() {
            self.keep(change);
        }
    }

    fn keep(&mut self, change: (u64, Change)) {
        if self.known.len() == KEPT {
            self.known.pop_front();
        }
        self.known.push_back(change);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn told(changes: &[(u64, Change)]) -> Changes {
        let (sender, heard) = mpsc::channel(changes.len().max(1));
        for change in changes {
            sender.try_send(*change).unwrap();
        }
        Changes::new(heard)
    }

    fn container(is_running: bool, started_at: u64, finished_at: u64) -> Container {
        Container {
            id: "id".to_owned(),
            name: "name".to_owned(),
            image: "image".to_owned(),
            labels: HashMap::new(),
            has_terminal: false,
            log_driver: "json-file".to_owned(),
            is_running,
            started_at,
            finished_at,
            exit_code: 137,
            is_out_of_memory: true,
        }
    }

    const EXITED: ContainerAction = ContainerAction::Exited { code: 1 };
    const DIED: Change = Change::Died { code: 1 };

    #[test]
    fn each_run_is_recorded_once_though_docker_tells_again() {
        let mut life = Life::default();
        assert_eq!(record_start(&mut life, &container(true, 10, 0)), [ContainerAction::Started]);
        let changes = [(11, Change::Started), (20, DIED), (31, Change::Started), (40, DIED)];
        let expected = [EXITED, ContainerAction::Started, EXITED];
        assert_eq!(told(&changes).record(&mut life, u64::MAX, false), expected);
        assert_eq!(told(&changes).record(&mut life, u64::MAX, false), []);
        assert_eq!(record_end(&mut life, &container(false, 30, 39)), []);
        assert_eq!(record_start(&mut life, &container(false, 30, 39)), []);
    }

    #[test]
    fn what_a_later_run_does_waits_for_its_start() {
        let mut life = Life { at: 10, is_up: true, out_of_memory_at: 0 };
        let mut changes = told(&[(20, DIED), (31, Change::Started)]);
        assert_eq!(changes.record(&mut life, 30, false), [EXITED]);
        assert_eq!(record_start(&mut life, &container(true, 30, 20)), [ContainerAction::Started]);
        assert_eq!(changes.record(&mut life, u64::MAX, false), []);
        assert!(life.is_up);
    }

    #[test]
    fn lack_of_memory_is_recorded_once_however_it_is_told() {
        let up = Life { at: 10, is_up: true, out_of_memory_at: 0 };
        let ended = [ContainerAction::OutOfMemory, EXITED];
        let changes = [(19, Change::OutOfMemory), (20, DIED)];
        assert_eq!(told(&changes).record(&mut up.clone(), u64::MAX, true), ended);
        assert_eq!(told(&[(20, DIED)]).record(&mut up.clone(), u64::MAX, true), ended);
        let mut life = up;
        let expected = [ContainerAction::OutOfMemory, ContainerAction::Exited { code: 137 }];
        assert_eq!(record_end(&mut life, &container(false, 10, 20)), expected);
        let late = [(21, Change::OutOfMemory), (22, DIED)];
        assert_eq!(told(&late).record(&mut life, u64::MAX, true), []);
    }
}
