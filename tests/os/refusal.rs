//! What cannot be started is refused by the step that failed, and leaves nothing behind.

use std::{fs, os::unix::fs::PermissionsExt as _};

use cc_executor::os::{Host, SpawnError, SpawnStep};

use super::support::{Program, gone, on_every_rung, program};

async fn refusal(host: &Host, program: Program) -> SpawnError {
    let cookie = program.cookie.clone();
    let error = host.spawn(program.plan).await.expect_err("it cannot be started");
    gone(&cookie).await;
    error
}

#[tokio::test]
async fn a_missing_program_is_named() {
    on_every_rung(async |host| {
        for name in ["/nope", "no-such-program"] {
            let error = refusal(host, program(name, &[])).await;
            assert_eq!((error.step, error.errno), (SpawnStep::Exec, libc::ENOENT));
            assert_eq!(error.path, Some(name.into()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_working_directory_is_refused_apart_from_the_program() {
    on_every_rung(async |host| {
        for (directory, errno) in [("/nope", libc::ENOENT), ("/etc/passwd", libc::ENOTDIR)] {
            let mut program = program("/bin/true", &[]);
            program.plan.working_directory = directory.into();
            let error = refusal(host, program).await;
            assert_eq!(error, SpawnError { step: SpawnStep::WorkingDirectory, errno, path: Some(directory.into()) });
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_executable_is_refused() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it can be set");
        path.to_str().expect("it is text").to_owned()
    };
    let plain = file("plain", b"#!/bin/sh\n", 0o644);
    let text = file("text", b"echo hi\n", 0o755);
    let empty = file("empty", b"", 0o755);
    let mut elf = fs::read("/bin/true").expect("it can be read");
    elf[18..20].copy_from_slice(&[0xf3, 0x7f]);
    let foreign = file("foreign", &elf, 0o755);
    on_every_rung(async |host| {
        let cases = [
            (plain.as_str(), libc::EACCES),
            ("/etc", libc::EACCES),
            (&text, libc::ENOEXEC),
            (&empty, libc::ENOEXEC),
            (&foreign, libc::ENOEXEC),
        ];
        for (name, errno) in cases {
            let error = refusal(host, program(name, &[])).await;
            assert_eq!(error, SpawnError { step: SpawnStep::Exec, errno, path: Some(name.into()) });
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_arguments_are_said_to_be_that() {
    let large = "x".repeat(3 << 20);
    let medium = "x".repeat(100_000);
    let many = vec![medium.as_str(); 84];
    on_every_rung(async |host| {
        for args in [&[large.as_str()][..], &many] {
            let error = refusal(host, program("/bin/true", args)).await;
            assert_eq!((error.step, error.errno), (SpawnStep::Exec, libc::E2BIG));
        }
    })
    .await;
}

#[tokio::test]
async fn a_nul_byte_is_an_error_and_no_panic() {
    on_every_rung(async |host| {
        let error = refusal(host, program("/bin/true", &["a\0b"])).await;
        assert_eq!((error.step, error.errno), (SpawnStep::Exec, libc::EINVAL));
        let mut program = program("/bin/true", &[]);
        program.plan.working_directory = "/a\0b".into();
        let error = refusal(host, program).await;
        assert_eq!((error.step, error.errno), (SpawnStep::WorkingDirectory, libc::EINVAL));
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_cannot_be_kept_is_refused() {
    on_every_rung(async |host| {
        if host.enforceable().memory {
            return;
        }
        let mut program = program("/bin/true", &[]);
        program.plan.limits.memory_bytes = Some(1 << 26);
        let error = refusal(host, program).await;
        assert_eq!((error.step, error.errno), (SpawnStep::Limits, libc::ENOTSUP));
    })
    .await;
}

#[tokio::test]
async fn refused_starts_leave_no_descriptor_and_no_zombie() {
    on_every_rung(async |host| {
        let count = || fs::read_dir("/proc/self/fd").expect("it is readable").count();
        refusal(host, program("/nope", &[])).await;
        let before = count();
        for _ in 0..20 {
            refusal(host, program("/nope", &[])).await;
        }
        // Other tests of this process open descriptors too, but not one for each of these.
        assert!(count() < before + 60, "{before} became {}", count());
    })
    .await;
}
