# The commands of this project; `just` lists them. Each is one line, to be run without just as well.

# everything that must hold on main (as root for the tests that need a TUN device)
ci:
    .ci/run

# formatting and lints
lint:
    cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

# the tests that need no privilege
test:
    cargo test --workspace

# all tests, those that need root, /dev/net/tun or tools too
test-all:
    cargo test --workspace --lib --bins --tests --examples -- --include-ignored

# write the generated pages of docs/ again
docs:
    UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue --test counters --test info
    UPDATE_DOCS=1 cargo test -p lastack --test tokio_parity

# the library's documentation, as a book that begins at lastack::docs::start
book:
    cargo doc -p lastack --all-features --no-deps --open

# play the random simulation
simulate seeds="100000":
    cargo run --release -p lastack-sim -- --seeds {{seeds}}

# fuzz each target for some seconds
fuzz seconds="60":
    .ci/fuzz run {{seconds}}

# measure `run` and a stack behind a TUN device beside other programs (root; minutes)
performance *arguments:
    .ci/performance {{arguments}}

# break the code on purpose and see that the tests notice
mutations:
    .ci/mutations

# every crate as it would be published
packages:
    .ci/packages

# a Debian package
deb:
    .ci/deb

# unused dependencies, licences, advisories, the oldest versions of dependencies
dependencies:
    .ci/dependencies

# public items without an example; links and paths that lead nowhere
documentation:
    .ci/doc-examples; .ci/links

# the public interface beside docs/api: what was removed or changed
api *arguments:
    .ci/api {{arguments}}

# the oldest compiler, other systems
portability:
    .ci/msrv && .ci/targets
