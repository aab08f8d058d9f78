//! The desk of a service that VMs cannot simply share: who may talk to it now, and whose an answer is.
//!
//! Most OpenAMP endpoints latch the first sender that they hear and answer only there. So the firmware behind a desk
//! sees one stable host address, whoever the client is, and the desk remembers who that was.
//!
//! | mode | a message from a VM | a message from the service |
//! |---|---|---|
//! | exclusive | the owner's passes; the first VM to send becomes owner until its session ends | goes to the endpoint that the owner sent from last |
//! | serialized | passes if it is nobody's turn; one per VM is kept, a further one waits in its ring | ends the turn and goes to the asker |
//! | broadcast | subscribes its endpoint; the owner's passes too | goes to every subscriber |
//!
//! rpmsg has no tag that would tell an answer from the next one. So after a time-out a serialized desk stays closed
//! for a while, in which late answers are dropped; an answer later than that would be taken for that of the next
//! request. The same holds while the VM that has asked is gone.
//!
//! Nor does it tell whose a late answer of an exclusive service is. So when the owner's session ends, the desk is
//! [handed over](super::handover): until the remote is done with what the owner has sent, the next one's messages wait,
//! and whatever comes is the last one's. So is the desk of either kind when the line to the remote was cut for a while.

mod saved;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use super::parties::Client;
use super::policy::{Mode, Reply, Turns, Unsolicited};
use crate::rpmsg::MAX_PAYLOAD;
use crate::rpmsg::address::Slot;

/// What is to be done with a message that a VM wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// It goes to the remote; [`Desk::sent`] is to be told.
    Pass,
    /// It is not this VM's turn: it is to be taken off the ring and given to [`Desk::keep`].
    Keep,
    /// Nor is there room to keep it: it stays in the ring.
    Wait,
    /// It has subscribed the VM's endpoint, and goes no further.
    Subscribed,
    /// The service is another VM's.
    Refused,
}

/// Where a message from the service goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    /// To this endpoint.
    One(Client),
    /// To every endpoint of [`Desk::subscribers`].
    All,
    /// An answer that came after the time-out.
    Late,
    /// Nobody has asked for it.
    Nobody,
}

/// A request that was taken off its VM's ring and waits for its turn.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: Client,
    pub(super) flags: u16,
    payload: [u8; MAX_PAYLOAD],
    len: u16,
}

impl Request {
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.len)]
    }
}

/// What the end of a VM's session means to a desk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Requests of its that were still waiting.
    pub(super) requests: usize,
    /// Other VMs may see the service now.
    pub(super) rights_changed: bool,
    /// It was the owner: [`Desk::handed_over`] is to be told when nothing comes for it any more.
    pub(super) hands_over: bool,
}

/// Whose turn it is at a serialized service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Nobody,
    /// This client has asked; the turn ends by itself at the given time.
    Of(Client, Instant),
    /// Answers are late until then.
    Quarantine(Instant),
    /// Answers are late until [`Desk::handed_over`].
    HandedOver,
}

/// The desk of one service.
#[derive(Debug)]
pub(super) struct Desk {
    rules: Rules,
    /// Who has sent to the service: the owner's endpoint, or one endpoint per VM.
    clients: Vec<Client>,
    /// Whether something has changed that the journal does not know.
    has_changed: bool,
}

#[derive(Debug)]
enum Rules {
    /// While it is handed over, `clients` has the last owner.
    Exclusive {
        named: Option<Slot>,
        owner: Option<Slot>,
        is_handed_over: bool,
    },
    Serialized {
        turns: Turns,
        turn: Turn,
        requests: VecDeque<Request>,
    },
    Broadcast {
        owner: Option<Slot>,
    },
}

impl Desk {
    /// The desk that a mode needs; none for [`Mode::Shared`].
    pub(super) fn new(mode: Mode) -> Option<Self> {
        let rules = match mode {
            Mode::Shared => return None,
            Mode::Exclusive { owner } => Rules::Exclusive { named: owner, owner, is_handed_over: false },
            Mode::Serialized(turns) => {
                Rules::Serialized { turns, turn: Turn::Nobody, requests: VecDeque::new() }
            }
            Mode::Broadcast { owner } => Rules::Broadcast { owner },
        };
        Some(Desk { rules, clients: Vec::new(), has_changed: true })
    }

