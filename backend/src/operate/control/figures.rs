//! The results of `ls`, `stats` and `events`, and how they are printed for people.

use std::fmt::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bridge::latency::Latency;
use crate::bridge::report::{DeviceFigures, DeviceListing, ServiceFigures, VmFigures};
use crate::operate::events::{Event, Who};

/// The result of `ls`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Listing {
    /// The remotes, in the order of the configuration.
    pub(in crate::operate) remotes: Vec<RemoteListing>,
}

/// A remote, and what is served there.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct RemoteListing {
    /// Its name.
    pub(in crate::operate) name: String,
    /// What it is doing.
    pub(in crate::operate) state: String,
    /// Its rpmsg devices.
    pub(in crate::operate) devices: Vec<DeviceListing>,
}

/// The result of `stats`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Stats {
    /// The remotes, in the order of the configuration.
    pub(in crate::operate) remotes: Vec<RemoteStats>,
}

/// The result of `events`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Events {
    /// The events, oldest first.
    pub(in crate::operate) events: Vec<Event>,
}

/// What was counted at a remote.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::operate) struct RemoteStats {
    /// Its name.
    pub(in crate::operate) name: String,
    /// What it is doing.
    pub(in crate::operate) state: String,
    /// When this was counted, in nanoseconds of the host's monotonic clock: rates are differences over differences of it.
    pub(in crate::operate) monotonic_ns: u64,
    /// How often its mailbox was heard, by this worker.
    pub(in crate::operate) doorbells_heard: u64,
    /// How long messages were in the program's hands.
    pub(in crate::operate) latency: Latencies,
    /// Its rpmsg devices.
    pub(in crate::operate) devices: Vec<DeviceFigures>,
}

/// How long messages were in the program's hands, by direction.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::operate) struct Latencies {
    pub(in crate::operate) to_remote: Percentiles,
    pub(in crate::operate) to_guest: Percentiles,
}

/// Of samples, in nanoseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::operate) struct Percentiles {
    /// How many samples there are.
    pub(in crate::operate) samples: u64,
    pub(in crate::operate) p50_ns: u64,
    pub(in crate::operate) p90_ns: u64,
    pub(in crate::operate) p99_ns: u64,
    pub(in crate::operate) p999_ns: u64,
    pub(in crate::operate) max_ns: u64,
}

impl From<&Latency> for Latencies {
    fn from(latency: &Latency) -> Self {
        let [to_remote, to_guest] = [&latency.to_remote, &latency.to_guest].map(|samples| Percentiles {
            samples: samples.len(),
            p50_ns: samples.value_at_quantile(0.5),
            p90_ns: samples.value_at_quantile(0.9),
            p99_ns: samples.value_at_quantile(0.99),
            p999_ns: samples.value_at_quantile(0.999),
            max_ns: samples.max(),
        });
        Latencies { to_remote, to_guest }
    }
}

/// Rows with columns as wide as they have to be; the first row is the heading. So many columns are texts, the others figures.
fn table(rows: &[Vec<String>], texts: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column < texts {
            true => format!("{cell:width$}  "),
            false => format!("{cell:>width$}  "),
        });
        format!("  {}\n", cells.collect::<String>().trim_end())
    };
    // A heading alone says nothing.
    if rows.len() > 1 { rows.iter().map(line).collect() } else { String::new() }
}

fn heading<const N: usize>(names: [&str; N]) -> Vec<Vec<String>> {
    vec![names.map(str::to_owned).to_vec()]
}

