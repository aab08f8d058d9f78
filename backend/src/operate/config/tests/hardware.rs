//! Remotes behind UIO: what `check` prints of them, and what it refuses.

use super::refusals::refusal;
use super::*;

/// The least that a remote behind UIO takes. Its mailbox opens in line 5, its memory in line 8.
const UIO: &str = r#"[[remote]]
name = "m4"
link = "uio"
resource-table = 0x20000000
[remote.mailbox]
kind = "imx-mu"
address = 0x30aa0000
[[remote.memory]]
size = 0x100000
physical-address = 0x20000000

[[vm]]
name = "a"
socket = "/run/a.sock"
"#;

/// With other lines in place of the mailbox's kind.
fn with_mailbox(lines: &str) -> String {
    UIO.replace("kind = \"imx-mu\"", lines)
}

fn with(from: &str, to: &str) -> String {
    assert!(UIO.contains(from), "{from}");
    UIO.replacen(from, to, 1)
}

fn printed(text: &str, key: &str) -> String {
    let plan = plan(text).to_string();
    let line = plan.lines().find_map(|line| line.strip_prefix(&format!("  {key:16}")));
    line.unwrap_or_else(|| panic!("{plan}")).to_owned()
}

#[test]
fn a_mailbox_of_every_family_is_printed_with_its_defaults_and_with_all_its_keys() {
    for (lines, expected) in [
        ("kind = \"imx-mu\"", "i.MX messaging unit (V1) at 0x30aa0000, channel 1, Shifted words"),
        (
            "kind = \"imx-mu-v2\"\nchannel = 3\nword = \"plain\"",
            "i.MX messaging unit (V2) at 0x30aa0000, channel 3, Plain words",
        ),
        ("kind = \"stm32-ipcc\"", "STM32 IPCC at 0x30aa0000, processor 0, vrings on channels [0, 1]"),
        (
            "kind = \"stm32-ipcc\"\nprocessor = 1\nchannels = [4, 5, 6]\nshut-down = 2\ndetach = 3\n\
             receive-device = \"rx\"\ntransmit-device = \"tx\"",
            "STM32 IPCC at 0x30aa0000, processor 1, vrings on channels [4, 5, 6], shutdown on 2, detach on 3, \
             receives by rx, sends by tx",
        ),
        (
            "kind = \"omap-mailbox\"\nreceive-fifo = 1\ntransmit-fifo = 0",
            "TI mailbox (Omap4) at 0x30aa0000, receives by FIFO 1, sends by FIFO 0, user 0",
        ),
        (
            "kind = \"omap2-mailbox\"\nreceive-fifo = 15\ntransmit-fifo = 14\nuser = 3",
            "TI mailbox (Omap2) at 0x30aa0000, receives by FIFO 15, sends by FIFO 14, user 3",
        ),
        (
            "kind = \"zynqmp-ipi\"\nrequest-buffer = 0xff990600\nremote-bit = 8",
            "ZynqMP IPI channel at 0x30aa0000, requests at 0xff990600, remote bit 8",
        ),
    ] {
        assert_eq!(printed(&with_mailbox(lines), "link"), expected);
    }
}

#[test]
fn memory_behind_uio_is_printed_with_its_physical_address() {
    assert_eq!(
        printed(UIO, "memory"),
        "0x20000000..=0x200fffff in the UIO device with it, physical address 0x20000000, 0x100000 bytes"
    );
    let text = with(
        "physical-address = 0x20000000",
        "physical-address = 0x8_20000000\nname = \"vdev0buffer\"\ndevice-address = 0x20000000",
    );
    assert_eq!(
        printed(&text, "memory"),
        "0x20000000..=0x200fffff in the UIO device with it, physical address 0x820000000, 0x100000 bytes, for vdev0buffer"
    );
    let text = with("size = 0x100000", "path = \"/dev/mem\"\nsize = 0x100000");
    assert_eq!(
        printed(&text, "memory"),
        "0x20000000..=0x200fffff in /dev/mem at offset 0x20000000, 0x100000 bytes"
    );
}

