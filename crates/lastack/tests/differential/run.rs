//! Plays scenarios, many at once.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    engine::Engine,
    linux::Linux,
    namespace::{self, KERNEL, Network, ROUTER},
    packets::Ends,
    play::{Subject, Transcript, play},
    record::{self, Record},
    scenarios::{self, Family, Layer, Scenario, Settings},
    sockets::Sockets,
};

/// What was seen in a scenario, over an IP version.
pub type Played = BTreeMap<(String, Family), Transcript>;

/// Scenarios that are played at the same time. They mostly wait.
const AT_ONCE: usize = 48;
/// Namespaces that are there at the same time, besides.
const NAMESPACES: usize = 8;
/// How often a scenario is played again if a busy machine may have disturbed it.
const TRIES: usize = 6;

/// A scenario over an IP version, and the place of its addresses and ports.
#[derive(Clone, Debug)]
struct Case {
    scenario: Scenario,
    family: Family,
    place: u16,
}

impl Case {
    fn key(&self) -> (String, Family) {
        (self.scenario.name.clone(), self.family)
    }

    fn ends(&self) -> Ends {
        let place = self.place;
        let v6 = self.family == Family::V6;
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let peer = if v6 {
            format!("fd09::1:{place:x}")
        } else {
            format!("10.9.{}.{}", 1 + place / 200, 2 + place % 200)
        };
        Ends {
            local: SocketAddr::new(parse(KERNEL[usize::from(v6)].0), 10_000 + place),
            peer: parse(&peer),
            router: parse(ROUTER[usize::from(v6)]),
            first_port: 32_000 + Ends::PORTS * place,
        }
    }

    fn play(&self, subject: &mut dyn Subject) -> Transcript {
        play(&self.scenario.steps, &self.ends(), subject)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for scenario in scenarios::all() {
        for &family in scenario.families {
            cases.push(Case { scenario: scenario.clone(), family, place: cases.len() as u16 });
        }
    }
    cases
}

/// What the sockets do in a scenario, and how their connection ended, if it has and there still is one.
pub fn on_sockets(scenario: &Scenario, family: Family) -> (Transcript, Option<String>) {
    let case = Case { scenario: scenario.clone(), family, place: 0 };
    let mut sockets = Sockets::new(case.ends(), scenario.settings);
    (case.play(&mut sockets), sockets.end())
}

/// The release of the kernel, without what its builder added.
pub fn kernel_release() -> String {
    let name = nix::sys::utsname::uname().unwrap();
    let release = name.release().to_string_lossy();
    release.split(['-', '+']).next().unwrap_or_default().to_owned()
}

/// What the engine and the sockets do.
pub fn all_on_engine() -> Played {
    let play = |case: &Case| match case.scenario.layer {
        Layer::Engine => case.play(&mut Engine::new(case.ends(), case.scenario.settings)),
        Layer::Sockets => case.play(&mut Sockets::new(case.ends(), case.scenario.settings)),
    };
    cases().iter().map(|case| (case.key(), play(case))).collect()
}

/// What the kernel does, as it does it twice.
///
/// # Errors
///
/// Why it cannot be asked.
pub fn all_on_linux() -> Result<Played, String> {
    let mut played = on_linux(&cases())?;
    let mut open = cases();
    for _ in 0..TRIES {
        let again = on_linux(&open)?;
        open.retain(|case| played[&case.key()] != again[&case.key()]);
        if open.is_empty() {
            return Ok(played);
        }
        played.extend(again);
    }
    let names: Vec<_> = open.iter().map(Case::key).collect();
    panic!("Linux does something else each time: {names:?}");
}

/// Where the kernel does not do what is recorded.
///
/// # Errors
///
/// Why it cannot be asked.
pub fn differences_from(record: &Record) -> Result<Vec<String>, String> {
    let mut open = cases();
    let mut differences = Vec::new();
    for _ in 0..TRIES {
        let played = on_linux(&open)?;
        let recorded = |case: &Case| record.of(&case.scenario.name, case.family);
        open.retain(|case| recorded(case) != Some(&played[&case.key()]));
        let differing = |case: &Case| {
            let recorded = recorded(case).map_or(&[][..], Vec::as_slice);
            let difference = record::difference(("recorded", recorded), ("now", &played[&case.key()]));
            format!("{}, {}\n{difference}", case.scenario.name, case.family)
        };
        differences = open.iter().map(differing).collect();
        if open.is_empty() {
            break;
        }
    }
    Ok(differences)
}

fn on_linux(cases: &[Case]) -> Result<Played, String> {
    let mut played = Played::new();
    for settings in Settings::ALL {
        let fits = |case: &&Case| case.scenario.settings == settings && !case.scenario.alone;
        let mut cases: Vec<&Case> = cases.iter().filter(fits).collect();
        // What takes long begins first.
        let time = |case: &Case| case.scenario.steps.iter().map(|step| step.time).max();
        cases.sort_by_key(|case| std::cmp::Reverse(time(case)));
        if !cases.is_empty() {
            played.extend(namespace::within(settings, |network| in_namespace(network, &cases))?);
        }
    }
    let alone: Vec<&Case> = cases.iter().filter(|case| case.scenario.alone).collect();
    for cases in alone.chunks(NAMESPACES) {
        let each =
            |case: &Case| namespace::within(case.scenario.settings, |network| in_namespace(network, &[case]));
        let each = thread::scope(|scope| {
            let running: Vec<_> = cases.iter().map(|case| scope.spawn(|| each(case))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for one in each {
            played.extend(one?);
        }
    }
    Ok(played)
}

fn in_namespace(network: &Network, cases: &[&Case]) -> Played {
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Played::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let transcript = case.play(&mut Linux::new(network, case.ends()));
                    played.lock().unwrap().insert(case.key(), transcript);
                }
            });
        }
    });
    played.into_inner().unwrap()
}
