//! Generates the gRPC wire from `proto/`, in Rust alone: no protoc on anybody's machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["spool/v1/spool.proto"], ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("spool.v1.bin"), prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure().bytes(".spool.v1").compile_fds(files)?;
    Ok(())
}
