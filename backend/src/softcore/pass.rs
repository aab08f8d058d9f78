//! One bounded round over both rings: what the host has sent is taken, answers and asked-for messages go out.
//!
//! Nothing is queued: a message that needs an answer stays in the host's ring until there is a buffer for the answer.

use vm_memory::{Address, Bytes, GuestMemoryMmap};

use super::desk::{Desk, Totals};
use super::doorbell::Bells;
use super::rings::{Buffer, Ring, RingError};
use super::service::Told;
use super::source::pattern;
use super::{Habits, Kind, UsedLength};
use crate::rpmsg::{
    ANNOUNCEMENT_LEN, Announcement, AnnouncementKind, BUFFER_SIZE, HEADER_LEN, Header, MAX_PAYLOAD,
    NAME_SERVICE_ADDRESS,
};

/// Messages of one round: bounds the time until the doorbell and the commands are looked at again, and is the
/// largest batch that one kick stands for.
const BATCH: u32 = 64;

/// What one round has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Messages taken from the host, malformed ones included.
    pub received: u32,
    /// Messages sent to the host, announcements included.
    pub sent: u32,
    /// There may be more to do at once.
    pub more: bool,
}

/// What a round works on besides the link itself.
pub(super) struct Around<'a> {
    pub(super) memory: &'a GuestMemoryMmap,
    pub(super) habits: &'a Habits,
}

/// Two rings that the host has brought up.
#[derive(Debug)]
pub(super) struct Link {
    /// vring 0: the core sends.
    pub(super) rx: Ring,
    /// vring 1: the core receives.
    pub(super) tx: Ring,
    /// The host has acknowledged `VIRTIO_RPMSG_F_NS`.
    name_service: bool,
    /// The message at hand, header included.
    message: [u8; BUFFER_SIZE],
    /// Buffers of the host that are kept or gathered: descriptor and used length.
    held: Vec<(u16, u32)>,
    random: u64,
    turn: Side,
    /// Something could not go out for want of a buffer.
    starved: bool,
    /// The host's next message waits for a buffer for its answer.
    blocked: bool,
    /// The host has been asked not to ring.
    quiet: bool,
}

/// Who takes the next buffer: answers and asked-for messages take turns, so that neither starves the other.
#[derive(Clone, Copy, Debug)]
enum Side {
    Receive,
    Source,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Receive => Side::Source,
            Side::Source => Side::Receive,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Step {
    Done,
    Nothing,
}

impl Link {
    pub(super) fn new([rx, tx]: [Ring; 2], name_service: bool, habits: &Habits) -> Self {
        Link {
            held: Vec::with_capacity(usize::from(habits.keep) + usize::from(habits.shuffle) + 1),
            random: habits.seed,
            rx,
            tx,
            name_service,
            message: [0; BUFFER_SIZE],
            turn: Side::Receive,
            starved: false,
            blocked: false,
            quiet: false,
        }
    }

    /// Whether the host has built the rings anew.
    pub(super) fn rebuilt(&self, memory: &GuestMemoryMmap) -> bool {
        self.rx.rebuilt(memory) || self.tx.rebuilt(memory)
    }

    /// Device addresses of the rings, as the vdev entry names them.
    pub(super) fn places(&self) -> [u32; 2] {
        [self.rx.da(), self.tx.da()]
    }

    /// Whether something could not go out in the last round for want of a buffer.
    pub(super) fn starved(&self) -> bool {
        self.starved
    }

    /// One round of at most [`BATCH`] messages. Publishes as it goes and rings once at the end.
    pub(super) fn pass(
        &mut self,
        around: &Around<'_>,
        desk: &mut Desk,
        bells: &mut Bells,
    ) -> Result<Served, RingError> {
        self.starved = false;
        if around.habits.suppress_kicks && !self.quiet {
            self.rx.quieten(around.memory)?;
            self.tx.quieten(around.memory)?;
            self.quiet = true;
        }
        let before = desk.totals;
        if desk.news && self.name_service {
            desk.news = !self.tell(around, desk)?;
        }
        let mut more = true;
        for _ in 0..BATCH {
            let other = self.turn.other();
            // Only who has had a turn gives it away.
            if self.step(self.turn, around, desk)? == Step::Done {
                self.turn = other;
            } else if self.step(other, around, desk)? == Step::Nothing {
                self.release(around)?;
                more = false;
                break;
            }
        }
        if self.rx.wants_kick(around.memory)? {
            bells.ring(self.rx.notifyid());
        }
        if self.tx.wants_kick(around.memory)? && !around.habits.silent_consume {
            bells.ring(self.tx.notifyid());
        }
        let count = |now: u64, then: u64| u32::try_from(now - then).unwrap_or(u32::MAX);
        Ok(Served {
            received: count(desk.totals.received, before.received),
            sent: count(desk.totals.sent, before.sent),
            more,
        })
    }

