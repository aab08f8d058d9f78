use super::*;
use crate::crash;
use crate::remote::memory::Access;
use crate::remote::memory::testing::carveouts;

fn memory() -> CarveoutSlice {
    carveouts(1 << 20, 0, Access::Normal).slice(0, 1 << 20, 8).unwrap()
}

fn found(memory: &CarveoutSlice) -> Option<(Vec<u8>, Vec<u32>)> {
    Area::open(memory.clone()).1.map(|found| (found.snapshot, found.log))
}

#[test]
fn what_is_appended_counts_once_it_is_committed() {
    let memory = memory();
    let (mut area, nothing) = Area::open(memory.clone());
    assert!(nothing.is_none());
    area.save(b"abc").unwrap();
    assert!(area.append(1) && area.append(2));
    assert_eq!(found(&memory), Some((b"abc".to_vec(), vec![])));
    area.commit();
    area.append(3);
    assert_eq!(found(&memory), Some((b"abc".to_vec(), vec![1, 2])));
    area.save(b"").unwrap();
    assert_eq!(found(&memory), Some((vec![], vec![])));
}

#[test]
fn a_log_that_is_full_says_so_and_a_snapshot_that_is_too_large_is_refused() {
    let memory = memory();
    let (mut area, _) = Area::open(memory.clone());
    area.save(&[7; 10]).unwrap();
    let words = (0..).take_while(|word| area.append(*word)).count();
    assert_eq!(words, SHORT_LOG / 4);
    area.commit();
    let error = area.save(&vec![0; 1 << 19]).unwrap_err();
    assert_eq!(found(&memory).unwrap().1.len(), words, "the last one still counts: {error}");
}

#[test]
fn killed_at_any_store_it_has_what_was_saved_last_or_what_is_being_saved() {
    for kill_at in 0..40 {
        let memory = memory();
        let (mut area, _) = Area::open(memory.clone());
        area.save(b"first").unwrap();
        area.append(1);
        area.commit();
        let mut points = 0;
        let hook = move || {
            if points == kill_at {
                crash::kill();
            }
            points += 1;
        };
        let survived = crash::during(hook, || {
            area.append(2);
            area.append(3);
            area.commit();
            area.save(b"second").unwrap();
            area.append(4);
            area.commit();
        });
        let (snapshot, log) = found(&memory).unwrap();
        let expected: [(&[u8], &[u32]); 4] =
            [(b"first", &[1]), (b"first", &[1, 2, 3]), (b"second", &[]), (b"second", &[4])];
        assert!(expected.contains(&(&snapshot[..], &log[..])), "{kill_at}: {snapshot:?} {log:?}");
        assert!(survived.is_none() || log == [4]);
    }
}

#[test]
fn a_damaged_area_is_as_good_as_none() {
    for (at, value) in [(0, 0), (8, 9), (12, 2), (16, 3), (20, u32::MAX), (20, 2)] {
        let memory = memory();
        let (mut area, _) = Area::open(memory.clone());
        area.save(b"first").unwrap();
        memory.write_u32(at, value);
        if at != 16 {
            assert_eq!(found(&memory), None, "{at} {value}");
        }
    }
}
