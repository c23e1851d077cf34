//! The program.

#[allow(dead_code, unused_imports, reason = "the subcommands that launch a guest come next")]
mod namespace;

fn main() {
    namespace::intercept();
}
