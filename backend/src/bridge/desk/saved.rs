//! A desk as the journal has it.

use std::time::Instant;

use super::super::journal::{SavedDesk, SavedRequest, SavedTurn};
use super::super::parties::Client;
use super::{Desk, Request, Rules, Turn};
use crate::rpmsg::MAX_PAYLOAD;

impl Desk {
    /// Whether something has changed since this was last asked.
    pub(in crate::bridge) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// What there is to be remembered.
    pub(in crate::bridge) fn save(&self) -> SavedDesk {
        let clients = self.clients.clone();
        match &self.rules {
            Rules::Exclusive { owner, is_handed_over, .. } => SavedDesk {
                owner: *owner,
                turn: if *is_handed_over { SavedTurn::HandedOver } else { SavedTurn::Nobody },
                clients,
                requests: Vec::new(),
            },
            Rules::Serialized { turn, requests, .. } => SavedDesk {
                owner: None,
                turn: match turn {
                    Turn::Nobody => SavedTurn::Nobody,
                    Turn::Of(client, _) => SavedTurn::Of(*client),
                    Turn::Quarantine(_) => SavedTurn::Quarantine,
                    Turn::HandedOver => SavedTurn::HandedOver,
                },
                clients,
                requests: requests.iter().map(SavedRequest::from).collect(),
            },
            Rules::Broadcast { .. } => SavedDesk { clients, ..SavedDesk::default() },
        }
    }

    /// Goes on with what was remembered. Times begin anew. What another configuration had remembered is passed over.
    pub(in crate::bridge) fn restore(&mut self, saved: SavedDesk, now: Instant) {
        self.clients = saved.clients;
        match &mut self.rules {
            Rules::Exclusive { named, owner, is_handed_over } => {
                *owner = named.or(saved.owner);
                *is_handed_over = saved.turn == SavedTurn::HandedOver;
                let (owner, is_handed_over) = (*owner, *is_handed_over);
                let is_its = |client: &Client| is_handed_over || owner == Some(client.slot);
                // Clients of a desk of another kind, which this one would take for its last owner.
                if self.clients.len() > 1 || !self.clients.iter().all(is_its) {
                    self.clients.clear();
                }
            }
            Rules::Serialized { turns, turn, requests } => {
                *turn = match saved.turn {
                    SavedTurn::Nobody => Turn::Nobody,
                    SavedTurn::Of(client) => Turn::Of(client, now + turns.time_out),
                    SavedTurn::Quarantine => Turn::Quarantine(now + turns.quarantine),
                    SavedTurn::HandedOver => Turn::HandedOver,
                };
                *requests = saved.requests.into_iter().map(Request::from).collect();
            }
            Rules::Broadcast { .. } => {}
        }
    }

    /// Whether it waits until nothing comes for its last client any more.
    pub(in crate::bridge) fn is_handed_over(&self) -> bool {
        match self.rules {
            Rules::Exclusive { is_handed_over, .. } => is_handed_over,
            Rules::Serialized { turn, .. } => turn == Turn::HandedOver,
            Rules::Broadcast { .. } => false,
        }
    }
}

impl From<&Request> for SavedRequest {
    fn from(request: &Request) -> Self {
        SavedRequest { client: request.client, flags: request.flags, payload: request.payload().to_vec() }
    }
}

impl From<SavedRequest> for Request {
    fn from(saved: SavedRequest) -> Self {
        let mut payload = [0; MAX_PAYLOAD];
        let len = saved.payload.len().min(MAX_PAYLOAD);
        payload[..len].copy_from_slice(&saved.payload[..len]);
        Request { client: saved.client, flags: saved.flags, payload, len: u16::try_from(len).unwrap_or(0) }
    }
}
