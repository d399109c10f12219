//! An executor's stderr: always drained, its tail kept as evidence.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

/// Bytes kept.
const TAIL: usize = 8 << 10;
/// For the last words of a dead process to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Stderr {
    tail: Arc<Mutex<VecDeque<u8>>>,
    drain: JoinHandle<()>,
}

impl Stderr {
    /// Reads until the process closes it.
    pub fn drain(stderr: Option<ChildStderr>, pid: u32) -> Stderr {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        let drain = tokio::spawn(async move {
            let Some(mut stderr) = stderr else { return };
            let mut buffer = vec![0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                let text = &buffer[..read];
                for line in String::from_utf8_lossy(text).lines() {
                    tracing::debug!(target: "spool::executor", pid, "{line}");
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(text);
                let over = kept.len().saturating_sub(TAIL);
                kept.drain(..over);
            }
        });
        Stderr { tail, drain }
    }

    /// A new call begins: what was said before is not about it.
    pub fn forget(&self) {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for what a dead process left in the pipe.
    pub async fn finish(&mut self) {
        drop(tokio::time::timeout(LAST_WORDS, &mut self.drain).await);
    }

    pub fn tail(&self) -> String {
        let kept = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).trim_end().to_owned()
    }
}
