//! A host for every kind of containment, commands with a cookie, and an oracle that knows what is alive.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cc_executor::os::{
    Child, Containment, Host, HostConfig, MARKER, Output, Plan, Reader, ResourceLimits, Stdin, Tree,
};

/// How long anything may take on a loaded machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const COOKIE: &str = "CC_TEST_COOKIE";
const RUNGS: [Containment; 3] = [Containment::Cgroup, Containment::Shim, Containment::Group];

/// For who reads a failed test: which containment it was on.
#[expect(clippy::print_stderr, reason = "shown for failed tests only")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// A host with this containment; `None` if the machine cannot have it.
pub(crate) async fn host(containment: Containment) -> Option<Host> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let config = HostConfig {
        containment: Some(containment),
        instance: format!("test-{}-{number}", std::process::id()),
        executable: Some(PathBuf::from(env!("CARGO_BIN_EXE_cc-executor"))),
    };
    match Host::open(config).await {
        Ok(host) => Some(host),
        Err(error) if containment == Containment::Cgroup => {
            note(&format!("skipped without cgroups: failed to {error}"));
            None
        }
        Err(error) => panic!("failed to {error}"),
    }
}

/// Runs the test once for each kind of containment.
pub(crate) async fn on_every_rung(test: impl AsyncFn(&Host)) {
    for containment in RUNGS {
        on(containment, &test).await;
    }
}

/// Runs the test where nothing escapes.
pub(crate) async fn on_strong_rungs(test: impl AsyncFn(&Host)) {
    on(Containment::Cgroup, &test).await;
    on(Containment::Shim, &test).await;
}

async fn on(containment: Containment, test: &impl AsyncFn(&Host)) {
    let Some(host) = host(containment).await else { return };
    note(&format!("on {containment}"));
    tokio::time::timeout(PATIENCE * 2, test(&host)).await.expect("the test ends in time");
}

/// One command in the making, and what it takes to find its processes.
pub(crate) struct Program {
    pub(crate) plan: Plan,
    pub(crate) cookie: String,
}

/// A shell script.
pub(crate) fn script(text: &str) -> Program {
    program("/bin/sh", &["-c", text])
}

/// Any program.
pub(crate) fn program(name: &str, args: &[&str]) -> Program {
    // Not made of a process number: those come back, and with them what an earlier test left behind.
    let cookie = uuid::Uuid::now_v7().to_string();
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARKER, &cookie), (COOKIE, &cookie)];
    let plan = Plan {
        id: cookie.clone(),
        program: name.into(),
        arg0: None,
        args: args.iter().map(OsString::from).collect(),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        working_directory: "/".into(),
        user: None,
        stdin: Stdin::Null,
        output: Output::Pipes { merge_stderr: true },
        limits: ResourceLimits::default(),
    };
    Program { plan, cookie }
}

impl Program {
    pub(crate) async fn start(self, host: &Host) -> Run {
        let child = host.spawn(self.plan).await.expect("it starts");
        Run { child, cookie: self.cookie, output: Vec::new() }
    }
}

/// A command that executes.
pub(crate) struct Run {
    pub(crate) child: Child,
    pub(crate) cookie: String,
    output: Vec<u8>,
}

impl Run {
    /// Reads output until `text` was in it.
    pub(crate) async fn says(&mut self, text: &str) {
        while !self.output_text().contains(text) {
            let reader = self.child.stdout.as_ref().expect("its output is read");
            let mut buffer = BytesMut::with_capacity(65536);
            let count = tokio::time::timeout(PATIENCE, read(reader, &mut buffer))
                .await
                .unwrap_or_else(|_| panic!("it says {text:?} in time"));
            assert_ne!(count, 0, "it ended before it said {text:?}: {}", self.output_text());
            self.output.extend_from_slice(&buffer);
        }
    }

    pub(crate) fn output_text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// All output, to its end.
    pub(crate) async fn all_output(&mut self) -> String {
        let reader = self.child.stdout.take().expect("its output is read");
        self.output.extend(read_to_end(&reader).await);
        self.output_text()
    }

    /// Waits until no process with the cookie is left, by the oracle.
    pub(crate) async fn is_gone(&self) {
        gone(&self.cookie).await;
    }

    /// Ends the run and checks that nothing is left of it.
    pub(crate) async fn release(self) {
        self.child.tree.release().await;
        gone(&self.cookie).await;
    }
}

async fn read(reader: &Reader, buffer: &mut BytesMut) -> usize {
    loop {
        reader.readable().await.expect("readiness is told");
        match reader.try_read(buffer) {
            Ok(count) => return count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}

pub(crate) async fn read_to_end(reader: &Reader) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut buffer = BytesMut::with_capacity(65536);
        let count = tokio::time::timeout(PATIENCE, read(reader, &mut buffer)).await.expect("output ends in time");
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&buffer);
    }
}

/// A process the oracle has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) pid: u32,
    pub(crate) command: String,
    pub(crate) state: char,
    /// Clock ticks of processor time.
    pub(crate) ticks: u64,
}

/// Every living process whose environment has the cookie.
pub(crate) fn alive(cookie: &str) -> Vec<Found> {
    let wanted = format!("{COOKIE}={cookie}");
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .filter_map(found)
    .filter(|found| !matches!(found.state, 'Z' | 'X'))
    .collect()
}

/// One process, zombies included.
pub(crate) fn found(pid: u32) -> Option<Found> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let command = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Some(Found { pid, command, state: fields.first()?.chars().next()?, ticks: ticks(11) + ticks(12) })
}

/// Waits until the oracle finds nothing.
pub(crate) async fn gone(cookie: &str) {
    until(|| alive(cookie).is_empty(), || format!("still alive: {:?}", alive(cookie))).await;
}

/// Waits for a state, looking often.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{}", otherwise());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The sum of processor time of everything with the cookie.
pub(crate) fn ticks(cookie: &str) -> u64 {
    alive(cookie).iter().map(|found| found.ticks).sum()
}

/// Waits until the tree has exactly these commands, in any order.
pub(crate) async fn members_are(tree: &Tree, commands: &[&str]) {
    let started = Instant::now();
    loop {
        let members = tree.members().await.expect("they are listed");
        let mut found: Vec<&str> = members.iter().map(|member| member.command.as_str()).collect();
        found.sort_unstable();
        if found == commands {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
