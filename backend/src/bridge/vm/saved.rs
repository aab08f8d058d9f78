//! A VM as the journal has it.

use super::super::counters::Counters;
use super::super::directory::View;
use super::super::held::{Held, Waiting};
use super::super::journal::SavedVm;
use super::{Account, Vm};
use crate::guest::Queue;
use crate::remote::messages::Message;
use crate::rpmsg::Header;

impl Vm {
    /// What there is to be remembered.
    pub(in crate::bridge) fn save(&self) -> SavedVm {
        let account = &self.account;
        let (told, seen) = account.view.save();
        let queues = [&self.to_guest, &self.from_guest];
        let [to_guest, from_guest] = queues.map(|queue| queue.as_ref().map(Queue::next_index));
        SavedVm {
            session: account.session,
            in_session: account.in_session,
            progressed: account.progressed,
            used: [to_guest.or(account.awaited[0]), from_guest.or(account.awaited[1])],
            services: account.services.clone(),
            told,
            seen,
            waiting: account.waiting.iter().map(|message| (message.id, message.header.to_bytes())).collect(),
            before_news: u32::try_from(account.before_news).unwrap_or(u32::MAX),
            figures: account.counters.figures().clone(),
        }
    }

    /// Goes on with what was remembered. Its queues come back one by one.
    pub(in crate::bridge) fn restore(&mut self, saved: SavedVm, held: &mut Held) {
        let account = &mut self.account;
        account.session = saved.session;
        account.in_session = saved.in_session;
        account.progressed = saved.progressed;
        account.awaited = saved.used;
        account.services = saved.services;
        account.view = View::restore(saved.told, saved.seen);
        account.waiting = Waiting::default();
        for (id, header) in saved.waiting {
            held.push(&mut account.waiting, Message { id, header: Header::from_bytes(&header) });
        }
        account.before_news = saved.before_news as usize;
        account.counters = Counters::new(saved.figures);
    }
}

impl Account {
    /// Whether the queues that it had come back.
    pub(in crate::bridge) fn awaits_queues(&self) -> bool {
        self.awaited != [None; 2]
    }
}
