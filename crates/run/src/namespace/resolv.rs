//! The guest's /etc/resolv.conf: the host's with other name servers, provided by a bind mount in the guest's own mount
//! namespace. The host's file is unchanged.

use std::{
    fs::{self, File},
    io,
    net::IpAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Failure, Step, failure::StepResult};

/// The file that the resolver reads.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The host's resolver configuration with these servers: search list and options stay.
pub fn resolv_conf(servers: &[IpAddr]) -> String {
    rewrite(&fs::read_to_string(RESOLV_CONF).unwrap_or_default(), servers)
}

fn rewrite(host: &str, servers: &[IpAddr]) -> String {
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let kept = host.lines().map(str::trim).filter(|line| {
        let keyword = line.split_whitespace().next();
        matches!(keyword, Some("search" | "domain" | "options" | "sortlist"))
    });
    for line in kept {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Provides `text` at /etc/resolv.conf from now on, in this mount namespace only.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    let path = Path::new(RESOLV_CONF);
    match cover(path, text) {
        Err(failure) if failure.errno == libc::ENOENT => add(path, text),
        other => other,
    }
}

/// Provides `text` at `path`, where there is no file, or a dangling link: the directory is covered by an overlay of
/// itself and a layer in memory, which has the file. The guest's writes to that directory stay in the layer.
fn add(path: &Path, text: &str) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    add_file(directory, path, text)
        .step(Step::ResolvConf, || format!("add {}, which this host does not have", path.display()))
}

fn add_file(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let below = open_path(directory)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("size=16m,mode=0755"))?;
    let uncover = || umount2(directory, MntFlags::MNT_DETACH);
    let shown = union_of(&below, directory).and_then(|()| {
        // If it cannot be written, the directory is restored.
        write_anew(path, text).inspect_err(|_| uncover().unwrap_or_default())
    });
    if shown.is_err() {
        uncover()?;
    }
    shown
}

/// Mounts the overlay of a directory and a new layer over the tmpfs that holds the layer.
fn union_of(below: &File, directory: &Path) -> io::Result<()> {
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let mode = fs::metadata(handle(below))?.permissions();
    fs::set_permissions(&upper, mode)?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        handle(below).display(),
        upper.display(),
        work.display()
    );
    let overlay =
        |options: &str| mount(Some("overlay"), directory, Some("overlay"), MsFlags::MS_NOSUID, Some(options));
    // In a user namespace the overlay may only use user attributes.
    overlay(&format!("{layers},userxattr")).or_else(|_| overlay(&layers))?;
    Ok(())
}

fn write_anew(path: &Path, text: &str) -> io::Result<()> {
    // A dangling link.
    if path.is_symlink() {
        fs::remove_file(path)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Provides `text` at `path`, or at its target if it is a symbolic link: a mount on a link would follow later changes
/// of the link.
pub(super) fn cover(path: &Path, text: &str) -> Result<(), Failure> {
    let target = fs::canonicalize(path).step(Step::ResolvConf, || format!("find {}", path.display()))?;
    cover_file(&target, text)
        .step(Step::ResolvConf, || format!("mount another file over {}", target.display()))
}

/// Later mounts are not visible outside. Call it before [`show`].
pub(super) fn make_mounts_private() -> Result<(), Failure> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .step(Step::ResolvConf, || "make the mounts private".to_owned())
}

/// The file is in a tmpfs that is visible only while it is made: it covers the target's directory, which always exists,
/// and is then unmounted. The bind mount keeps the file alive until the namespace ends.
fn cover_file(target: &Path, text: &str) -> io::Result<()> {
    let directory = target.parent().ok_or(io::ErrorKind::NotFound)?;
    let place = open_path(target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("size=1m,mode=0755"))?;
    let shown = bind_new_file(&directory.join("resolv.conf"), text, &place);
    let uncovered = umount2(directory, MntFlags::MNT_DETACH);
    shown?;
    Ok(uncovered?)
}

fn bind_new_file(path: &Path, text: &str, place: &File) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    let file = open_path(path)?;
    mount(Some(&handle(&file)), &handle(place), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn open_path(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH).open(path)
}

/// A name for an open file that is independent of mounts over its path.
fn handle(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, thread};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn the_target_of_a_link_is_covered_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("resolv.conf"), directory.path().join("run/stub"));
        fs::create_dir(directory.path().join("run")).unwrap();
        fs::write(&file, "the host's").unwrap();
        fs::write(directory.path().join("run/neighbour"), "seen").unwrap();
        symlink("run/stub", &link).unwrap();
        let inside = {
            let (directory, link) = (directory.path().to_owned(), link.clone());
            move || {
                if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
                    panic!("cannot run here: needs root, for a mount namespace: {errno}");
                }
                make_mounts_private().unwrap();
                cover(&link, "the guest's").unwrap();
                assert_eq!(fs::read_to_string(&link).unwrap(), "the guest's");
                assert_eq!(fs::read_to_string(directory.join("run/neighbour")).unwrap(), "seen");
                assert_eq!(fs::read_dir(directory.join("run")).unwrap().count(), 2);
            }
        };
        thread::spawn(inside).join().unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "the host's");
        let missing = cover(&directory.path().join("none"), "").unwrap_err();
        assert_eq!((missing.step, missing.errno), (Step::ResolvConf, libc::ENOENT));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_file_that_is_not_there_is_shown_and_its_neighbours_stay() {
        for dangling in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("resolv.conf");
            fs::write(directory.path().join("neighbour"), "seen").unwrap();
            if dangling {
                symlink("nowhere/stub", &file).unwrap();
            }
            let inside = {
                let (directory, file) = (directory.path().to_owned(), file.clone());
                move || {
                    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
                        panic!("cannot run here: needs root, for a mount namespace: {errno}");
                    }
                    make_mounts_private().unwrap();
                    add(&file, "the guest's").unwrap();
                    assert_eq!(fs::read_to_string(&file).unwrap(), "the guest's");
                    assert_eq!(fs::read_to_string(directory.join("neighbour")).unwrap(), "seen");
                    assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
                }
            };
            thread::spawn(inside).join().unwrap();
            assert!(fs::read_to_string(&file).is_err());
            assert_eq!(file.is_symlink(), dangling);
        }
    }

    #[test]
    fn search_list_and_options_stay() {
        let host = "# made by hand\nnameserver 192.0.2.1\n  search example.org corp.example\noptions edns0 trust-ad\n\n";
        let servers = ["10.0.2.3".parse().unwrap(), "fd00::3".parse().unwrap()];
        let expected = "nameserver 10.0.2.3\nnameserver fd00::3\nsearch example.org corp.example\noptions edns0 trust-ad\n";
        assert_eq!(rewrite(host, &servers), expected);
        assert_eq!(rewrite("", &servers[..1]), "nameserver 10.0.2.3\n");
    }
}