    /// To be called before sleeping: has the host ring again where it was asked not to. True if there is something
    /// to do after all.
    pub(super) fn rest(&mut self, around: &Around<'_>) -> Result<bool, RingError> {
        if !self.quiet {
            return Ok(false);
        }
        self.quiet = false;
        let buffers = self.starved && self.rx.listen(around.memory)?;
        // A message that waits for a buffer is no news, nor is what is behind it.
        let messages = self.tx.listen(around.memory)? && !self.blocked;
        Ok(buffers || messages)
    }

    /// Sends a message that nobody has asked for; false without a buffer for it. At most [`MAX_PAYLOAD`] bytes.
    pub(super) fn say(
        &mut self,
        around: &Around<'_>,
        desk: &mut Desk,
        place: usize,
        dst: u32,
        text: &[u8],
    ) -> Result<bool, RingError> {
        let text = &text[..text.len().min(MAX_PAYLOAD)];
        self.message[HEADER_LEN..][..text.len()].copy_from_slice(text);
        let src = desk.services[place].address;
        let sent = self.send(around, &mut desk.totals, src, dst, text.len())?;
        if sent {
            desk.services[place].count_sent(text.len());
        }
        Ok(sent)
    }

    /// Announces services, and withdraws those that leave; false if some have to wait for buffers.
    fn tell(&mut self, around: &Around<'_>, desk: &mut Desk) -> Result<bool, RingError> {
        for place in 0..desk.services.len() {
            let service = &desk.services[place];
            let kind = match service.told {
                Told::Yes | Told::Gone => continue,
                Told::No => AnnouncementKind::Create,
                Told::Leaving => AnnouncementKind::Destroy,
            };
            let (src, told) = (service.address, service.told.once_told());
            let announcement = Announcement { name: service.name, addr: src, kind };
            self.message[HEADER_LEN..][..ANNOUNCEMENT_LEN].copy_from_slice(&announcement.to_bytes());
            if !self.send(around, &mut desk.totals, src, NAME_SERVICE_ADDRESS, ANNOUNCEMENT_LEN)? {
                return Ok(false);
            }
            desk.services[place].told = told;
        }
        desk.sweep();
        Ok(true)
    }

    fn step(&mut self, side: Side, around: &Around<'_>, desk: &mut Desk) -> Result<Step, RingError> {
        match side {
            Side::Receive => self.receive_one(around, desk),
            Side::Source => self.source_one(around, desk),
        }
    }

    /// Takes one message of the host, unless it has to wait for a buffer for its answer.
    fn receive_one(&mut self, around: &Around<'_>, desk: &mut Desk) -> Result<Step, RingError> {
        self.blocked = false;
        let Some(buffer) = self.tx.pop(around.memory)? else {
            return Ok(Step::Nothing);
        };
        let Some(header) = self.read(around, &buffer) else {
            desk.totals.received += 1;
            desk.totals.malformed += 1;
            self.give_back(around, &buffer)?;
            return Ok(Step::Done);
        };
        let payload = HEADER_LEN..HEADER_LEN + header.payload_len();
        if header.dst == NAME_SERVICE_ADDRESS {
            desk.hear_of(&self.message[payload]);
        } else if let Some(&place) = desk.directory.get(&header.dst) {
            let service = &mut desk.services[place];
            if service.answers() {
                let to = around.habits.answer_address(service.answer_address(header.src));
                let len = header.payload_len();
                if !self.send(around, &mut desk.totals, header.dst, to, len)? {
                    self.tx.unpop();
                    self.blocked = true;
                    return Ok(Step::Nothing);
                }
                service.count_sent(len);
            }
            service.receive(header.src, &self.message[payload.clone()]);
            if service.kind == Kind::Source {
                let asker = around.habits.answer_address(header.src);
                if !desk.asks.ask(header.dst, asker, &self.message[payload]) {
                    service.counters.refused += 1;
                }
            }
        } else {
            desk.totals.unknown_dst += 1;
        }
        desk.totals.received += 1;
        self.give_back(around, &buffer)?;
        Ok(Step::Done)
    }

