//! Shared by the test programs.

use std::path::PathBuf;

/// The program `examples/test_worker.rs`, which `cargo test` and `cargo nextest` build with the tests.
pub fn test_worker() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push("test_worker");
    assert!(path.exists(), "{} is not built: cargo build -p spool-worker --examples", path.display());
    path
}