fn hex(address: u32) -> String {
    format!("{address:#x}")
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

/// What is served, for people.
pub(super) fn listing(listing: &Listing) -> String {
    let mut text = String::new();
    for RemoteListing { name, state, devices } in &listing.remotes {
        text += if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "remote {name}: {state}");
        for device in devices {
            if device.name != *name {
                let _ = writeln!(text, "{}:", device.name);
            }
            let mut vms =
                heading(["VM", "SLOT", "DRIVER", "SESSION", "BASE", "OVERFLOW", "STRICT", "WEIGHT"]);
            vms.extend(device.vms.iter().map(|vm| {
                let strict = if vm.strict { "yes" } else { "no" };
                let (slot, session) = (vm.slot.to_string(), vm.session.to_string());
                let (base, weight) = (or_dash(vm.base.map(hex)), vm.weight.to_string());
                let (name, driver, overflow) = (vm.name.clone(), vm.driver.clone(), vm.overflow.clone());
                vec![name, slot, driver, session, base, overflow, strict.to_owned(), weight]
            }));
            let mut services = heading(["SERVICE", "ADDRESS", "MODE", "OWNER", "SEEN BY"]);
            services.extend(device.services.iter().map(|service| {
                let (owner, seen_by) = (or_dash(service.owner.clone()), service.seen_by.join(","));
                vec![service.name.clone(), hex(service.address), service.mode.clone(), owner, seen_by]
            }));
            let mut endpoints = heading(["ENDPOINT OF", "GUEST", "HOST", "SERVICE", "WHOSE"]);
            endpoints.extend(device.endpoints.iter().map(|endpoint| {
                let whose = if endpoint.own { "the guest's" } else { "the remote's" };
                let whose = endpoint.service.as_ref().map_or("-", |_| whose).to_owned();
                let host = or_dash(endpoint.host.map(hex));
                vec![endpoint.vm.clone(), hex(endpoint.guest), host, or_dash(endpoint.service.clone()), whose]
            }));
            let tables = [vms, services, endpoints].map(|rows| table(&rows, usize::MAX));
            text += &tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n");
        }
    }
    text
}

/// What was counted, for people.
pub(super) fn stats(stats: &Stats) -> String {
    let mut text = String::new();
    for RemoteStats { name, state, doorbells_heard, latency, devices, .. } in &stats.remotes {
        text += if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "remote {name}: {state}; doorbells heard: {doorbells_heard}");
        let mut rows = heading(["BATCH TAKES", "SAMPLES", "P50", "P90", "P99", "P99.9", "MAX"]);
        for (direction, of) in [("to the remote", &latency.to_remote), ("to the guest", &latency.to_guest)] {
            let times = [of.p50_ns, of.p90_ns, of.p99_ns, of.p999_ns, of.max_ns];
            let times = times.map(|ns| if of.samples == 0 { "-".to_owned() } else { time(ns) });
            rows.push([direction.to_owned(), of.samples.to_string()].into_iter().chain(times).collect());
        }
        text += &table(&rows, 1);
        devices.iter().for_each(|figures| text += &device(figures));
    }
    text
}

/// What has happened, for people: a line each.
pub(in crate::operate) fn events(events: &Events) -> String {
    let line = |Event { time_ns, by, level, text }: &Event| {
        let time = Timestamp::from_nanosecond(i128::from(*time_ns)).unwrap_or_default();
        let by = match by {
            Who::Worker => "worker",
            Who::Keeper => "keeper",
        };
        format!("{time:.6} {by} {level:5} {text}\n")
    };
    events.events.iter().map(line).collect()
}

