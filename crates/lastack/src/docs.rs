//! The guide: [`start`], [`concepts`], [`recipes`], and how to port [from `tokio::net`](tokio).

#[doc = include_str!("../docs/start.md")]
pub mod start {}

#[doc = include_str!("../docs/concepts.md")]
pub mod concepts {}

#[doc = include_str!("../docs/recipes.md")]
pub mod recipes {}

#[doc = include_str!("../docs/tokio.md")]
pub mod tokio {}
