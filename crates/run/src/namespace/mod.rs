//! A guest program in its own user, network and mount namespaces, without root, whose only way out is a device that
//! this process holds.
//!
//! Only a process with one thread may enter a new user namespace. Therefore the launcher starts its own executable
//! again with a hidden first argument; that copy ([`intercept`], called first in `main`) enters the namespaces, makes
//! the device and passes its descriptor back over a socket. It leaves a supervisor behind, the first process of a
//! process namespace, which starts the program and reaps all its processes.
//!
//! ```text
//! launcher --+-- maker: user, network, mount namespace; device; ends
//!            +-- supervisor: process namespace, /proc -- program -- ...
//! ```

mod channel;
mod diagnosis;
mod enter;
mod failure;
mod guest;
mod ids;
mod inside;
mod job;
mod join;
mod pair;
mod plan;
mod processes;
mod resolv;
mod signals;
mod sockets;
mod ssh_config;
mod supervisor;
mod sysctls;
mod watchdog;

pub use channel::InnerSocket;
pub use enter::Attendant;
pub use failure::{Failure, LaunchError, Step};
pub use guest::{Guest, Joined, Launched, join};
pub use inside::intercept;
pub use join::Join;
pub use plan::{DeviceChoice, INTERFACE, Identity, Listener, Network, Plan};
pub use processes::Process;
pub use resolv::resolv_conf;
pub use signals::{Signals, exit_as};
