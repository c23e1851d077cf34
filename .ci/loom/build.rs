fn main() {
    println!("cargo::rustc-cfg=lastack_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
