//! A guest program in user, network and mount namespaces of its own, without root, whose only way out is a device that
//! this process holds.
//!
//! Only a process with one thread may enter a new user namespace. So the launcher starts its own executable again with
//! a hidden first argument; that copy ([`intercept`], called first thing in `main`) enters the namespaces, makes the
//! device, passes its descriptor back over a socket and becomes the guest by `exec`. The socket closes with that exec:
//! its end says that the guest runs.

mod channel;
mod diagnosis;
mod failure;
mod guest;
mod inside;
mod plan;
mod resolv;
mod signals;

pub use failure::{Failure, LaunchError, Step};
pub use guest::{Guest, Launched};
pub use inside::intercept;
pub use plan::{DeviceChoice, Network, Plan};
pub use resolv::resolv_conf;
pub use signals::{Signals, exit_as};
