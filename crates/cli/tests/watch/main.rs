//! `lastack watch` in network namespaces of their own: what it says of ends that are made there on purpose.

mod calls;
mod parts;
mod program;
mod rows;
mod scene;
