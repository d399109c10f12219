//! All the ways out of an executor that come to mind, tried from inside one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit};
use spool_media::Host;
use spool_proto::failure::{Class, Failure};

/// Tries each. The failure's message has a line for each: `name: what came of it`.
pub fn try_all(host: &mut dyn Host, outside: &str) -> Result<(), Failure> {
    let outside = Path::new(outside);
    let planted = std::env::temp_dir().join(format!("spool-planted-{}", std::process::id()));
    let inside = host.scratch().join("link");
    let parent = rustix::process::getppid().unwrap_or_else(rustix::process::getpid);
    let socket = |family, kind| rustix::net::socket(family, kind, None).map(drop).map_err(io::Error::from);
    let write = |path: &Path| OpenOptions::new().write(true).create(true).truncate(false).open(path).map(drop);
    let (unlimited, none) = (Rlimit { current: None, maximum: None }, Rlimit { current: Some(0), maximum: Some(0) });
    let tried: [(&str, io::Result<()>); 27] = [
        ("read a file of the system", File::open("/etc/passwd").map(drop)),
        ("read what lies beside the scratch", File::open(outside.join("secret")).map(drop)),
        ("list what lies beside the scratch", std::fs::read_dir(outside).map(drop)),
        ("climb out of the scratch", File::open("../../../secret").map(drop)),
        ("write beside the scratch", write(&outside.join("planted"))),
        ("plant a font", write(Path::new("/usr/share/fonts/planted.ttf"))),
        ("write to the temporary directory", write(&planted).and_then(|()| std::fs::remove_file(&planted))),
        ("truncate what lies beside the scratch", truncate(&outside.join("secret"))),
        ("remove what lies beside the scratch", std::fs::remove_file(outside.join("secret"))),
        ("move what lies beside the scratch", std::fs::rename(outside.join("secret"), &inside)),
        ("make a symbolic link", std::os::unix::fs::symlink("/etc/passwd", &inside)),
        ("make a hard link", std::fs::hard_link(outside.join("secret"), &inside)),
        ("make a pipe", make_node(&inside, rustix::fs::FileType::Fifo)),
        ("make a device", make_node(&inside, rustix::fs::FileType::CharacterDevice)),
        ("make a directory", std::fs::create_dir(&inside)),
        ("read its worker's memory", File::open(format!("/proc/{}/maps", parent.as_raw_nonzero())).map(drop)),
        ("read its worker's environment", File::open(format!("/proc/{}/environ", parent.as_raw_nonzero())).map(drop)),
        ("read its own environment in /proc", File::open("/proc/self/environ").map(drop)),
        ("make a TCP socket", socket(AddressFamily::INET, SocketType::STREAM)),
        ("make a UDP socket", socket(AddressFamily::INET6, SocketType::DGRAM)),
        ("make a Unix socket", socket(AddressFamily::UNIX, SocketType::STREAM)),
        ("make a netlink socket", socket(AddressFamily::NETLINK, SocketType::RAW)),
        ("run a program", std::process::Command::new("/bin/true").status().map(drop)),
        ("signal its worker", rustix::process::test_kill_process(parent).map_err(io::Error::from)),
        ("signal its worker's group", rustix::process::test_kill_process_group(parent).map_err(io::Error::from)),
        ("lift its limits", rustix::process::setrlimit(Resource::Fsize, unlimited).map_err(io::Error::from)),
        (
            "limit its worker",
            rustix::process::prlimit(Some(parent), Resource::Core, none).map(drop).map_err(io::Error::from),
        ),
    ];
    let threads = std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join()));
    let mut lines: Vec<String> = tried.iter().map(|(what, came)| line(what, came)).collect();
    lines.push(line("(allowed) start a thread", &threads));
    lines.push(line("(allowed) write in the scratch", &std::fs::write(host.scratch().join("ours"), b"x")));
    lines.push(line("(allowed) remove it again", &std::fs::remove_file(host.scratch().join("ours"))));
    let fonts = std::fs::read_dir("/usr/share/fonts").map(drop).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    lines.push(line("(allowed) list the system's fonts", &fonts));
    Err(Failure::new(Class::Internal, "tried", lines.join("\n")))
}

fn line(what: &str, came: &io::Result<()>) -> String {
    match came {
        Ok(()) => format!("{what}: done"),
        Err(error) => format!("{what}: {:?}", error.kind()),
    }
}

fn truncate(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path).map(drop)
}

fn make_node(path: &Path, kind: rustix::fs::FileType) -> io::Result<()> {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RUSR, 0).map_err(io::Error::from)
}
