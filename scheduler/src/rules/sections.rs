//! The processes that run sections: one a rule set, shared by its jobs, so that a rule set that hangs holds up nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use spool_dialect::Hosted;
use spool_proto::failure::Failure;
use spool_rules::effect::Effect;
use spool_rules::history::SectionFailure;
use spool_rules::instance::{Ask, Sections};

use super::orders::Orders;
use super::registry::Registry;

/// Processes that are kept, of rule sets that were used last.
const KEPT: usize = 16;

/// Whoever has the lock has the process.
pub(super) type Host = Arc<tokio::sync::Mutex<Hosted>>;

#[derive(Debug)]
pub(super) struct Hosts {
    registry: Arc<Registry>,
    hosts: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    uses: u64,
    by_hash: HashMap<String, (u64, Host)>,
}

impl Hosts {
    pub(super) fn new(registry: Arc<Registry>) -> Hosts {
        Hosts { registry, hosts: Mutex::default() }
    }

    pub(super) fn of(&self, hash: &str) -> Result<Host, Failure> {
        let mut pool = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        pool.uses += 1;
        let now = pool.uses;
        if let Some((used, host)) = pool.by_hash.get_mut(hash) {
            *used = now;
            return Ok(host.clone());
        }
        let host: Host = Arc::new(tokio::sync::Mutex::new(self.registry.host(hash)?));
        pool.by_hash.insert(hash.to_owned(), (now, host.clone()));
        let is_idle = |host: &Host| Arc::strong_count(host) == 1;
        while pool.by_hash.len() > KEPT {
            let idle = pool.by_hash.iter().filter(|(_, (_, host))| is_idle(host));
            let Some(oldest) = idle.min_by_key(|(_, (used, _))| *used).map(|(hash, _)| hash.clone()) else { break };
            pool.by_hash.remove(&oldest);
        }
        Ok(host)
    }
}

/// A job's sections, whose calls are judged before they count: a section that calls what is not there has not answered.
pub(super) struct Judged<'a> {
    pub(super) hosted: &'a mut Hosted,
    pub(super) orders: &'a Orders,
}

impl Sections for Judged<'_> {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        let effects = self.hosted.run(ask)?;
        for effect in &effects {
            if let Effect::Call(call) = effect {
                self.orders.judge(call)?;
                if let Some(undo) = &call.undo {
                    self.orders.judge(undo)?;
                }
            }
        }
        Ok(effects)
    }
}
