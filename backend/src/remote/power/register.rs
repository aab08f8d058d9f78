//! A register that starts and stops a core.

use std::path::PathBuf;

use super::super::memory::{before_kick, open_uncached, register};
use super::{PowerError, Step};

/// Some bits of a 32-bit register. The others are written back as they were read; somebody else who writes the
/// same register at the same moment may lose or win, as always with such registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// File through which physical memory is mapped: `/dev/mem`.
    pub file: PathBuf,
    /// Physical address of the block of registers, which is its offset in the file.
    pub base: u64,
    /// From there to the register, in bytes.
    pub offset: u64,
    /// The bits that count.
    pub mask: u32,
    /// What they are to be for the core to run.
    pub start: u32,
    /// What they are to be for it to stop.
    pub stop: u32,
}

impl Register {
    pub(super) fn write(&self, step: Step) -> Result<(), PowerError> {
        // What does not fit into an address is in no page, and so refused below.
        let address = self.base.saturating_add(self.offset);
        let value = match step {
            Step::Start => self.start,
            Step::Stop => self.stop,
        };
        if value & !self.mask != 0 {
            return Err(PowerError::OutsideMask { step, address, value, mask: self.mask });
        }
        let file = open_uncached(&self.file).map_err(|source| PowerError::OpenRegister {
            path: self.file.clone(),
            address,
            source,
        })?;
        let register = register(&file, address).map_err(|source| PowerError::MapRegister {
            path: self.file.clone(),
            address,
            source,
        })?;
        // Its firmware must be in memory before the core runs.
        before_kick();
        register.write_u32(0, register.read_u32(0) & !self.mask | value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::param::page_size;
    use tempfile::NamedTempFile;

    use super::super::Switch;
    use super::*;
    use crate::causes::Causes;

    /// A file for physical memory, with 0x12345678 at every word of its second page.
    fn memory() -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        let words = 0x1234_5678_u32.to_le_bytes().repeat(page_size() / 4);
        file.as_file().write_all_at(&words, page_size() as u64).unwrap();
        file
    }

    fn register(memory: &NamedTempFile, offset: u64) -> Register {
        let (file, base) = (memory.path().to_owned(), page_size() as u64 + 0x10);
        Register { file, base, offset, mask: 0xFF00, start: 0x0100, stop: 0xA500 }
    }

    fn words(memory: &NamedTempFile) -> Vec<u32> {
        let mut bytes = vec![0; page_size()];
        memory.as_file().read_exact_at(&mut bytes, page_size() as u64).unwrap();
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn only_the_bits_of_the_mask_are_written_and_only_there() {
        let memory = memory();
        let switch = Switch::Register(register(&memory, 0x34));
        for (turn, value) in [
            (Switch::start as fn(&Switch) -> _, 0x1234_0178),
            (Switch::stop, 0x1234_A578),
            (Switch::start, 0x1234_0178),
        ] {
            turn(&switch).unwrap();
            let mut expected = vec![0x1234_5678; page_size() / 4];
            expected[0x11] = value;
            assert_eq!(words(&memory), expected);
        }
    }

    #[test]
    fn a_register_that_cannot_be_reached_is_refused_with_its_address() {
        let memory = memory();
        let refusal = |register: &Register| Causes(&register.write(Step::Start).unwrap_err()).to_string();
        let address = page_size() as u64 + 0x13;
        let text = refusal(&register(&memory, 3));
        assert!(text.contains(&format!("{address:#x} is not aligned")), "{text}");
        let text = refusal(&register(&memory, 2 * page_size() as u64));
        assert!(text.contains("memory file holds"), "{text}");
        let text = refusal(&register(&memory, u64::MAX - 3));
        assert!(text.contains("cannot reach the register at 0xffffffffffffffff"), "{text}");
        let text = refusal(&Register { file: "/nonexistent/mem".into(), ..register(&memory, 0) });
        assert!(text.contains("cannot open /nonexistent/mem") && text.contains("No such file"), "{text}");
        assert_eq!(words(&memory), vec![0x1234_5678; page_size() / 4]);
    }

    #[test]
    fn a_value_that_does_not_fit_its_mask_is_refused() {
        let memory = memory();
        let wrong = Register { stop: 0x1_0000, ..register(&memory, 0) };
        let text = wrong.write(Step::Stop).unwrap_err().to_string();
        assert!(text.contains("stop value 0x10000") && text.contains("mask 0xff00"), "{text}");
        assert_eq!(words(&memory), vec![0x1234_5678; page_size() / 4]);
    }
}
