//! The process that runs an author's sections, without its walls: what the tests of the host start.

fn main() -> std::io::Result<()> {
    spool_dialect::child::serve()
}
