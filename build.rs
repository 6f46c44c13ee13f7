//! Compiles the protobuf definitions, without protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["command", "error", "execution", "history", "outcome", "server"]
        .map(|name| format!("ccexecutor/v1/{name}.proto"));
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(files)?;
    // Written from the raw set: the typed one would lose custom options.
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".ccexecutor.v1")
        .btree_map(".") // one encoding for one spec: the digest of a request depends on it
        .compile_fds(compiler.file_descriptor_set())?;

    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rustc-env=TARGET={}", std::env::var("TARGET")?);
    println!("cargo:rustc-env=PROFILE={}", std::env::var("PROFILE")?);
    Ok(())
}
