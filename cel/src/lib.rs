//! The Common Expression Language as Kubernetes speaks it: parse, check types, estimate and limit cost, evaluate.
//!
//! Pure: values in, value or error out; nothing here knows a Kubernetes object, a clock or a network.
