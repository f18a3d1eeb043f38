//! A `TestCluster` in a test binary that has chosen its allocator: two of them in one binary do not compile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use cluster::TestCluster;

#[global_allocator]
static ALLOCATOR: System = System;

#[tokio::test(flavor = "multi_thread")]
async fn a_test_binary_keeps_its_own_allocator() {
    TestCluster::start().await.unwrap().stop().await.unwrap();
}
