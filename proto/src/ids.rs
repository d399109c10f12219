//! Names of things. Newtypes, so that a job is never mistaken for a task.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A job, numbered by the server in order of arrival. Shown as `j17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// One call of a function within a job, numbered in order of creation. Shown as `j17.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub job: JobId,
    pub index: u32,
}

/// A number that rises with every lease the server ever grants. Whoever holds the highest one for a task
/// holds the task; a message with a lower one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// A worker, by the name its operator gave it (host name by default). The same name after a restart is the
/// same worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerName(pub Arc<str>);

/// A text that should have been an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what} id (expected {expected})")]
pub struct BadId {
    pub text: String,
    pub what: &'static str,
    pub expected: &'static str,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{}", self.0)
    }
}

impl FromStr for JobId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = text.strip_prefix('j').unwrap_or(text);
        digits.parse().map(JobId).map_err(|_| BadId { text: text.into(), what: "job", expected: "j17" })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.into(), what: "task", expected: "j17.3" };
        let (job, index) = text.split_once('.').ok_or_else(bad)?;
        Ok(TaskId { job: job.parse().map_err(|_| bad())?, index: index.parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for WorkerName {
    fn from(name: &str) -> Self {
        WorkerName(name.into())
    }
}

impl From<String> for WorkerName {
    fn from(name: String) -> Self {
        WorkerName(name.into())
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(JobId, TaskId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let task = TaskId { job: JobId(17), index: 3 };
        assert_eq!(task.to_string(), "j17.3");
        assert_eq!("j17.3".parse(), Ok(task));
        assert_eq!("17".parse(), Ok(JobId(17)));
        assert!("j".parse::<JobId>().is_err());
        assert!("j17".parse::<TaskId>().is_err());
    }
}
