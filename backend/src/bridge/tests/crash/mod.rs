//! Killed between any two stores to shared memory, again and again, with everybody else going on: nothing is lost, doubled
//! or reordered.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the trials, and what they have to come to |
//! | `world` | guests and remote core, which go on at any time, and what they check |
//! | `program` | the program that is killed, and comes back |

mod program;
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use self::program::Program;
use self::world::{Habit, World};
use crate::crash;

/// What came of a trial.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    kills: u64,
    /// Kills while the program was still coming back from the last one.
    early: u64,
    messages: u64,
    /// Drivers that came up anew.
    resets: u64,
    /// Messages lost, doubled, in another order, or somebody else's.
    wrong: u64,
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.kills += other.kills;
        self.early += other.early;
        self.messages += other.messages;
        self.resets += other.resets;
        self.wrong += other.wrong;
    }
}

/// Numbers that look as if they were drawn (xorshift64*).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// One trial: so many kills, then everything that is under way has to arrive.
fn trial(seed: u64, habit: Habit, kills: u64) -> Outcome {
    let mut dice = Dice::new(seed);
    let world = Rc::new(RefCell::new(World::new(seed, habit)));
    let mut program: Option<Program> = None;
    let mut outcome = Outcome::default();
    let mut settled = 0;
    while outcome.kills < kills {
        // Most are killed soon, some within the first stores of their coming back, a few get far.
        let left = Rc::new(Cell::new(match dice.below(4) {
            0 => dice.below(40),
            1 => dice.below(150),
            _ => dice.below(1500),
        }));
        let was_back = Cell::new(program.is_some());
        let (others, left) = (Rc::clone(&world), Rc::clone(&left));
        let hook = move || {
            others.borrow_mut().at_a_point();
            if left.get() == 0 {
                crash::kill();
            }
            left.set(left.get() - 1);
        };
        let survived = crash::during(hook, || {
            loop {
                let program = program.get_or_insert_with(|| Program::start(&world));
                was_back.set(true);
                program.turn(&world);
                world.borrow_mut().between_turns();
                if world.borrow().is_broken() {
                    return;
                }
            }
        });
        if survived.is_some() {
            break;
        }
        outcome.kills += 1;
        outcome.early += u64::from(!was_back.get());
        // All that was private is lost.
        program = None;
        settled += 1;
        if settled % 64 == 0 {
            let mut program = Program::start(&world);
            program.turn(&world);
            program.check_journal(&world);
            drop(program);
        }
    }
    let mut program = Program::start(&world);
    world.borrow_mut().stop_asking();
    let (mut seen, mut idle) = (0, 0);
    while world.borrow_mut().go_on() && idle < 100 {
        program.turn(&world);
        let now = world.borrow().messages();
        idle = if seen == now { idle + 1 } else { 0 };
        seen = now;
    }
    program.check_journal(&world);
    // Every driver has been there all the time, and so has the remote: nothing was sent that was not taken.
    if matches!(habit, Habit::Orderly | Habit::Shuffling) && !crash::commits_late() {
        assert_eq!(program.counted(&world), world.borrow().passed, "seed {seed}, {habit:?}: counted");
    }
    let world = world.borrow();
    outcome.messages = world.messages();
    outcome.wrong = world.wrong();
    outcome.resets = world.resets();
    outcome
}

fn trials(seeds: std::ops::Range<u64>, kills: u64) -> Outcome {
    let mut sum = Outcome::default();
    for seed in seeds {
        let habit = Habit::ALL[usize::try_from(seed).unwrap() % Habit::ALL.len()];
        let outcome = trial(seed, habit, kills);
        assert_eq!(outcome.wrong, 0, "seed {seed}, {habit:?}: {outcome:?}");
        sum.add(outcome);
    }
    sum
}

#[test]
fn killed_between_any_two_stores_nothing_is_lost_doubled_or_reordered() {
    let sum = trials(0..24, 100);
    assert!(sum.messages > 10_000 && sum.early > 50 && sum.resets > 20, "{sum:?}");
}

#[test]
fn a_program_that_commits_after_it_has_published_does_not_pass_this_test() {
    let wrong =
        crash::committing_late(|| (0..8).map(|seed| trial(seed, Habit::Orderly, 100).wrong).sum::<u64>());
    assert!(wrong > 0, "the trials can fail");
}

/// As many kills as the variable `KILLS` says, for `ci/crash`.
#[test]
#[ignore = "takes as long as it is told"]
fn killed_as_often_as_told() {
    let wanted: u64 = std::env::var("KILLS").map_or(100_000, |text| text.parse().expect("a number"));
    let each = wanted.div_ceil(Habit::ALL.len() as u64);
    println!(
        "{:<14}{:>9}{:>18}{:>10}{:>12}{:>8}",
        "remote, VMs", "kills", "while coming back", "resets", "messages", "wrong"
    );
    let show = |name: &str, outcome: &Outcome| {
        let Outcome { kills, early, messages, resets, wrong } = outcome;
        println!("{name:<14}{kills:>9}{early:>18}{resets:>10}{messages:>12}{wrong:>8}");
    };
    let mut total = Outcome::default();
    for (habit, first) in Habit::ALL.into_iter().zip((0..).step_by(1 << 20)) {
        let mut sum = Outcome::default();
        let trials = (first..).map(|seed| trial(seed, habit, 500));
        for outcome in trials {
            sum.add(outcome);
            if sum.kills >= each {
                break;
            }
        }
        show(&format!("{habit:?}").to_lowercase(), &sum);
        total.add(sum);
    }
    show("all", &total);
    let mut late = Outcome::default();
    crash::committing_late(|| (0..20).for_each(|seed| late.add(trial(seed, Habit::Orderly, 100))));
    show("commits late", &late);
    assert!(total.wrong == 0 && late.wrong > 0);
}