    /// Whether the VM may see the service now.
    pub(super) fn admits(&self, slot: Slot) -> bool {
        match self.rules {
            Rules::Exclusive { owner, .. } => owner.is_none_or(|owner| owner == slot),
            _ => true,
        }
    }

    /// A VM has a message for the service.
    pub(super) fn send(&mut self, client: Client) -> Sending {
        match &self.rules {
            Rules::Exclusive { owner: Some(owner), .. } if *owner != client.slot => Sending::Refused,
            Rules::Exclusive { is_handed_over: true, .. } => Sending::Wait,
            Rules::Exclusive { .. } => Sending::Pass,
            Rules::Serialized { turn, requests, .. } => {
                let waits = requests.iter().any(|request| request.client.slot == client.slot);
                match turn {
                    Turn::Nobody if requests.is_empty() => Sending::Pass,
                    _ if waits => Sending::Wait,
                    _ => Sending::Keep,
                }
            }
            Rules::Broadcast { owner } if *owner == Some(client.slot) => Sending::Pass,
            Rules::Broadcast { .. } => {
                self.remember(client);
                Sending::Subscribed
            }
        }
    }

    /// The message has gone to the remote. Returns whether other VMs' rights have changed by it.
    pub(super) fn sent(&mut self, client: Client, now: Instant) -> bool {
        self.has_changed |= matches!(self.rules, Rules::Serialized { .. });
        self.remember(client);
        match &mut self.rules {
            Rules::Exclusive { owner, .. } => {
                let is_first = owner.replace(client.slot).is_none();
                self.has_changed |= is_first;
                is_first
            }
            Rules::Serialized { turns, turn, .. } => {
                if turns.reply != Reply::None {
                    *turn = Turn::Of(client, now + turns.time_out);
                }
                false
            }
            Rules::Broadcast { .. } => false,
        }
    }

    /// Keeps a request until it is its VM's turn. `payload` is at most [`MAX_PAYLOAD`] bytes.
    pub(super) fn keep(&mut self, client: Client, flags: u16, payload: &[u8]) {
        if let Rules::Serialized { requests, .. } = &mut self.rules {
            self.has_changed = true;
            let mut bytes = [0; MAX_PAYLOAD];
            bytes[..payload.len()].copy_from_slice(payload);
            let len = u16::try_from(payload.len()).expect("at most MAX_PAYLOAD");
            requests.push_back(Request { client, flags, payload: bytes, len });
        }
    }

    /// The kept request whose turn it is, if any. Once it has gone to the remote, [`Desk::request_sent`] is to be told.
    pub(super) fn next_request(&self) -> Option<&Request> {
        match &self.rules {
            Rules::Serialized { turn: Turn::Nobody, requests, .. } => requests.front(),
            _ => None,
        }
    }

    /// The request of [`Desk::next_request`] has gone to the remote.
    pub(super) fn request_sent(&mut self, now: Instant) {
        if let Rules::Serialized { requests, .. } = &mut self.rules
            && let Some(request) = requests.pop_front()
        {
            self.sent(request.client, now);
        }
    }

    /// The service has sent a message.
    pub(super) fn receive(&mut self, now: Instant) -> Receiver {
        match &mut self.rules {
            Rules::Exclusive { .. } => {
                self.clients.first().map_or(Receiver::Nobody, |client| Receiver::One(*client))
            }
            Rules::Broadcast { .. } if self.clients.is_empty() => Receiver::Nobody,
            Rules::Broadcast { .. } => Receiver::All,
            Rules::Serialized { turns, turn, .. } => match (*turn, turns.reply) {
                (Turn::Of(client, _), Reply::Several) => {
                    *turn = Turn::Of(client, now + turns.time_out);
                    Receiver::One(client)
                }
                (Turn::Of(client, _), _) => {
                    *turn = Turn::Nobody;
                    self.has_changed = true;
                    Receiver::One(client)
                }
                (Turn::Quarantine(_) | Turn::HandedOver, _) => Receiver::Late,
                (Turn::Nobody, _) => match turns.unsolicited {
                    Unsolicited::Drop => Receiver::Nobody,
                    Unsolicited::All if self.clients.is_empty() => Receiver::Nobody,
                    Unsolicited::All => Receiver::All,
                    Unsolicited::Vm(slot) => {
                        let client = self.clients.iter().find(|client| client.slot == slot);
                        client.map_or(Receiver::Nobody, |client| Receiver::One(*client))
                    }
                },
            },
        }
    }

