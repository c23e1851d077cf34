//! The program.

#[allow(dead_code, reason = "the parser of arguments comes next")]
mod lab;
#[allow(dead_code, unused_imports, reason = "the subcommands that launch a guest come next")]
mod namespace;

fn main() {
    namespace::intercept();
}
