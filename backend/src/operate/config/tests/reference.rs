//! The reference of the configuration, `backend/docs/configuration.md`, is written from [`keys::KEYS`], and the keys
//! there are those that the program takes.

use std::fmt::Write;

use serde::{
    Deserialize, Deserializer,
    de::{Visitor, value::Error},
    forward_to_deserialize_any,
};

use super::{keys::Kind, *};

/// The example in the reference.
pub(super) const EXAMPLE: &str = r#"control = "/run/rpmsg.control"
user = "rpmsg"
state = "/run/rpmsg"
metrics = "127.0.0.1:9478"

[[remote]]
name = "core"
link = "socket"
doorbell = "/run/core.doorbell"
resource-table = 0x21000000
attach-after = "2s"

[[remote.memory]]
path = "/dev/shm/core"
size = 0x100000
device-address = 0x21000000

[[vm]]
name = "a"
socket = "/run/a.sock"
mode = "0660"
group = "kvm"
weight = 4

[[vm]]
name = "b"
socket = "/run/b.sock"
slot = 5
addresses = [0x400]
strict = true
messages-per-second = 1000
bytes-per-second = 100000

[[service]]             # firmware with one client
name = "rpmsg-openamp-*"
mode = "serialized"
time-out = "500ms"

[[service]]             # only a may use the console
name = "rpmsg-tty"
mode = "exclusive"
owner = "a"

[[service]]             # the firmware does not announce it
name = "sensor"
address = 0x500
mode = "broadcast"
vms = ["a", "b"]
"#;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

const INTRODUCTION: &str = "\
# Configuration

What `vhost-device-rpmsg --config FILE` reads, and `vhost-device-rpmsg check FILE` checks: a TOML file that names the
remote cores, the VMs in front of them and how these share services. Keys that are not listed here are errors. Numbers may be written in any of
TOML's forms, such as `0x100000`.

This file is written from `src/operate/config/keys.rs`; `UPDATE_REFERENCE=1 cargo test reference` writes it anew.
";

const TABLE_HEAD: &str = "\
| key | type | value | if left out | meaning |
|---|---|---|---|---|
";

fn render() -> String {
    let mut text =
        format!("{INTRODUCTION}\n```toml\n{EXAMPLE}```\n\n## At the top, before any table\n\n{TABLE_HEAD}");
    for key in keys::KEYS {
        let (_, name) = key.split();
        let kind = match key.kind {
            Kind::Text => "string",
            Kind::Texts => "array of strings",
            Kind::Integer => "integer",
            Kind::Integers => "array of integers",
            Kind::Flag => "boolean",
            Kind::Table | Kind::Tables => "",
        };
        if kind.is_empty() {
            let head = match key.kind {
                Kind::Table => format!("[{}]", key.path),
                _ => format!("[[{}]]", key.path),
            };
            write!(
                text,
                "\n## `{head}`\n\n{} {}; if left out: {}.\n\n{TABLE_HEAD}",
                key.meaning,
                capitalized(&key.value.replace(&head, &format!("`{head}`"))),
                key.default
            )
            .unwrap();
        } else {
            let (value, default, meaning) = (key.value, key.default, key.meaning);
            writeln!(text, "| `{name}` | {kind} | {value} | {default} | {meaning} |").unwrap();
        }
    }
    text
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// Finds out which fields a struct is deserialized from, by failing with their names.
struct Fields;

impl<'de> Deserializer<'de> for Fields {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom(fields.join(", ")))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields_of<'de, T: Deserialize<'de> + std::fmt::Debug>() -> String {
    T::deserialize(Fields).unwrap_err().to_string()
}

#[test]
fn the_keys_with_a_description_are_those_that_the_program_takes() {
    assert_eq!(keys::names_in(""), fields_of::<raw::File>());
    assert_eq!(keys::names_in("remote"), fields_of::<raw::Remote>());
    assert_eq!(keys::names_in("remote.memory"), fields_of::<raw::Memory>());
    assert_eq!(keys::names_in("remote.mailbox"), fields_of::<raw::Mailbox>());
    assert_eq!(keys::names_in("remote.vrings"), fields_of::<raw::Vrings>());
    assert_eq!(keys::names_in("remote.boot"), fields_of::<raw::Boot>());
    assert_eq!(keys::names_in("remote.recovery"), fields_of::<raw::Recovery>());
    assert_eq!(keys::names_in("vm"), fields_of::<raw::Vm>());
    assert_eq!(keys::names_in("service"), fields_of::<raw::Service>());
}

#[test]
fn the_reference_in_the_repository_is_the_one_written_from_the_keys() {
    let expected = render();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(FILE, &expected).unwrap();
    }
    let found = fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md is not what the keys say; write it anew with `UPDATE_REFERENCE=1 cargo test reference`"
    );
}
