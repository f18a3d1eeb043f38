//! What Kubernetes means by its words: when a pod is ready, what it requests, which nodes a selector chooses, what a
//! quantity is (upstream: k8s.io/component-helpers and apimachinery's resource, intstr and labels).
//!
//! Invariant: pure. No I/O, no clock, no client; whoever asks brings the objects and the time.
//!
//! A new fact: does more than one component need it, or could one? Then it is written here, once, in the module of the
//! object that it is about, with its tests; components call it. What only the API server knows of an object (defaults,
//! rules, texts of refusals) belongs to `api::kinds`.
#![forbid(unsafe_code)]

pub mod amounts;
pub mod cidr;
pub mod conditions;
pub mod endpoints;
pub mod held_lease;
pub mod int_or_percent;
pub mod labels;
pub mod nodes;
pub mod owners;
pub mod pods;
pub mod quantity;
pub mod quoted;
pub mod ranges;
