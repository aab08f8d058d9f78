//! Contents of messages that show where each byte belongs, so that a mix-up of any two messages, sizes or
//! positions is seen.

/// Bytes in front of a numbered frame: number, run and checksum, u32 each, little-endian.
pub(crate) const HEADER: usize = 12;

/// The byte at `position` of a message of `size` bytes: neighbouring positions and neighbouring sizes all
/// differ.
fn byte(size: usize, position: usize) -> u8 {
    let mixed = (size * 0x9e37 + 0x79b9) ^ (position * 0x85eb + (position >> 8) * 0xca6b);
    mixed.to_le_bytes()[0] ^ mixed.to_le_bytes()[1]
}

/// Fills a message with the pattern of its size.
pub(crate) fn fill(message: &mut [u8]) {
    let size = message.len();
    for (position, value) in message.iter_mut().enumerate() {
        *value = byte(size, position);
    }
}

/// Compares a message with the pattern of `size` bytes; says what is different.
pub(crate) fn check(message: &[u8], size: usize) -> Result<(), String> {
    if message.len() != size {
        return Err(format!("expected {size} bytes back, found {}", message.len()));
    }
    match message.iter().enumerate().find(|&(position, &found)| found != byte(size, position)) {
        Some((position, found)) => Err(format!(
            "of {size} bytes the one at {position}: expected {:#04x}, found {found:#04x}",
            byte(size, position)
        )),
        None => Ok(()),
    }
}

/// The size of the frame with this number, where all sizes are taken in turn.
pub(crate) fn size_of(number: u32, fixed: usize) -> usize {
    if fixed != 0 {
        return fixed;
    }
    let sizes = crate::MAX_PAYLOAD - HEADER + 1;
    // A step that has no divisor in common with the number of sizes reaches all of them, and never two alike
    // in a row.
    HEADER + (usize::try_from(number).unwrap_or_default() % sizes * 211) % sizes
}

/// Makes `frame` the one with this number in this run.
pub(crate) fn encode(frame: &mut [u8], number: u32, run: u32) {
    fill(frame);
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame[4..8].copy_from_slice(&run.to_le_bytes());
    let checksum = checksum(frame);
    frame[8..HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// What a received frame turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Of this run, whole, with this number.
    Whole(u32),
    /// Whole, but not from this run.
    Foreign,
    /// Not as it was sent.
    Corrupt,
}

/// Looks at a received frame.
pub(crate) fn decode(frame: &[u8], run: u32) -> Frame {
    let (Some(number), Some(found_run), Some(found)) = (word(frame, 0), word(frame, 4), word(frame, 8))
    else {
        return Frame::Corrupt;
    };
    if checksum(frame) != found {
        Frame::Corrupt
    } else if found_run != run {
        Frame::Foreign
    } else {
        Frame::Whole(number)
    }
}

/// Whether this is message `number`, of `size` bytes, of a `source` service: after the number the byte at
/// place i is number + i.
pub(crate) fn is_of_source(message: &[u8], number: u32, size: usize) -> bool {
    let [low, ..] = number.to_le_bytes();
    let places = (0..=u8::MAX).cycle().skip(4);
    message.len() == size
        && message.iter().skip(4).zip(places).all(|(&byte, place)| byte == low.wrapping_add(place))
}

/// The little-endian u32 at `offset`, if the message is long enough.
pub(crate) fn word(message: &[u8], offset: usize) -> Option<u32> {
    let bytes = message.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// FNV-1a over everything but the checksum's own place, and over the length.
fn checksum(frame: &[u8]) -> u32 {
    let (head, rest) = frame.split_at(8);
    head.iter()
        .chain(&rest[4..])
        .chain(&frame.len().to_le_bytes())
        .fold(0x811c_9dc5, |hash: u32, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_recognized() {
        for size in 1..=crate::MAX_PAYLOAD {
            let mut message = vec![0; size];
            fill(&mut message);
            assert_eq!(check(&message, size), Ok(()));
        }
    }

    #[test]
    fn one_wrong_byte_is_named() {
        let mut message = [0; 100];
        fill(&mut message);
        message[42] ^= 1;
        assert!(check(&message, 100).unwrap_err().contains("at 42"));
    }

    #[test]
    fn another_size_is_refused() {
        let mut message = [0; 100];
        fill(&mut message);
        assert!(check(&message[..99], 100).is_err());
        assert!(check(&message[..99], 99).is_err(), "the pattern depends on the size");
    }

    #[test]
    fn a_shifted_pattern_is_refused() {
        let mut message = [0; 496];
        fill(&mut message);
        for shift in [1, 2, 16, 256] {
            let mut shifted = message;
            shifted.rotate_left(shift);
            assert!(check(&shifted, 496).is_err(), "shifted by {shift}");
        }
    }

    #[test]
    fn frames_come_back_as_they_were_sent() {
        for number in 0..2000 {
            let mut frame = vec![0; size_of(number, 0)];
            encode(&mut frame, number, 7);
            assert_eq!(decode(&frame, 7), Frame::Whole(number));
            assert_eq!(decode(&frame, 8), Frame::Foreign);
        }
    }

    #[test]
    fn every_single_flipped_bit_of_a_frame_is_seen() {
        let mut frame = [0; 40];
        encode(&mut frame, 1, 2);
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, 2), Frame::Corrupt, "bit {bit}");
        }
    }

    #[test]
    fn a_cut_frame_is_corrupt() {
        let mut frame = [0; 40];
        encode(&mut frame, 1, 2);
        for length in 0..40 {
            assert_eq!(decode(&frame[..length], 2), Frame::Corrupt, "{length} bytes");
        }
    }

    #[test]
    fn a_source_message_is_checked_to_its_last_byte() {
        let mut message = vec![0x10, 0x02, 0, 0, 0x14, 0x15, 0x16];
        assert!(is_of_source(&message, 0x210, 7));
        assert!(!is_of_source(&message, 0x210, 8), "too short");
        message[6] = 0;
        assert!(!is_of_source(&message, 0x210, 7));
    }

    #[test]
    fn a_long_source_message_starts_again_after_256_places() {
        let mut message: Vec<_> =
            (0..300_usize).map(|place| place.to_le_bytes()[0].wrapping_add(9)).collect();
        message[..4].copy_from_slice(&9_u32.to_le_bytes());
        assert!(is_of_source(&message, 9, 300));
    }

    #[test]
    fn all_sizes_have_their_turn() {
        let mut seen: Vec<_> = (0..485).map(|number| size_of(number, 0)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (HEADER..=crate::MAX_PAYLOAD).collect::<Vec<_>>());
        assert_eq!(size_of(3, 64), 64);
    }
}
