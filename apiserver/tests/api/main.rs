//! The API server seen from outside, through its in-memory transport.

mod access;
mod bad_input;
mod client;
mod contract;
mod paging;
mod protobuf;
mod samples;
mod services;
mod watch;