fn device(figures: &DeviceFigures) -> String {
    let DeviceFigures { name, buffers, misdirected, malformed, worker_restarts, doorbells_rung, vms } =
        figures;
    let buffers = buffers.map_or("not attached".to_owned(), |buffers| {
        format!(
            "{} of {} buffers in flight, {} of {} held for VMs",
            buffers.in_flight, buffers.to_remote, buffers.held, buffers.from_remote
        )
    });
    let text = format!(
        "\n{name}: {buffers}\n  {misdirected} messages misdirected, {malformed} malformed; doorbells rung: \
         {doorbells_rung}; worker restarts: {worker_restarts}\n\n"
    );
    let names = ["VM", "SERVICE", "TO REMOTE", "BYTES", "TO GUEST", "BYTES", "DROPPED"];
    let mut rows = heading(names);
    for vm in vms {
        let all: u64 = vm.dropped.values().sum();
        let (to_remote, to_guest) = (vm.to_remote, vm.to_guest);
        let numbers = [to_remote.messages, to_remote.bytes, to_guest.messages, to_guest.bytes, all];
        let names = [vm.name.clone(), "all".to_owned()];
        rows.push(names.into_iter().chain(numbers.map(|number| number.to_string())).collect());
        rows.extend(vm.services.iter().map(|service| service_row(vm, service)));
    }
    let messages = table(&rows, 2);
    let names = ["VM", "BUFFERS", "WAITING", "STALLS", "STALLED", "SUBSCRIBED", "TIME-OUTS"];
    let mut rows = heading(names);
    rows.extend(vms.iter().map(|vm| {
        let of = [format!("{}/{}", vm.held, vm.share), format!("{}/{}", vm.waiting, vm.waiting_share)];
        let stalls = [vm.stalls.to_string(), time(vm.stalled_ns)];
        let rest = [vm.subscriptions, vm.time_outs].map(|count| count.to_string());
        [vm.name.clone()].into_iter().chain(of).chain(stalls).chain(rest).collect()
    }));
    let shares = table(&rows, 1);
    let mut rows = heading(["VM", "REASON", "DROPPED"]);
    for vm in vms {
        let dropped = vm.dropped.iter();
        rows.extend(
            dropped.map(|(reason, count)| vec![vm.name.clone(), reason.to_string(), count.to_string()]),
        );
    }
    let tables = [messages, shares, table(&rows, 2)];
    text + &tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
}

