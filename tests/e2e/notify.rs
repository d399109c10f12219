//! Labels, and telling an address that a job has ended: against an address that refuses first, is away, and hears of it after a server was
//! killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::films;
use crate::processes::Fleet;

const FAST: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-an", "-t", "1"];

/// Headers, lower case, and body of a call.
type Heard = (Vec<String>, Value);

/// Answers each call with the next status, the last one for ever.
fn listen(listener: TcpListener, statuses: &'static [u16]) -> mpsc::Receiver<Heard> {
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                headers.push(line.trim().to_lowercase());
            }
            let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            let status = statuses[number.min(statuses.len() - 1)];
            let answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send((headers, serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
        }
    });
    heard
}

fn next(heard: &mpsc::Receiver<Heard>) -> Heard {
    heard.recv_timeout(Duration::from_secs(90)).expect("the address is called")
}

#[test]
fn an_address_is_told_until_it_takes_it() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let _worker = fleet.worker("w1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ended?key=secret", listener.local_addr().unwrap());
    let heard = listen(listener, &[503, 302, 200]);
    let film = films::clip(&films::PLAIN);
    let out = fleet.sandbox.path("out.mp4");
    let options = [FAST, &["--notify", &url, "--label", "show=news", "--label", "lang=en"]].concat();
    let job = fleet.submit(&film, &out, &options);
    let calls = [next(&heard), next(&heard), next(&heard)];
    for (headers, body) in &calls {
        assert!(headers[0].starts_with("post /ended?key=secret "), "{headers:?}");
        let id = format!("spool-event-id: {}", body["id"].as_str().unwrap());
        assert!(headers.contains(&id) && headers.contains(&"content-type: application/json".into()), "{headers:?}");
        assert_eq!((&body["event"], &body["job"]["state"]), (&"job.ended".into(), &"done".into()), "{body}");
        assert_eq!((&body["job"]["job"], &body["job"]["labels"]["show"]), (&job.as_str().into(), &"news".into()));
        assert_eq!(body, &calls[0].1, "the same each time");
    }
    assert!(heard.recv_timeout(Duration::from_secs(6)).is_err(), "it was taken: nobody calls again");
    assert!(std::fs::read_dir(fleet.data().join("notices")).unwrap().next().is_none(), "nothing waits");
    // The secret of the address is its owner's.
    let shown = fleet.job(&job);
    assert!(!shown["notify"].as_str().unwrap().contains("secret"), "{shown}");
    let text = String::from_utf8(fleet.client(&["job", "get", &job]).stdout).unwrap();
    assert!(text.contains("labels: lang=en, show=news"), "{text}");

    let other = fleet.submit(&film, &fleet.sandbox.path("other.mp4"), &[FAST, &["--label", "show=film"]].concat());
    for (labels, expected) in [
        (&["show=news"][..], vec![&job]),
        (&["show=news", "lang=en"], vec![&job]),
        (&["show=news", "lang=de"], vec![]),
        (&["show=film"], vec![&other]),
        (&[], vec![&other, &job]),
    ] {
        let options: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        let list = fleet.client(&[&["job", "list", "-o", "json"][..], &options].concat());
        let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
        let ids: Vec<&str> = list.iter().map(|job| job["job"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{labels:?}");
    }
}

#[test]
fn what_was_not_told_is_told_after_the_server_was_killed() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let _worker = fleet.worker("w1");
    // Nobody listens there yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/");
    let options = [FAST, &["--notify", &url]].concat();
    let job = fleet.submit(&films::clip(&films::PLAIN), &fleet.sandbox.path("out.mp4"), &options);
    fleet.finished(&job);
    server.kill();
    let heard = listen(TcpListener::bind(address).unwrap(), &[204]);
    let _server = fleet.server();
    let (_, body) = next(&heard);
    assert_eq!(body["job"]["job"], job.as_str());
    assert_eq!(body["id"].as_str().unwrap(), format!("{job}-{}", body["at"]));
}

#[test]
fn bad_labels_and_addresses_are_refused() {
    let fleet = Fleet::new();
    let film = films::clip(&films::PLAIN);
    for (options, says) in [
        (&["--label", "news"][..], "KEY=VALUE"),
        (&["--label", "a b=c"], "a key has"),
        (&["--notify", "mailto:x"], "https://"),
        (&["--notify", "http://u:p@h/"], "password"),
        // Without a server nobody is there to call later.
        (&["--notify", "http://127.0.0.1:1/"], "--server"),
    ] {
        let mut spool = fleet.sandbox.spool();
        let run = spool.arg("encode").arg(&film).arg("-o").arg(fleet.sandbox.path("o.mp4")).args(options);
        let run = run.output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(2) && said.contains(says), "{options:?}: {said}");
    }
}