    /// Sends one message that somebody has asked a source for.
    fn source_one(&mut self, around: &Around<'_>, desk: &mut Desk) -> Result<Step, RingError> {
        let Some(ask) = desk.asks.next() else {
            return Ok(Step::Nothing);
        };
        pattern(ask.sequence, &mut self.message[HEADER_LEN..][..ask.size]);
        if !self.send(around, &mut desk.totals, ask.src, ask.dst, ask.size)? {
            return Ok(Step::Nothing);
        }
        if let Some(&place) = desk.directory.get(&ask.src) {
            desk.services[place].count_sent(ask.size);
        }
        desk.asks.sent();
        Ok(Step::Done)
    }

    /// Copies a message of the host; `None` if it is malformed.
    fn read(&mut self, around: &Around<'_>, buffer: &Buffer) -> Option<Header> {
        let len = usize::try_from(buffer.len).ok()?.min(BUFFER_SIZE);
        around.memory.read_slice(&mut self.message[..len], buffer.address).ok()?;
        let header = Header::from_bytes(self.message[..len].first_chunk()?);
        header.check(len).ok()?;
        if around.habits.scribble_reserved {
            let reserved = self.scribble(buffer.head);
            let place = buffer.address.checked_add(8)?;
            around.memory.write_slice(&reserved.to_le_bytes(), place).ok()?;
        }
        Some(header)
    }

    /// Sends the payload of `len` bytes in the message at hand; false if there is no buffer for it.
    fn send(
        &mut self,
        around: &Around<'_>,
        totals: &mut Totals,
        src: u32,
        dst: u32,
        len: usize,
    ) -> Result<bool, RingError> {
        let total = HEADER_LEN + len;
        let total_u32 = u32::try_from(total).unwrap_or(u32::MAX);
        while let Some(buffer) = self.rx.pop(around.memory)? {
            let header = Header {
                src,
                dst,
                reserved: if around.habits.scribble_reserved { self.scribble(buffer.head) } else { 0 },
                len: u16::try_from(len).unwrap_or(u16::MAX),
                flags: 0,
            };
            self.message[..HEADER_LEN].copy_from_slice(&header.to_bytes());
            let message = &self.message[..total];
            if buffer.len >= total_u32 && around.memory.write_slice(message, buffer.address).is_ok() {
                let used = match around.habits.used_length {
                    UsedLength::Exact => total_u32,
                    UsedLength::Buffer => buffer.len,
                };
                self.rx.give(around.memory, buffer.head, used)?;
                totals.sent += 1;
                self.starved = false;
                return Ok(true);
            }
            totals.bad_buffers += 1;
            self.rx.give(around.memory, buffer.head, 0)?;
        }
        self.starved = true;
        Ok(false)
    }

    /// What OpenAMP leaves in `reserved`: buffer index and hold count.
    fn scribble(&self, head: u16) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX) << 16 | u32::from(head)
    }

    /// Gives a buffer of the host back, now or later.
    fn give_back(&mut self, around: &Around<'_>, buffer: &Buffer) -> Result<(), RingError> {
        let used = match around.habits.used_length {
            UsedLength::Exact => 0,
            UsedLength::Buffer => buffer.len,
        };
        let (keep, shuffle) = (usize::from(around.habits.keep), usize::from(around.habits.shuffle));
        if keep == 0 && shuffle == 0 {
            return self.tx.give(around.memory, buffer.head, used);
        }
        self.held.push((buffer.head, used));
        if self.held.len() >= keep + shuffle.max(1) {
            self.release(around)?;
        }
        Ok(())
    }

    /// Gives back all buffers but those to keep.
    fn release(&mut self, around: &Around<'_>) -> Result<(), RingError> {
        let count = self.held.len().saturating_sub(around.habits.keep.into());
        if around.habits.shuffle > 0 {
            for place in (1..self.held.len()).rev() {
                let other = random(&mut self.random) % (place as u64 + 1);
                self.held.swap(place, usize::try_from(other).unwrap_or(place));
            }
        }
        for (head, used) in self.held.drain(..count) {
            self.tx.give(around.memory, head, used)?;
        }
        Ok(())
    }
}

impl Habits {
    fn answer_address(&self, address: u32) -> u32 {
        if self.short_addresses { address & 0xFFFF } else { address }
    }
}

/// The next number of a splitmix64 sequence.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