    /// The name of the mode, whose the service is now, and the endpoints that its firmware sees as one.
    pub(super) fn shared_how(&self) -> (&'static str, Option<Slot>, &[Client]) {
        let (mode, owner) = match self.rules {
            Rules::Exclusive { owner, .. } => ("exclusive", owner),
            Rules::Serialized { .. } => ("serialized", None),
            Rules::Broadcast { owner } => ("broadcast", owner),
        };
        (mode, owner, &self.clients)
    }

    /// The endpoints that a message to [`Receiver::All`] goes to.
    pub(super) fn subscribers(&self) -> &[Client] {
        &self.clients
    }

    /// The VM's session has ended.
    pub(super) fn leave(&mut self, slot: Slot) -> Left {
        self.has_changed = true;
        let mut left = Left::default();
        match &mut self.rules {
            Rules::Exclusive { named, owner, is_handed_over } => {
                if *owner == Some(slot) {
                    *owner = *named;
                    left.rights_changed = named.is_none();
                    // One that has sent nothing will not be answered.
                    left.hands_over = !*is_handed_over && !self.clients.is_empty();
                    *is_handed_over |= left.hands_over;
                }
                return left;
            }
            Rules::Serialized { requests, .. } => {
                let before = requests.len();
                requests.retain(|request| request.client.slot != slot);
                left.requests = before - requests.len();
            }
            Rules::Broadcast { .. } => {}
        }
        self.clients.retain(|client| client.slot != slot);
        left
    }

    /// The service is back with requests from before, of whom nobody knows. Returns whether [`Desk::handed_over`] is to be
    /// told when nothing comes of these any more.
    pub(super) fn hand_over(&mut self) -> bool {
        self.has_changed = true;
        match &mut self.rules {
            Rules::Exclusive { is_handed_over, .. } => *is_handed_over = true,
            Rules::Serialized { turn, .. } => *turn = Turn::HandedOver,
            Rules::Broadcast { .. } => return false,
        }
        true
    }

    /// Nothing comes for the last owner, or of the requests from before, any more.
    pub(super) fn handed_over(&mut self) {
        self.has_changed = true;
        match &mut self.rules {
            Rules::Exclusive { is_handed_over, .. } => {
                if std::mem::take(is_handed_over) {
                    self.clients.clear();
                }
            }
            Rules::Serialized { turn, .. } => {
                if *turn == Turn::HandedOver {
                    *turn = Turn::Nobody;
                }
            }
            Rules::Broadcast { .. } => {}
        }
    }

    /// The service is gone: nobody's turn, nobody's request. Returns the clients whose requests were waiting.
    pub(super) fn close(&mut self) -> Vec<Slot> {
        self.has_changed = true;
        self.clients.clear();
        match &mut self.rules {
            Rules::Serialized { turn, requests, .. } => {
                *turn = Turn::Nobody;
                requests.drain(..).map(|request| request.client.slot).collect()
            }
            Rules::Exclusive { named, owner, is_handed_over } => {
                *owner = *named;
                *is_handed_over = false;
                Vec::new()
            }
            Rules::Broadcast { .. } => Vec::new(),
        }
    }

    /// When [`Desk::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.rules {
            Rules::Serialized { turn: Turn::Of(_, until) | Turn::Quarantine(until), .. } => Some(until),
            _ => None,
        }
    }

    /// Time has passed. Returns the client whose request was not answered in time, and whether it is nobody's turn now.
    pub(super) fn tick(&mut self, now: Instant) -> (Option<Client>, bool) {
        let Rules::Serialized { turns, turn, .. } = &mut self.rules else { return (None, false) };
        match *turn {
            Turn::Of(client, until) if until <= now => {
                self.has_changed = true;
                if turns.reply == Reply::Several {
                    *turn = Turn::Nobody;
                    return (None, true);
                }
                *turn = Turn::Quarantine(now + turns.quarantine);
                (Some(client), false)
            }
            Turn::Quarantine(until) if until <= now => {
                self.has_changed = true;
                *turn = Turn::Nobody;
                (None, true)
            }
            _ => (None, false),
        }
    }

    /// Remembers where a VM has sent from last.
    fn remember(&mut self, client: Client) {
        match self.clients.iter_mut().find(|known| known.slot == client.slot) {
            Some(known) if *known == client => return,
            Some(known) => *known = client,
            None => self.clients.push(client),
        }
        self.has_changed = true;
    }
}
