use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Barrier;
use std::sync::mpsc::Receiver;
use std::thread::{JoinHandle, spawn};

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::keeper::calls::{Answer, Order, Reply, Request, ToKeeper, ToWorker};

type Served = JoinHandle<Result<(), ChannelError>>;

/// A keeper that answers by `handle`, and a worker that says that it is there. Both end when the worker's end is closed.
fn joined(
    handle: impl Fn(Request, Vec<OwnedFd>) -> Outcome<Reply> + Send + Sync + 'static,
) -> (Arc<ToKeeper>, Arc<ToWorker>, [Served; 2]) {
    let (keeper, worker) = pair().unwrap();
    let (keeper, worker) = (ToWorker::new(keeper), ToKeeper::new(worker));
    let (at_keeper, at_worker) = (Arc::clone(&keeper), Arc::clone(&worker));
    let served = [
        spawn(move || at_keeper.serve(handle)),
        spawn(move || at_worker.serve(|_, _| Ok((Answer::Done, Vec::new())))),
    ];
    (worker, keeper, served)
}

fn end(worker: &ToKeeper, served: [Served; 2]) {
    worker.close();
    for served in served {
        served.join().unwrap().unwrap();
    }
}

fn removal(name: &str) -> Request {
    Request::RemoveVm { name: name.to_owned() }
}

#[test]
fn calls_go_both_ways_with_descriptors() {
    let (worker, keeper, served) = joined(|request, _| {
        assert_eq!(request, Request::State { remote: "core".to_owned() });
        let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(b"kept").unwrap();
        Ok((Reply::Done, vec![file.into()]))
    });

    let fd = worker.request(&Request::State { remote: "core".to_owned() }).unwrap();
    assert_eq!(keeper.call(&Order::Ping, &[]).unwrap().0, Answer::Done);

    let mut text = String::new();
    let mut file = File::from(fd.unwrap());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept");
    end(&worker, served);
}

#[test]
fn a_slow_call_keeps_no_other_waiting() {
    let (go_on, wait): (_, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let (worker, _keeper, served) = joined(move |request, _| {
        if request == Request::Upgrade {
            wait.lock().unwrap().recv().unwrap();
        }
        Ok((Reply::Done, Vec::new()))
    });
    let slow = spawn({
        let worker = Arc::clone(&worker);
        move || worker.request(&Request::Upgrade).unwrap().is_none()
    });

    for _ in 0..100 {
        assert!(worker.request(&Request::Serving).unwrap().is_none());
    }
    assert!(!slow.is_finished());
    go_on.send(()).unwrap();
    assert!(slow.join().unwrap());
    end(&worker, served);
}

#[test]
fn calls_from_many_threads_get_their_own_replies() {
    let (worker, _keeper, served) = joined(|request, _| match request {
        Request::RemoveVm { name } => Err(Failure::new(name)),
        _ => Ok((Reply::Done, Vec::new())),
    });
    let all_at_once = Arc::new(Barrier::new(8));
    let threads = (0..8).map(|thread| {
        let (worker, all_at_once) = (Arc::clone(&worker), Arc::clone(&all_at_once));
        spawn(move || {
            all_at_once.wait();
            for round in 0..100 {
                let name = format!("{thread}/{round}");
                let error = worker.request(&removal(&name)).unwrap_err();
                assert_eq!(error.to_string(), name);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    end(&worker, served);
}

#[test]
fn a_failure_says_what_caused_it_and_what_the_system_said() {
    let (worker, _keeper, served) = joined(|_, _| {
        let error = File::open("/no/such/file").map_err(CallError::Send).unwrap_err();
        Err(Failure::of(&error))
    });
    let CallError::Failed(failure) = worker.request(&Request::Serving).unwrap_err() else {
        panic!("a failure")
    };
    assert_eq!(failure.errno, Some(2));
    assert!(failure.message.contains("No such file"), "{failure}");
    end(&worker, served);
}

#[test]
fn calls_under_way_come_to_nothing_when_the_other_side_is_gone() {
    let (started, wait): (_, Receiver<()>) = channel();
    let (go_on, held): (_, Receiver<()>) = channel();
    let held = Mutex::new(held);
    let (worker, keeper, served) = joined(move |_, _| {
        started.send(()).unwrap();
        let _ended = held.lock().unwrap().recv();
        Ok((Reply::Done, Vec::new()))
    });
    let call = spawn({
        let worker = Arc::clone(&worker);
        move || worker.request(&Request::Serving)
    });
    wait.recv().unwrap();
    keeper.close();
    assert!(matches!(call.join().unwrap(), Err(CallError::Gone)));
    assert!(matches!(worker.request(&Request::Serving), Err(CallError::Gone)));
    drop(go_on);
    end(&worker, served);
}

#[test]
fn more_calls_than_are_carried_out_at_a_time_are_refused() {
    let (go_on, held): (_, Receiver<()>) = channel();
    let held = Mutex::new(held);
    let (worker, _keeper, served) = joined(move |_, _| {
        let _ended = held.lock().unwrap().recv();
        Ok((Reply::Done, Vec::new()))
    });
    let calls: Vec<_> = (0..=MAX_CALLS)
        .map(|_| {
            let worker = Arc::clone(&worker);
            spawn(move || worker.request(&Request::Serving))
        })
        .collect();
    while calls.iter().all(|call| !call.is_finished()) {
        std::thread::yield_now();
    }
    drop(go_on);
    let outcomes: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.clone().all(|error| error.to_string().contains("at most 64 calls")));
    assert_eq!(refused.count(), 1);
    end(&worker, served);
}

#[test]
fn what_makes_no_sense_ends_the_channel() {
    for nonsense in [&b"{}"[..], b"\xFF", b"{\"call\":{\"id\":1,\"call\":\"no-such-call\"}}"] {
        let (keeper, worker) = pair().unwrap();
        let keeper = ToWorker::new(keeper);
        wire::send(&worker, nonsense, &[]).unwrap();
        let ended = keeper.serve(|_, _| Ok((Reply::Done, Vec::new())));
        assert!(matches!(ended, Err(ChannelError::Words(_))), "{ended:?}");
        assert!(matches!(keeper.call(&Order::Ping, &[]), Err(CallError::Gone)));
    }
}