fn service_row(vm: &VmFigures, service: &ServiceFigures) -> Vec<String> {
    let name = match (&service.name, service.address) {
        (Some(name), Some(address)) => format!("{name}@{address:#x}"),
        _ => "none".to_owned(),
    };
    let counters = service.counters;
    let (to_remote, to_guest) = (counters.to_remote, counters.to_guest);
    let numbers = [to_remote.messages, to_remote.bytes, to_guest.messages, to_guest.bytes, counters.dropped];
    [vm.name.clone(), name].into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

/// A time in the unit that suits it.
pub(in crate::operate) fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} us", ns / 1_000),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bridge::counters::Reason;

    #[test]
    fn what_is_served_is_printed_in_columns() {
        let json = r#"{"remotes":[{"name":"core","state":"attached","devices":[{"name":"core",
            "vms":[{"name":"a","slot":1,"driver":"up","session":1,"base":17825792,"overflow":"drop","strict":false,"weight":1}],
            "services":[{"name":"echo","address":1024,"mode":"exclusive","owner":"a","seen-by":["a"]}],
            "endpoints":[{"vm":"a","service":"echo","own":false,"guest":1030,"host":2130706432}]}]}]}"#;
        assert_eq!(
            listing(&serde_json::from_str(json).unwrap()),
            "remote core: attached\n\
             \x20 VM  SLOT  DRIVER  SESSION  BASE       OVERFLOW  STRICT  WEIGHT\n\
             \x20 a   1     up      1        0x1100000  drop      no      1\n\
             \n\
             \x20 SERVICE  ADDRESS  MODE       OWNER  SEEN BY\n\
             \x20 echo     0x400    exclusive  a      a\n\
             \n\
             \x20 ENDPOINT OF  GUEST  HOST        SERVICE  WHOSE\n\
             \x20 a            0x406  0x7f000000  echo     the remote's\n"
        );
    }

    #[test]
    fn what_was_counted_is_printed_with_its_figures_below_each_other() {
        let json = r#"{"remotes":[{"name":"core","state":"attached","monotonic-ns":1,"doorbells-heard":4,
            "latency":{"to-remote":{"samples":3,"p50-ns":900,"p90-ns":1100,"p99-ns":10000,"p999-ns":11000,"max-ns":15000000},
                       "to-guest":{"samples":0,"p50-ns":0,"p90-ns":0,"p99-ns":0,"p999-ns":0,"max-ns":0}},
            "devices":[{"name":"core","buffers":{"to-remote":256,"in-flight":2,"free":254,"from-remote":256,"held":1},
                "misdirected":1,"malformed":0,"worker-restarts":2,"doorbells-rung":6,
                "vms":[{"name":"a","slot":0,"to-remote":{"messages":1203,"bytes":1500},"to-guest":{"messages":3,"bytes":15},
                    "subscriptions":0,"time-outs":0,"dropped":{"not-allowed":7},
                    "services":[{"name":"raw","address":1024,"to-remote":{"messages":1203,"bytes":1500},
                                 "to-guest":{"messages":3,"bytes":15},"dropped":7}],
                    "share":256,"held":2,"waiting-share":255,"waiting":1,"stalls":1,"stalled-ns":2500000000}]}]}]}"#;
        assert_eq!(
            stats(&serde_json::from_str(json).unwrap()),
            "remote core: attached; doorbells heard: 4\n\
             \x20 BATCH TAKES    SAMPLES     P50      P90    P99  P99.9    MAX\n\
             \x20 to the remote        3  900 ns  1100 ns  10 us  11 us  15 ms\n\
             \x20 to the guest         0       -        -      -      -      -\n\
             \n\
             core: 2 of 256 buffers in flight, 1 of 256 held for VMs\n\
             \x20 1 messages misdirected, 0 malformed; doorbells rung: 6; worker restarts: 2\n\
             \n\
             \x20 VM  SERVICE    TO REMOTE  BYTES  TO GUEST  BYTES  DROPPED\n\
             \x20 a   all             1203   1500         3     15        7\n\
             \x20 a   raw@0x400       1203   1500         3     15        7\n\
             \n\
             \x20 VM  BUFFERS  WAITING  STALLS  STALLED  SUBSCRIBED  TIME-OUTS\n\
             \x20 a     2/256    1/255       1  2500 ms           0          0\n\
             \n\
             \x20 VM  REASON       DROPPED\n\
             \x20 a   not allowed        7\n"
        );
    }

    /// Every key in a value.
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            _ => {}
        }
    }

    #[test]
    fn every_key_of_what_is_served_and_counted_is_in_the_reference_and_its_examples() {
        let reference = include_str!("../../../docs/control.md");
        let example = |request: &str| {
            let asked = format!("{{\"version\":1,\"request\":\"{request}\"}}");
            let mut lines = reference.lines().skip_while(|line| *line != asked).skip(1);
            let reply: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
            reply["result"].clone()
        };
        let (ls, counted, happened) = (example("ls"), example("stats"), example("events"));
        // What is parsed and said again has every key that there is.
        let again = [
            serde_json::to_value(serde_json::from_value::<Listing>(ls.clone()).unwrap()).unwrap(),
            serde_json::to_value(serde_json::from_value::<Stats>(counted.clone()).unwrap()).unwrap(),
            serde_json::to_value(serde_json::from_value::<Events>(happened.clone()).unwrap()).unwrap(),
        ];
        assert_eq!(again, [ls, counted, happened]);
        let mut all: Vec<_> =
            Reason::ALL.iter().map(|reason| serde_json::to_value(reason).unwrap()).collect();
        all.push("worker".into());
        let mut all: Vec<_> = all.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        again.iter().for_each(|value| keys(value, &mut all));
        let figures_of_latency =
            |key: &str| key.ends_with("-ns") && (key.starts_with('p') || key.starts_with("max"));
        all.retain(|key| !figures_of_latency(key));
        for key in all {
            assert!(reference.contains(&format!("`{key}`")), "expected `{key}` in the reference");
        }
    }

    #[test]
    fn events_are_printed_a_line_each() {
        let json = r#"{"events":[{"time-ns":1500000000,"by":"keeper","level":"warn","text":"the worker has died"}]}"#;
        let text = events(&serde_json::from_str(json).unwrap());
        assert_eq!(text, "1970-01-01T00:00:01.500000Z keeper warn  the worker has died\n");
    }

    #[test]
    fn times_are_printed_in_the_unit_that_suits_them() {
        let times = [0, 9_999, 10_000, 12_345_678, 12_345_678_901].map(time);
        assert_eq!(times, ["0 ns", "9999 ns", "10 us", "12 ms", "12 s"]);
    }
}
