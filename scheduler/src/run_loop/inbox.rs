//! What the loop is told and asked, and the handle through which.

use std::fmt;

use spool_core::engine::Engine;
use spool_core::io::{Incarnation, Input, Reply, Token};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{JobId, WorkerName};
use spool_proto::time::Timestamp;
use spool_proto::wire::v1;
use spool_rules::instance::Instance;
use tokio::sync::{mpsc, oneshot, watch};

use crate::rules::{Fired, Look};

/// Messages that may wait for the next turn. Twice what one turn takes: while one turn commits, the next one gathers.
pub(crate) const INBOX: usize = 2 * super::BATCH;

/// What an [`Engine`] is asked between turns.
pub(crate) type Question = Box<dyn FnOnce(&Engine, Timestamp) + Send>;
/// An input that is answered.
pub(crate) type Request = Box<dyn FnOnce(Token) -> Input + Send>;
/// Why it could not be taken.
pub(crate) type Answer = Result<Reply, Failure>;

pub(crate) enum Message {
    Tell(Input),
    Ask {
        request: Request,
        answer: oneshot::Sender<Answer>,
    },
    /// A worker's stream opened; `register` is its first message.
    Attach {
        worker: WorkerName,
        incarnation: Incarnation,
        register: Input,
        orders: mpsc::Sender<v1::ServerMessage>,
    },
    /// The stream ended that `orders` belonged to.
    Detach {
        worker: WorkerName,
        incarnation: Incarnation,
        orders: mpsc::WeakSender<v1::ServerMessage>,
    },
    Query(Question),
    /// What a job's rules decided.
    Fired(Box<Fired>),
    /// A question to a job's rules.
    Look {
        job: JobId,
        look: Look,
    },
    /// Wakes the receiver after every change of the job.
    Watch {
        job: JobId,
        answer: oneshot::Sender<watch::Receiver<()>>,
    },
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Tell(input) => f.debug_tuple("Tell").field(input).finish(),
            Message::Ask { .. } => f.write_str("Ask"),
            Message::Attach { worker, .. } => f.debug_tuple("Attach").field(worker).finish(),
            Message::Detach { worker, .. } => f.debug_tuple("Detach").field(worker).finish(),
            Message::Query(_) => f.write_str("Query"),
            Message::Fired(_) => f.write_str("Fired"),
            Message::Look { job, .. } => f.debug_tuple("Look").field(job).finish(),
            Message::Watch { job, .. } => f.debug_tuple("Watch").field(job).finish(),
        }
    }
}

/// Talks to the loop. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    sender: mpsc::Sender<Message>,
}

impl Inbox {
    pub(crate) fn new() -> (Inbox, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Inbox { sender }, receiver)
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), Failure> {
        self.sender.send(message).await.map_err(|_| stopping())
    }

    /// Hands a request over and waits until its turn is durable.
    pub(crate) async fn ask(&self, request: impl FnOnce(Token) -> Input + Send + 'static) -> Result<Reply, Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask { request: Box::new(request), answer }).await?;
        answered.await.map_err(|_| stopping())?
    }

    /// Asks the engine between two turns.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone: then nobody needs the answer.
        let ask = move |engine: &Engine, now| drop(answer.send(question(engine, now)));
        self.send(Message::Query(Box::new(ask))).await?;
        answered.await.map_err(|_| stopping())
    }

    /// Asks a job's rules between two evaluations.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        job: JobId,
        question: impl FnOnce(&Instance) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone: then nobody needs the answer.
        let look: Look = Box::new(move |instance| drop(answer.send(instance.and_then(question))));
        self.send(Message::Look { job, look }).await?;
        answered.await.map_err(|_| stopping())?
    }

    /// The receiver's sender goes when the server stops.
    pub(crate) async fn watch(&self, job: JobId) -> Result<watch::Receiver<()>, Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Watch { job, answer }).await?;
        answered.await.map_err(|_| stopping())
    }
}

/// What clients are told while the server goes down.
pub(crate) fn stopping() -> Failure {
    Failure::new(Class::Host, "server_stopping", "the server is stopping; try again when it is back")
}
