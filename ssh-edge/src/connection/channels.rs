//! A connection's session channels, between their opening and their closing by the client.

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use tokio::sync::OwnedSemaphorePermit;

use crate::session::flow::{Backlog, WINDOW};
use crate::session::inbox::{Inbox, Notice};
use crate::session::requests::{Requests, Start, Wanted};

/// The channels, and the input of all that waits.
pub(super) struct Channels {
    opened: HashMap<ChannelId, SessionChannel>,
    backlog: Arc<Backlog>,
    target: u32,
}

struct SessionChannel {
    requests: Requests,
    inbox: Arc<Inbox>,
    /// Taken when the program is started.
    output: Option<Output>,
}

/// A channel to write to, and its permit.
type Output = (ChannelWriteHalf<Msg>, OwnedSemaphorePermit);

impl Channels {
    pub(super) fn new() -> Self {
        Self { opened: HashMap::new(), backlog: Arc::default(), target: WINDOW }
    }

    pub(super) fn open(&mut self, id: ChannelId, output: Output) {
        let inbox = Arc::new(Inbox::new(self.backlog.clone()));
        let output = Some(output);
        self.opened.insert(id, SessionChannel { requests: Requests::default(), inbox, output });
    }

    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(channel) = self.opened.remove(&id) {
            channel.inbox.close("the client disconnected");
        }
    }

    pub(super) fn requests(&mut self, id: ChannelId) -> Option<&mut Requests> {
        self.opened.get_mut(&id).map(|channel| &mut channel.requests)
    }

    pub(super) fn notice(&self, id: ChannelId, notice: Notice) {
        if let Some(channel) = self.opened.get(&id) {
            channel.inbox.notice(notice);
        }
    }

    /// What is needed to run what the client wants; `None` is a refusal.
    pub(super) fn start(
        &mut self,
        id: ChannelId,
        wanted: Wanted,
    ) -> Option<(Start, Output, Arc<Inbox>)> {
        let channel = self.opened.get_mut(&id)?;
        let start = channel.requests.start(wanted)?;
        Some((start, channel.output.take()?, channel.inbox.clone()))
    }

    pub(super) fn end_input(&self, id: ChannelId) {
        if let Some(channel) = self.opened.get(&id) {
            channel.inbox.end_input();
        }
    }

    /// Takes input; waits a little if the client is being held back. False: the client does not
    /// keep to its windows.
    pub(super) async fn input(&self, id: ChannelId, data: &[u8]) -> bool {
        if let Some(channel) = self.opened.get(&id) {
            channel.inbox.input(data);
        }
        self.backlog.pause(self.target, data.len()).await;
        !self.backlog.is_abused()
    }

    /// The window that a channel will next be granted up to.
    pub(super) fn target(&mut self, id: ChannelId) -> u32 {
        let unread = self.opened.get(&id).map(|channel| channel.inbox.waiting_input());
        let (unread, wanted) = unread.unwrap_or((0, false));
        self.target = self.backlog.target(unread, wanted);
        self.target
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for channel in self.opened.values() {
            channel.inbox.close("the client disconnected");
        }
    }
}
