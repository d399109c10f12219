//! Connections and the messages on them; workers coming and going.

use spool_core::Config;
use spool_core::io::{Incarnation, Input, Report, ToWorker};
use spool_proto::ids::{Fence, TaskId};
use spool_proto::time::Span;

use super::{Event, HEARTBEAT, Link, World};
use crate::worker::Want;

impl World {
    pub(super) fn travel(&mut self, link: usize, up: bool, event: Event) {
        let wild = self.weather.wild && !self.calm;
        if wild && self.rng.percent(3) {
            return;
        }
        let wait = Span(self.rng.within(0..self.weather.latency_ms * 1000 + 1));
        let mut at = self.now + wait;
        if !wild {
            let last = if up { &mut self.links[link].last_up } else { &mut self.links[link].last_down };
            at = at.max(*last);
            *last = at;
        }
        if wild && self.rng.percent(3) {
            let again = match &event {
                Event::Up(link, input) => Event::Up(*link, input.clone()),
                Event::Down(link, message) => Event::Down(*link, message.clone()),
                _ => return,
            };
            self.after_ms(2_000, again);
        }
        self.at(at, event);
    }

    pub(super) fn up(&mut self, link: usize, input: Input) {
        let Link { open, server_life, .. } = self.links[link];
        if open && server_life == self.life {
            self.arrive(input);
        }
    }

    pub(super) fn down(&mut self, link: usize, message: ToWorker) {
        let worker = self.links[link].worker;
        if self.links[link].open && self.workers[worker].link == Some(link) {
            let luck = self.luck();
            let wants = self.workers[worker].receive(self.now, message, &mut self.rng, luck);
            self.grant(worker, wants);
        }
    }

    /// Both ends notice, each in its time.
    pub(super) fn cut(&mut self, link: usize) {
        if !self.links[link].open {
            return;
        }
        self.links[link].open = false;
        self.after_ms(2_000, Event::Closed(link));
        self.after_ms(2_000, Event::Broken(link));
    }

    pub(super) fn closed(&mut self, link: usize) {
        let Link { worker, incarnation, server_life, .. } = self.links[link];
        let superseded = self.links[link + 1..].iter().any(|later| later.worker == worker);
        if server_life == self.life && !superseded {
            self.arrive(Input::Disconnected { worker: self.workers[worker].name.clone(), incarnation });
        }
    }

    pub(super) fn broken(&mut self, link: usize) {
        let worker = self.links[link].worker;
        if self.workers[worker].link == Some(link) {
            self.workers[worker].link = None;
            let patience_ms = if self.rng.percent(10) && !self.calm { 40_000 } else { 2_000 };
            self.after_ms(patience_ms, Event::Connect(worker));
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        let worker = &self.workers[index];
        if !worker.alive || worker.link.is_some() {
            return;
        }
        if !self.server.up {
            return self.after_ms(3_000, Event::Connect(index));
        }
        let (now, incarnation) = (self.now, worker.incarnation);
        // Without word for a lease's length, what it ran is lost, and it knows.
        if now.since(worker.last_word) > Config::default().lease {
            self.workers[index].held.clear();
        }
        self.links.push(Link {
            worker: index,
            incarnation,
            server_life: self.life,
            open: true,
            last_up: now,
            last_down: now,
        });
        let link = self.links.len() - 1;
        self.workers[index].link = Some(link);
        self.workers[index].last_word = now;
        let register = self.workers[index].register();
        self.travel(link, true, Event::Up(link, register));
        if self.weather.wild && !self.calm {
            // Single messages get lost without either end knowing: only comparing notes mends that.
            let lasts = Span::from_millis(self.rng.within(2_000..10_000));
            self.at(now + lasts, Event::Broken(link));
        }
    }

    pub(super) fn heartbeat(&mut self, index: usize) {
        self.at(self.now + HEARTBEAT, Event::Heartbeat(index));
        let worker = &self.workers[index];
        if let (true, Some(link)) = (worker.alive, worker.link) {
            let input = Input::Heartbeat { worker: worker.name.clone(), incarnation: worker.incarnation };
            self.travel(link, true, Event::Up(link, input));
        }
    }

    pub(super) fn grant(&mut self, index: usize, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Report(task, fence, report) => self.say(index, task, fence, report),
                Want::Run(task, fence, run) => {
                    let incarnation = self.workers[index].incarnation;
                    self.at(self.now + run, Event::CallEnds { worker: index, incarnation, task, fence });
                }
                Want::SelfTested(failure) => {
                    let worker = &self.workers[index];
                    if let Some(link) = worker.link {
                        let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
                        let took = self.rng.within(0..5_000);
                        let input = Input::SelfTested { worker, incarnation, failure };
                        self.after_ms(took, Event::Up(link, input));
                    }
                }
                Want::Exit => self.kill(index),
            }
        }
    }

    pub(super) fn say(&mut self, index: usize, task: TaskId, fence: Fence, report: Report) {
        let worker = &self.workers[index];
        if let Some(link) = worker.link {
            let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
            let input = Input::Report { worker, incarnation, task, fence, report };
            self.travel(link, true, Event::Up(link, input));
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        if !self.workers[index].alive {
            return;
        }
        self.note(|| format!("w{index} dies"));
        if let Some(link) = self.workers[index].link {
            self.cut(link);
        }
        self.workers[index].die();
        self.after_ms(30_000, Event::WorkerStarts(index));
    }

    pub(super) fn worker_starts(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if !worker.alive {
            (worker.alive, worker.draining) = (true, false);
            worker.incarnation = Incarnation(worker.incarnation.0 + 1);
            worker.last_word = self.now;
            self.connect(index);
        }
    }
}
