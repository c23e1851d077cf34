//! TCP in virtual time: two stacks against each other, and one against segments made by hand.

mod abort;
mod cookies;
mod pair;
mod streams;
