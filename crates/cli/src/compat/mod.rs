//! The command lines of slirp4netns and pasta, as container tools write them, translated into that of `lastack run`.
//!
//! Those tools take the path of a program and pass it a fixed command line, so the name under which lastack is started
//! selects the command line: link `slirp4netns` or `pasta` to it. `lastack slirp4netns` and `lastack pasta` are the same.

mod pasta;
mod slirp4netns;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::run::{self, RunArgs};

pub use pasta::PastaArgs;
pub use slirp4netns::SlirpArgs;

/// More options of `lastack run`, separated by spaces, for tools whose command line cannot be extended.
pub const OPTIONS: &str = "LASTACK_OPTIONS";

/// A command line to translate.
pub trait Translate {
    /// The words of `lastack run`, without the report's.
    fn words(self) -> Result<Vec<OsString>, String>;
}

#[derive(Debug, Parser)]
#[command(name = "lastack run")]
struct Run {
    #[command(flatten)]
    args: RunArgs,
}

/// Carries it out.
pub fn main(args: impl Translate) -> ExitCode {
    let more = std::env::var(OPTIONS).unwrap_or_default();
    let words = match args.words() {
        Ok(words) => words,
        Err(error) => {
            lastack_run::message(format_args!("lastack: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match parse(words, &more) {
        Ok(args) => run::main(args),
        Err(error) => error.exit(),
    }
}

/// Without other wishes nothing is reported: the tool that starts it expects no output.
fn parse(words: Vec<OsString>, more: &str) -> Result<RunArgs, clap::Error> {
    let mut line: Vec<OsString> = vec!["lastack run".into()];
    line.extend(more.split_whitespace().map(OsString::from));
    if line.len() == 1 {
        line.push("--quiet".into());
    }
    line.extend(words);
    Ok(Run::try_parse_from(line)?.args)
}

/// If lastack was started under the name of one of these tools: its exit status.
pub fn by_name(name: Option<&OsStr>) -> Option<ExitCode> {
    match Path::new(name?).file_name()?.to_str()? {
        "slirp4netns" => Some(main(SlirpArgs::parse())),
        "pasta" => Some(main(PastaArgs::parse())),
        _ => None,
    }
}

/// Appends an option and its value.
fn option(line: &mut Vec<OsString>, name: &str, value: impl AsRef<OsStr>) {
    line.extend([OsString::from(name), value.as_ref().to_owned()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The translation of a command line, as text, after it has passed the parser of `lastack run`.
    fn translated<T: Translate + Parser>(text: &str) -> Result<String, String> {
        let args = T::try_parse_from(text.split_whitespace()).map_err(|error| error.to_string())?;
        let words = args.words()?;
        parse(words.clone(), "-v --json").map_err(|error| error.to_string())?;
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn slirp4netns_as_podman_starts_it() {
        let line = "slirp4netns --disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 \
                    -c -r 3 -e 4 --netns-type=path /run/netns/x tap0";
        assert_eq!(
            translated::<SlirpArgs>(line).unwrap(),
            "--join /run/netns/x --device tap --interface tap0 --mtu 65520 --net 10.0.2.0/24 --net6 fd00::/64 \
             --ready-fd 3 --exit-fd 4"
        );
    }

    #[test]
    fn slirp4netns_as_rootlesskit_starts_it() {
        let line =
            "slirp4netns --mtu 1500 -r 3 --cidr 10.9.0.0/24 --api-socket /tmp/s --enable-sandbox 1234 tap0";
        assert_eq!(
            translated::<SlirpArgs>(line).unwrap(),
            "--join 1234 --device tap --interface tap0 --mtu 1500 --net 10.9.0.0/24 --no-configure -4 --host-loopback \
             --ready-fd 3 --api-socket /tmp/s"
        );
        let error =
            translated::<SlirpArgs>("slirp4netns --netns-type=path 7 tap0 --target-type=bess").unwrap_err();
        assert!(error.contains("bess"), "{error}");
    }

    #[test]
    fn pasta_as_podman_starts_it() {
        let line = "pasta --config-net --pid /tmp/pid --dns-forward 169.254.1.1 -t 127.0.0.1/8080-8081:80-81 -u none \
                    -T none -U none --no-map-gw --quiet --netns /run/netns/x --map-guest-addr 169.254.1.2";
        assert_eq!(
            translated::<PastaArgs>(line).unwrap(),
            "--join /run/netns/x --detach --pid /tmp/pid --dns-at 169.254.1.1 --host-at 169.254.1.2 \
             -p 127.0.0.1:8080:80 -p 127.0.0.1:8081:81"
        );
    }

    #[test]
    fn pasta_as_rootlesskit_starts_it() {
        let line = "pasta --stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 \
                    --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto \
                    --udp-ports=none 1234";
        assert_eq!(
            translated::<PastaArgs>(line).unwrap(),
            "--join 1234 --interface tap0 --mtu 65520 --detach --net 10.0.2.100/24 --address 10.0.2.100 --gateway \
             10.0.2.2 -4 --dns-at 10.0.2.3 -p 0.0.0.0:auto"
        );
    }

    #[test]
    fn pasta_with_a_program() {
        let line = "pasta --config-net -T 5432 -t none -- psql -h localhost";
        assert_eq!(
            translated::<PastaArgs>(line).unwrap(),
            "--host-loopback --map-localhost 5432 -- psql -h localhost"
        );
        for (line, cure) in [
            ("pasta -t ~22 1234", "ports"),
            ("pasta -U 53 1234", "-U"),
            ("pasta --no-icmp 1234", "--no-icmp is not supported"),
            ("pasta -T 80:81 1234", "under the same number"),
            ("pasta --map-host-loopback 10.9.9.9 1234", "gateway or none"),
            ("pasta -n 255.0.255.0 1234", "255.255.255.0"),
            ("pasta --address=10.0.2.9 --address=10.0.2.8 1234", "--address"),
        ] {
            let error = translated::<PastaArgs>(line).unwrap_err();
            assert!(error.contains(cure), "{line}: {error}");
        }
    }

    #[test]
    fn options_of_pasta_that_change_nothing_here_are_accepted() {
        let line = "pasta -d --runas 0:0 -l /tmp/log --log-size 1000 -M 02:00:00:00:00:01 -i eth0 -S example.org --no-dhcp \
                    --no-ra --no-dhcp-dns --no-copy-routes --map-host-loopback none -D none -n 255.255.0.0 -a 10.9.0.7 \
                    -p /tmp/x.pcap --no-udp -u auto -T 80-82 --outbound-if4 e0 --outbound-if6 e0 1234";
        assert_eq!(
            translated::<PastaArgs>(line).unwrap(),
            "--join 1234 --no-configure --detach --write /tmp/x.pcap --deny all/udp --net 10.9.0.7/16 --address 10.9.0.7 \
             --bind e0 -p 0.0.0.0:auto/udp --map-localhost 80,81,82"
        );
    }

    #[test]
    fn slirp4netns_sends_from_an_address_or_an_interface() {
        let line = "slirp4netns --outbound-addr=192.0.2.1 --outbound-addr6=eth0 7";
        assert!(translated::<SlirpArgs>(line).unwrap().ends_with("--bind 192.0.2.1 --bind eth0"));
        for option in ["--macaddress=02:00:00:00:00:01", "--disable-dns"] {
            let error = translated::<SlirpArgs>(&format!("slirp4netns {option} 7")).unwrap_err();
            assert!(error.contains("is not supported, because"), "{error}");
        }
    }

    #[test]
    fn without_wishes_it_is_quiet() {
        let args = || vec![OsString::from("--join"), OsString::from("1")];
        assert!(parse(args(), "").unwrap().quiet);
        let args = parse(args(), " --json  -o /tmp/report ").unwrap();
        assert!(!args.quiet && args.json && args.output.is_some());
        assert!(by_name(Some(OsStr::new("/usr/bin/lastack"))).is_none());
    }
}
