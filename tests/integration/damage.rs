//! A store that is damaged or full: what is read is right or said to be missing, and the server stays up.

use std::fs;

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{
    AttachRequest, Cause, Channel, ExecutionOptions, ExecutionState, GetServerInfoRequest, OutputPolicy,
    ReadOutputRequest, gap, warning,
};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use crate::support::life::{Life, fate};
use crate::support::run::{Seen, With};
use crate::support::small_disk::SmallDisk;
use crate::support::{Events, Server, eventually, shell};

async fn replay(life: &Life) -> Result<Seen, Status> {
    let request = AttachRequest { execution_id: life.id.clone(), follow: true, ..AttachRequest::default() };
    let mut events = Events::of(life.client.clone().attach(request).await?.into_inner());
    while events.next().await?.is_some() {}
    Ok(Seen(events.seen))
}

/// The bytes of stdout alone.
async fn read_output(server: &Server, life: &Life) -> Result<Vec<u8>, Status> {
    let request = ReadOutputRequest { execution_id: life.id.clone(), ..ReadOutputRequest::default() };
    let mut pieces = server.history().await.read_output(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        assert_eq!(piece.offset, bytes.len() as u64);
        bytes.extend_from_slice(&piece.data);
    }
    Ok(bytes)
}

/// Whether everything that came is right, and what did not come was announced.
fn is_honest(seen: &Seen, expected: &[u8]) -> bool {
    let mut position = 0;
    let mut is_cut = false;
    for event in seen.kinds() {
        match event {
            Event::Output(output) => {
                let (start, end) = (output.offset as usize, output.offset as usize + output.data.len());
                assert_eq!(Some(&output.data[..]), expected.get(start..end), "wrong bytes at {start}");
                assert!(start as u64 <= position, "a hole before {start}: {:?}", seen.0);
                position = end as u64;
            }
            Event::Gap(gap) => {
                for range in gap.ranges.iter().filter(|range| range.channel() == Channel::Stdout) {
                    position = position.max(range.end);
                }
                // When even the account of what was there is gone, its bytes cannot be named.
                is_cut |= gap.ranges.is_empty();
            }
            _ => {}
        }
    }
    is_cut || position == expected.len() as u64
}

#[tokio::test]
async fn damage_is_told_and_never_read_as_output() {
    let server = Server::start().await;
    let life = Life::begin(&server, shell("seq 1 30000; sleep 0.05; seq 30001 40000")).await;
    let whole = life.seen().await;
    life.reaches(ExecutionState::Completed).await;
    let expected = whole.bytes(Channel::Stdout);
    eventually("the run is live no more", async || {
        let info = server.server().await.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        (info.load.unwrap().spool_bytes > 0).then_some(())
    })
    .await;
    let mut told = 0;
    for path in server.spooled() {
        let sound = fs::read(&path).unwrap();
        if sound.is_empty() {
            continue;
        }
        for part in 0..12 {
            let place = sound.len() * part / 12;
            let mut flipped = sound.clone();
            flipped[place] ^= 0x20;
            for damaged in [flipped, sound[..place].to_vec()] {
                fs::write(&path, &damaged).unwrap();
                match read_output(&server, &life).await {
                    Ok(bytes) => assert!(bytes == expected, "{path:?} {place} of {}: {}", sound.len(), bytes.len()),
                    Err(status) => assert!([Code::DataLoss, Code::OutOfRange].contains(&status.code()), "{status:?}"),
                }
                match replay(&life).await {
                    Err(status) => {
                        assert!([Code::DataLoss, Code::NotFound].contains(&status.code()), "{status:?}");
                        told += 1;
                    }
                    Ok(seen) => {
                        assert!(is_honest(&seen, &expected), "{path:?} {place} of {}: {:?}", sound.len(), seen.0);
                        told += u32::from(seen.bytes(Channel::Stdout) != expected);
                    }
                }
            }
        }
        fs::write(&path, &sound).unwrap();
    }
    assert!(told > 10, "most damage is seen: {told}");
    assert_eq!(life.seen().await.bytes(Channel::Stdout), expected);
}

