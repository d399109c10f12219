//! A web server of a test: hyper, on a free port, with files that it serves as it is told to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_MATCH, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Proper,
    /// Answers every request for a range with the whole file.
    WithoutRanges,
    /// In turn: an answer of 503, a closed connection, a body that breaks off, a good answer, and again.
    Hiccups,
    Status(u16),
}

struct State {
    files: Mutex<HashMap<String, (Bytes, String)>>,
    manner: Mutex<Manner>,
    requests: AtomicUsize,
    sent: AtomicU64,
    queries: Mutex<Vec<String>>,
}

/// Stops when dropped.
pub struct HttpServer {
    state: Arc<State>,
    port: u16,
    _runtime: Runtime,
}

impl HttpServer {
    pub fn new(manner: Manner) -> HttpServer {
        let state = Arc::new(State {
            files: Mutex::default(),
            manner: Mutex::new(manner),
            requests: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            queries: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let answer = answer(&state, &request);
                    async move { answer }
                });
                tokio::spawn(
                    async move { http1::Builder::new().serve_connection(TokioIo::new(socket), service).await },
                );
            }
        });
        HttpServer { state, port, _runtime: runtime }
    }

    /// Serves a file; its URL.
    pub fn serve(&self, film: &Path) -> String {
        let name = film.file_name().unwrap().to_str().unwrap();
        self.put(name, std::fs::read(film).unwrap(), "\"first\"")
    }

    pub fn put(&self, name: &str, bytes: impl Into<Bytes>, etag: &str) -> String {
        self.state.files.lock().unwrap().insert(format!("/{name}"), (bytes.into(), etag.to_owned()));
        self.url(name)
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    pub fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// Bytes of bodies since the last look.
    pub fn sent(&self) -> u64 {
        self.state.sent.swap(0, Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Of all requests so far.
    pub fn queries(&self) -> Vec<String> {
        self.state.queries.lock().unwrap().clone()
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn full(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

fn plain(status: u16) -> Answer {
    let mut answer = Response::new(full(Bytes::from_static(b"a page about it")));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// An error closes the connection.
fn answer(state: &State, request: &Request<Incoming>) -> Result<Answer, io::Error> {
    let number = state.requests.fetch_add(1, Ordering::SeqCst);
    state.queries.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
    let manner = *state.manner.lock().unwrap();
    match (manner, number % 4) {
        (Manner::Status(status), _) => return Ok(plain(status)),
        (Manner::Hiccups, 0) => return Ok(plain(503)),
        (Manner::Hiccups, 1) => return Err(io::ErrorKind::ConnectionReset.into()),
        _ => {}
    }
    let found = state.files.lock().unwrap().get(request.uri().path()).cloned();
    let Some((bytes, etag)) = found else { return Ok(plain(404)) };
    if request.headers().get(IF_MATCH).is_some_and(|wanted| *wanted != etag) {
        return Ok(plain(412));
    }
    let range = request.headers().get(RANGE).filter(|_| manner != Manner::WithoutRanges);
    let range = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let (status, body, place) = match range {
        None => (200, bytes, None),
        Some((start, _)) if start.parse::<usize>().unwrap() >= bytes.len() => return Ok(plain(416)),
        Some((start, end)) => {
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            let end = end.min(bytes.len() - 1);
            (206, bytes.slice(start..=end), Some(format!("bytes {start}-{end}/{}", bytes.len())))
        }
    };
    state.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
    let length = body.len();
    let body = match (manner, number % 4) {
        (Manner::Hiccups, 2) if length > 1 => {
            let frames = [Ok(Frame::data(body.slice(..length / 2))), Err(io::ErrorKind::ConnectionReset.into())];
            StreamBody::new(tokio_stream::iter(frames)).boxed()
        }
        _ => full(body),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert("content-length", HeaderValue::from(length));
    if !etag.is_empty() {
        answer.headers_mut().insert(ETAG, HeaderValue::from_str(&etag).unwrap());
    }
    if let Some(place) = place {
        answer.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(&place).unwrap());
    }
    Ok(answer)
}
