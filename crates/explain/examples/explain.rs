//! Prints the records of a capture as JSON lines: the library without the program.
//!
//! ```console
//! $ cargo run -p lastack-explain --example explain -- capture.pcap
//! ```

use lastack_explain::read::{Capture, Merge};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Options};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut captures = Vec::new();
    for (place, name) in std::env::args_os().skip(1).enumerate() {
        captures.push(Capture::open(Path::new(&name), place as u16)?);
    }
    let mut input = Merge::new(captures);
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
        input.stated().iter().for_each(|end| explainer.state(end));
    }
    input.stated().iter().for_each(|end| explainer.state(end));
    explainer.finish();
    let files: Vec<_> = input.facts().map(|facts| facts.name.clone()).collect();
    let digits = input.facts().map(|facts| facts.digits).max().unwrap_or(6);
    let writer = Writer { files, digits, ..Writer::default() };
    let ready: Vec<_> = explainer.ready().collect();
    for explained in &ready {
        println!("{}", serde_json::to_string(&writer.connection(explained, &[]))?);
    }
    for error in explainer.icmp_errors() {
        println!("{}", serde_json::to_string(&writer.icmp_error(error))?);
    }
    for flow in explainer.flows() {
        println!("{}", serde_json::to_string(&writer.flow(flow))?);
    }
    println!("{}", serde_json::to_string(&writer.summary(explainer.summary(), Vec::new()))?);
    Ok(())
}