#[test]
fn memory_that_dev_mem_cannot_map_or_that_has_no_address_for_the_remote_is_refused() {
    let page = rustix::param::page_size();
    let text = with("size = 0x100000", "path = \"/dev/mem\"\nsize = 0x100000");
    let text = text.replace(
        "physical-address = 0x20000000",
        "device-address = 0x20000000\nphysical-address = 0x20000010",
    );
    assert_eq!(
        refusal(&text),
        format!(
            "board.toml:12: key remote.memory.physical-address: expected a multiple of {page:#x}, the page size of this \
             host, with `/dev/mem`, found 0x20000010"
        )
    );
    assert_eq!(
        refusal(&with("physical-address = 0x20000000", "physical-address = 0x800000000")),
        "board.toml:8: key remote.memory.device-address: expected a device address, a multiple of 16 from 0 to \
         0xfffffff0, found nothing; the physical address 0x800000000 cannot be a device address too"
    );
    assert_eq!(
        refusal(&with("physical-address = ", "device-address = ")),
        "board.toml:8: key remote.memory.physical-address: expected a physical address, 0 or more, found nothing"
    );
    let twice = "[[remote.memory]]\nsize = 0x1000\nphysical-address = 0x30000000\nname = \"firmware\"\n";
    let third = twice.replace("0x30000000", "0x40000000");
    assert_eq!(
        refusal(&with("\n[[vm]]", &[twice, &third, "\n[[vm]]"].concat())),
        "board.toml:18: key remote.memory.name: expected a name of letters, digits, '_', '-' and '.' that no other \
         region of the remote has, found \"firmware\", which line 14 has given already"
    );
}

#[test]
fn keys_of_another_link_are_refused() {
    assert_eq!(
        refusal(&with("link = \"uio\"", "link = \"uio\"\ndoorbell = \"/d\"")),
        "board.toml:4: key remote.doorbell: expected no such key with link = \"uio\", found one; remove it, or say link = \
         \"socket\""
    );
    let socket = with("link = \"uio\"", "link = \"socket\"\ndoorbell = \"/d\"");
    let error = refusal(&socket);
    assert!(error.contains("key remote.mailbox: expected no such key with link = \"socket\""), "{error}");
    let without = UIO.replace("[remote.mailbox]\nkind = \"imx-mu\"\naddress = 0x30aa0000\n", "");
    assert_eq!(
        refusal(&without),
        "board.toml:1: key remote.mailbox: expected a table [remote.mailbox], found nothing"
    );
}

#[test]
fn keys_of_another_family_are_refused_and_those_of_its_own_demanded() {
    for (lines, expected) in [
        (
            "kind = \"mailbox\"",
            "6: key remote.mailbox.kind: expected \"imx-mu\", \"imx-mu-v2\", \"stm32-ipcc\", \"omap-mailbox\", \
             \"omap2-mailbox\" or \"zynqmp-ipi\", found \"mailbox\"",
        ),
        (
            "kind = \"imx-mu\"\nuser = 0",
            "7: key remote.mailbox.user: expected no such key with kind = \"imx-mu\", found one; remove it, or say \
             kind = \"omap-mailbox\"",
        ),
        (
            "kind = \"zynqmp-ipi\"\nchannel = 1",
            "7: key remote.mailbox.channel: expected no such key with kind = \"zynqmp-ipi\", found one; remove it, or \
             say kind = \"imx-mu\"",
        ),
        (
            "kind = \"omap-mailbox\"\ndetach = 1",
            "7: key remote.mailbox.detach: expected no such key with kind = \"omap-mailbox\", found one; remove it, or \
             say kind = \"stm32-ipcc\"",
        ),
        (
            "kind = \"imx-mu\"\nremote-bit = 1",
            "7: key remote.mailbox.remote-bit: expected no such key with kind = \"imx-mu\", found one; remove it, or \
             say kind = \"zynqmp-ipi\"",
        ),
        (
            "kind = \"omap-mailbox\"\ntransmit-fifo = 1",
            "5: key remote.mailbox.receive-fifo: expected a number from 0 to 15, found nothing",
        ),
        (
            "kind = \"omap2-mailbox\"\nreceive-fifo = 1",
            "5: key remote.mailbox.transmit-fifo: expected a number from 0 to 15 other than `receive-fifo`, found nothing",
        ),
        (
            "kind = \"zynqmp-ipi\"\nremote-bit = 1",
            "5: key remote.mailbox.request-buffer: expected a physical address, 0 or more, found nothing",
        ),
        (
            "kind = \"zynqmp-ipi\"\nrequest-buffer = 1",
            "5: key remote.mailbox.remote-bit: expected a number from 0 to 31, found nothing",
        ),
    ] {
        assert_eq!(refusal(&with_mailbox(lines)), format!("board.toml:{expected}"));
    }
}

