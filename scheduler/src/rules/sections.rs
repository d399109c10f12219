//! What runs sections: for each rule set one, shared by its jobs, so that a rule set that hangs holds up nobody else's. Rules of strangers run in
//! a process of their own; those that come with the server run in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use spool_dialect::{Compiled, Hosted, Sources};
use spool_proto::failure::Failure;
use spool_rules::effect::Effect;
use spool_rules::history::SectionFailure;
use spool_rules::instance::{Ask, Sections};

use super::orders::Orders;
use super::registry::Registry;

/// Of rule sets that were used last, so many are kept.
const KEPT: usize = 16;

/// Whoever has the lock may run sections.
pub(super) type Host = Arc<tokio::sync::Mutex<Runner>>;

#[derive(Debug)]
pub(super) enum Runner {
    Process(Hosted),
    /// Compiled when first needed.
    Here(Sources, Option<Box<Compiled>>),
}

impl Sections for Runner {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        match self {
            Runner::Process(hosted) => hosted.run(ask),
            Runner::Here(_, Some(compiled)) => (&mut &**compiled).run(ask),
            Runner::Here(files, none) => {
                let compiled = Compiled::new(files).map_err(|problems| {
                    let first = problems.first().map_or_else(String::new, ToString::to_string);
                    SectionFailure::new("rules_unreadable", first)
                })?;
                (&mut &**none.insert(Box::new(compiled))).run(ask)
            }
        }
    }
}

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
        let host: Host = Arc::new(tokio::sync::Mutex::new(self.registry.runner(hash)?));
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
    pub(super) runner: &'a mut Runner,
    pub(super) orders: &'a Orders,
}

impl Sections for Judged<'_> {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        let effects = self.runner.run(ask)?;
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
