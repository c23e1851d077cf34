//! Landlock (landlock(7)): the files that lastack still reaches once the program runs. Those that are open stay usable.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};

/// What a run reads later on: processes, the name servers when they change, time zones.
const READ: [&str; 4] = ["/proc", "/etc", "/run", "/usr/share/zoneinfo"];

/// Limits this thread, and those that it starts, to reading there and to writing in these directories. A kernel without
/// Landlock, or with an older version of it, limits less.
///
/// # Errors
/// The kernel has Landlock, and refused.
pub fn restrict(write: &[PathBuf]) -> Result<(), String> {
    let refused = |error: landlock::RulesetError| error.to_string();
    let version = ABI::V5;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(version))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    let resolvers = Path::new(crate::host::resolvers::RESOLV_CONF).canonicalize().ok();
    let resolvers = resolvers.as_deref().and_then(Path::parent).map(Path::to_owned);
    let read = READ.iter().map(PathBuf::from).chain(resolvers);
    // The program itself: for the names of functions in the report of a failure.
    let read = read.chain(std::env::current_exe().ok()).map(|path| (path, AccessFs::from_read(version)));
    let null = (PathBuf::from("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile);
    let write = write.iter().map(|path| (path.clone(), AccessFs::from_all(version)));
    for (path, access) in read.chain([null]).chain(write) {
        // What does not exist needs no rule.
        let Ok(fd) = PathFd::new(&path) else { continue };
        // Only directories have the accesses to directories, and nothing is executed.
        let access = access & !AccessFs::Execute;
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(version) };
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refused)?;
    }
    rules.restrict_self().map(|_status| ()).map_err(refused)
}
