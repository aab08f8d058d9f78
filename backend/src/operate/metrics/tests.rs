//! What scrapes get.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

const STATS: &str = r#"{"remotes":[{"name":"m4","state":"running","monotonic-ns":1,"doorbells-heard":4,
    "latency":{"to-remote":{"samples":3,"p50-ns":900,"p90-ns":1100,"p99-ns":1100,"p999-ns":1100,"max-ns":1500000000},
               "to-guest":{"samples":0,"p50-ns":0,"p90-ns":0,"p99-ns":0,"p999-ns":0,"max-ns":0}},
    "devices":[{"name":"m4","buffers":{"to-remote":256,"in-flight":2,"free":254,"from-remote":256,"held":0},
        "misdirected":1,"malformed":0,"worker-restarts":2,"doorbells-rung":6,
        "vms":[{"name":"a \"b\"","slot":0,"to-remote":{"messages":3,"bytes":15},"to-guest":{"messages":3,"bytes":15},
            "subscriptions":0,"time-outs":0,"dropped":{"not-allowed":7},
            "services":[{"name":"raw","address":1024,"to-remote":{"messages":3,"bytes":15},
                         "to-guest":{"messages":2,"bytes":14},"dropped":7}],
            "share":256,"held":0,"waiting-share":255,"waiting":0,"stalls":1,"stalled-ns":2500000000}]}]}]}"#;

fn served() -> (TcpStream, Metrics) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let metrics = Metrics::start(listener.into(), || serde_json::from_str(STATS).unwrap()).unwrap();
    (TcpStream::connect(address).unwrap(), metrics)
}

fn answer(request: &[u8]) -> String {
    let (mut client, _metrics) = served();
    client.write_all(request).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_scrape_gets_every_figure() {
    let text = answer(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    let of = "remote=\"m4\",device=\"m4\",vm=\"a \\\"b\\\"\"";
    for line in [
        format!("rpmsg_messages_total{{{of},service=\"raw\",address=\"0x400\",direction=\"to-remote\"}} 3"),
        format!(
            "rpmsg_payload_bytes_total{{{of},service=\"raw\",address=\"0x400\",direction=\"to-guest\"}} 14"
        ),
        format!("rpmsg_dropped_total{{{of},reason=\"not-allowed\"}} 7"),
        format!("rpmsg_stalled_seconds_total{{{of}}} 2.5"),
        format!("rpmsg_vm_buffers{{{of},what=\"share\"}} 256"),
        "rpmsg_buffers{remote=\"m4\",device=\"m4\",direction=\"to-remote\",state=\"in-flight\"} 2".to_owned(),
        "rpmsg_misdirected_total{remote=\"m4\",device=\"m4\"} 1".to_owned(),
        "rpmsg_worker_restarts_total{remote=\"m4\",device=\"m4\"} 2".to_owned(),
        "rpmsg_doorbells_total{remote=\"m4\",direction=\"heard\"} 4".to_owned(),
        "rpmsg_batch_seconds{remote=\"m4\",direction=\"to-remote\",quantile=\"1\"} 1.5".to_owned(),
        "rpmsg_remote_state{remote=\"m4\",state=\"running\"} 1".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(body.lines().any(|found| found == line), "expected {line}, found\n{body}");
    }
}

#[test]
fn anything_else_is_refused() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("GET /metrics\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "400"),
        ("\r\n\r\n", "400"),
    ] {
        assert!(answer(request.as_bytes()).starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}");
    }
}

#[test]
fn a_client_that_says_too_much_or_nothing_does_not_keep_the_next_from_its_figures() {
    let (mut endless, _metrics) = served();
    let address = endless.peer_addr().unwrap();
    // It may be cut off before it has said all of it.
    let _ = endless.write_all(&vec![b'x'; 4 * MAX_REQUEST]);
    let _silent = TcpStream::connect(address).unwrap();
    let mut next = TcpStream::connect(address).unwrap();
    next.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    next.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}