async fn degraded(server: &Server) -> Vec<String> {
    server.server().await.get_server_info(GetServerInfoRequest {}).await.expect("it tells").into_inner().degraded
}

fn warned_of_spool(event: &Event) -> Option<()> {
    matches!(event, Event::Warning(warning) if warning.kind() == warning::Kind::Spool).then_some(())
}

#[tokio::test]
async fn a_full_disk_is_dealt_with_as_the_policy_says() {
    let Some(mut disk) = SmallDisk::new() else { return };
    let server = Server::setup().state(disk.state.take().expect("it is new")).start().await;
    let go_on = server.path("go-on");
    let begin = async |policy: OutputPolicy| {
        let script = format!(
            "echo ready; while ! [ -e {0} ]; do sleep 0.01; done; seq 1 300000; while [ -e {0} ]; do sleep 0.01; done; echo end",
            go_on.display()
        );
        let options = ExecutionOptions { on_output_limit: policy.into(), ..ExecutionOptions::default() };
        let life = Life::begin(&server, shell(script).options(options)).await;
        life.says("ready").await;
        life
    };
    let dropping = begin(OutputPolicy::DropOldest).await;
    let ended = begin(OutputPolicy::Cancel).await;
    let held = begin(OutputPolicy::Block).await;
    let expected: Vec<u8> = ["ready".to_owned()]
        .into_iter()
        .chain((1..=300_000).map(|number: u32| number.to_string()))
        .chain(["end".to_owned()])
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect();
    assert_eq!(degraded(&server).await, Vec::<String>::new());
    disk.fill();
    let mut watching = [dropping.events().await, held.events().await];
    fs::write(&go_on, "").unwrap();
    let outcome = ended.outcome().await;
    assert_eq!((outcome.cause(), outcome.success), (Cause::OutputLimit, false));
    for events in &mut watching {
        events.until(warned_of_spool).await;
    }
    assert!(!degraded(&server).await.is_empty());
    assert_eq!(held.get().await.state(), ExecutionState::Running);
    disk.make_room();
    fs::remove_file(&go_on).unwrap();
    let [dropping_live, held_live] = watching;
    // Whoever watches live misses nothing that was not said to be missing.
    assert!(is_honest(&dropping_live.to_end().await, &expected));
    assert!(is_honest(&held_live.to_end().await, &expected));
    for (life, is_whole) in [(&dropping, false), (&held, true)] {
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("0".to_owned(), Cause::Exited));
        let stdout = &seen.outcome().channels[0];
        assert_eq!(stdout.sha256, Sha256::digest(&expected).as_slice());
        assert!(is_honest(&seen, &expected));
        assert_eq!(seen.bytes(Channel::Stdout) == expected, is_whole);
        assert_eq!(stdout.bytes_kept == stdout.bytes_total, is_whole);
        let is_gap = |event: &Event| matches!(event, Event::Gap(gap) if gap.reason() == gap::Reason::SpoolFailed);
        assert_eq!(seen.kinds().any(is_gap), !is_whole);
    }
    eventually("all is well again", async || degraded(&server).await.is_empty().then_some(())).await;
    assert_eq!(Life::begin(&server, shell("echo again")).await.seen().await.stdout(), "again\n");
}

#[tokio::test]
async fn a_run_whose_log_cannot_be_made_is_refused_and_forgotten() {
    let server = Server::start().await;
    let (spool, aside) = (server.path("spool"), server.path("aside"));
    fs::rename(&spool, &aside).unwrap();
    fs::write(&spool, "no directory").unwrap();
    let client = server.executions().await;
    let refused = Life::try_begin(client.clone(), shell("exit 3").id("again")).await;
    assert_eq!(refused.map(|life| life.id).unwrap_err().code(), Code::Unavailable);
    fs::remove_file(&spool).unwrap();
    fs::rename(&aside, &spool).unwrap();
    let life = Life::try_begin(client, shell("exit 3").id("again")).await.unwrap();
    assert_eq!(fate(&life.outcome().await), ("3".to_owned(), Cause::Exited));
}
