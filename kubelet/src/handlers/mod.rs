//! What is done to running containers as their specs ask: probes, and hooks after the start and before the stop
//! (upstream: pkg/kubelet/prober, pkg/kubelet/lifecycle and pkg/probe).

mod grpc_action;
pub(crate) mod hooks;
pub(crate) mod http_action;
pub(crate) mod probes;
