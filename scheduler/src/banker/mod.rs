//! The banker's check: is a pod let in only if everybody who was let in can still finish? (E. W. Dijkstra, EWD 108.)
//!
//! A claimant is a pod, or a gang, that says by annotation how much it may come to request at most, and that it ends and
//! gives all back once it has got that. What it holds is what its pods request; what it may still need is the rest of its
//! claim: for a pod on its own node, by a resize; for a gang by further pods, anywhere.
//!
//! What the check cannot see is a pod that grows step by step, since resizes do not pass the scheduler: who grows must do so
//! in one step to what it claims. Room for further pods is counted as a sum, not by how it is split among nodes.

mod books;
mod safety;
#[cfg(test)]
mod tests;

pub use self::books::refusal;