#[test]
fn numbers_beyond_what_a_family_has_are_refused() {
    let omap = "kind = \"omap-mailbox\"\nreceive-fifo = 1\ntransmit-fifo = 0";
    for (lines, key, expected, found) in [
        ("kind = \"imx-mu\"\nchannel = 4", "channel", "a number from 0 to 3", "4"),
        ("kind = \"imx-mu\"\nword = \"upper\"", "word", "\"shifted\" or \"plain\"", "\"upper\""),
        ("kind = \"stm32-ipcc\"\nprocessor = 2", "processor", "0 or 1", "2"),
        (
            "kind = \"stm32-ipcc\"\nchannels = [0, 16]",
            "channels",
            "numbers from 0 to 15, each of them once, two for each device",
            "16",
        ),
        (
            "kind = \"stm32-ipcc\"\nchannels = [3, 3]",
            "channels",
            "numbers from 0 to 15, each of them once, two for each device",
            "3 again",
        ),
        (
            "kind = \"stm32-ipcc\"\nshut-down = 16",
            "shut-down",
            "a number from 0 to 15 that is no other channel",
            "16",
        ),
        (
            "kind = \"stm32-ipcc\"\nshut-down = 1",
            "shut-down",
            "a number from 0 to 15 that is no other channel",
            "1 again",
        ),
        (
            "kind = \"stm32-ipcc\"\ndetach = -1",
            "detach",
            "a number from 0 to 15 that is no other channel",
            "-1",
        ),
        (&format!("{omap}\nuser = 4"), "user", "a number from 0 to 3", "4"),
        (
            "kind = \"omap-mailbox\"\nreceive-fifo = 16\ntransmit-fifo = 0",
            "receive-fifo",
            "a number from 0 to 15",
            "16",
        ),
        (
            "kind = \"zynqmp-ipi\"\nrequest-buffer = 0\nremote-bit = 32",
            "remote-bit",
            "a number from 0 to 31",
            "32",
        ),
    ] {
        let error = refusal(&with_mailbox(lines));
        let (_, error) = error.split_once(": ").unwrap();
        assert_eq!(error, format!("key remote.mailbox.{key}: expected {expected}, found {found}"));
    }
    let same = "kind = \"omap-mailbox\"\nreceive-fifo = 2\ntransmit-fifo = 2";
    assert_eq!(
        refusal(&with_mailbox(same)),
        "board.toml:8: key remote.mailbox.transmit-fifo: expected a number from 0 to 15 other than `receive-fifo`, found 2"
    );
    let same = "kind = \"stm32-ipcc\"\nshut-down = 2\ndetach = 2";
    assert_eq!(
        refusal(&with_mailbox(same)),
        "board.toml:8: key remote.mailbox.detach: expected a number from 0 to 15 that is no other channel, found 2 again"
    );
    assert_eq!(
        refusal(&with("address = 0x30aa0000", "address = -1")),
        "board.toml:7: key remote.mailbox.address: expected a physical address, 0 or more, found -1"
    );
}

#[test]
fn an_ipcc_has_two_channels_for_every_device_that_is_known_of() {
    let fixed = |channels: &str, devices: u8| {
        let text = with_mailbox(&format!("kind = \"stm32-ipcc\"\n{channels}"));
        text.replace("resource-table = 0x20000000\n", "").replace(
            "\n[[vm]]",
            &format!("[remote.vrings]\naddress = 0x20000000\ndevices = {devices}\n\n[[vm]]"),
        )
    };
    assert_eq!(plan(&fixed("channels = [0, 1, 2, 3]", 2)).remotes.len(), 1);
    assert_eq!(
        refusal(&fixed("channels = [0, 1, 2]", 2)),
        "board.toml:6: key remote.mailbox.channels: expected 4 channels, two for each of 2 devices, found 3 of them"
    );
    assert_eq!(
        refusal(&fixed("", 3)),
        "board.toml:4: key remote.mailbox.channels: expected 6 channels, two for each of 3 devices, found 2 of them"
    );
    assert_eq!(
        refusal(&with_mailbox("kind = \"stm32-ipcc\"\nchannels = []")),
        "board.toml:5: key remote.mailbox.channels: expected 2 channels, two for each of 1 devices, found 0 of them"
    );
}
