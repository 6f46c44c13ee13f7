//! Follows the tour of the README word for word: every command of its ```console blocks, in order, in one shell, each with
//! the output that is shown. What differs from run to run (times, ids, what `…` stands for) may differ.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use regex::Regex;
use tempfile::TempDir;

/// One command may take so long: the first one builds the release binary.
const PATIENCE: Duration = Duration::from_secs(2400);

/// What a command in the background prints may come so late.
const BACKGROUND: Duration = Duration::from_secs(10);

/// The port that the README names; the session has one of its own.
const PORT: &str = "50051";

/// Begins the line that follows a command's output.
const END: &str = "\u{1}end";

/// A command and what it is said to print.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    output: Vec<String>,
}

#[test]
#[ignore = "builds the release binary, and needs grpcurl and buf: tests/run brings them"]
fn the_tour_of_the_readme_holds() {
    let readme = include_str!("../README.md");
    let mut session = Session::begin();
    let steps = steps(readme);
    assert!(steps.len() > 15, "the tour was found");
    let mut faults = Vec::new();
    for step in steps {
        println!("$ {}", step.command);
        let (shown, printed) = session.take(&step);
        if !pattern(&shown).is_match(&printed) {
            let shown = shown.join("\n");
            faults.push(format!("$ {}\n--- the README shows\n{shown}\n--- it prints\n{printed}", step.command));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The commands of all console blocks. What follows a command up to the next one is its output.
fn steps(markdown: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        match (line.strip_prefix("```"), line.strip_prefix("$ ")) {
            (Some(fence), _) => inside = fence == "console",
            (None, Some(command)) if inside => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            (None, _) if inside => {
                steps.last_mut().expect("a block begins with a command").output.push(line.to_owned())
            }
            _ => {}
        }
    }
    steps
}

/// Matches what the lines show: `…` is anything within a line, a line of it any lines; times, ids and blanks may differ.
fn pattern(lines: &[String]) -> Regex {
    let varying = Regex::new(concat!(
        r"(?P<any>…)|(?P<blank>[ \t]+)|(?P<when>\d{4}-\d\d-\d\dT[\d:.]+Z)|(?P<id>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})|",
        r"(?P<ago>\bnow\b|\b\d+[smhd] ago\b)|(?P<time>\b\d+(\.\d+)?(ms|s|m|h|d)( \d\d[smh])?\b)"
    ))
    .expect("it is well formed");
    let mut text = String::from(r"\A");
    for line in lines {
        if line == "…" {
            text.push_str(r"(?:.*\n)*?");
            continue;
        }
        let mut done = 0;
        for found in varying.captures_iter(line) {
            let all = found.get(0).expect("a match has a whole");
            text.push_str(&regex::escape(&line[done..all.start()]));
            text.push_str(match () {
                () if found.name("any").is_some() => ".*?",
                () if found.name("blank").is_some() => r"[ \t]+",
                () if found.name("when").is_some() => r"\d{4}-\d\d-\d\dT[\d:.]+Z",
                () if found.name("id").is_some() => "[0-9a-f-]{36}",
                () if found.name("ago").is_some() => r"(now|\d+[smhd]( \d\d[smh])? ago)",
                () => r"\d+(\.\d+)?(ms|s|m|h|d)( \d\d[smh])?",
            });
            done = all.end();
        }
        text.push_str(&regex::escape(&line[done..]));
        text.push_str(r"[ \t\r]*\n");
    }
    text.push_str(r"\z");
    Regex::new(&text).expect("the parts are well formed")
}

/// A shell with a home, a state directory and a port of its own. Everything in it ends with it.
struct Session {
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    port: String,
    _home: TempDir,
}

impl Session {
    fn begin() -> Session {
        let home = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port().to_string();
        let tools = |variable: &str, folder: &str| {
            let usual = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(folder);
            std::env::var_os(variable).map_or_else(usual, PathBuf::from)
        };
        #[expect(clippy::disallowed_methods, reason = "the reader's shell is a process like any other")]
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_HOME", tools("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", tools("RUSTUP_HOME", ".rustup"))
            .env("HOME", home.path())
            .env("CC_EXECUTOR_LISTEN", format!("127.0.0.1:{port}"))
            .env_remove("CC_EXECUTOR_ADDRESS")
            .env_remove("CC_EXECUTOR_STATE_DIR")
            .env_remove("XDG_STATE_HOME")
            .env_remove("LOG_LEVEL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let input = shell.stdin.take().expect("it was asked for");
        let output = BufReader::new(shell.stdout.take().expect("it was asked for"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                // Nobody listens any more when the tour has failed.
                let _ = send.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut session = Session { shell, input, lines, port, _home: home };
        session.write("exec 2>&1");
        session
    }

    /// Does the step. Returns what the README shows and what was printed, both with the session's port.
    fn take(&mut self, step: &Step) -> (Vec<String>, String) {
        let own = |text: &str| text.replace(PORT, &self.port);
        let shown: Vec<String> = step.output.iter().map(|line| own(line)).collect();
        let command = own(&step.command);
        // The status of the command is still there for the next one.
        self.write(&format!("{{ {command}\n}} < /dev/null; status=$?; echo; echo '{END}'; (exit $status)"));
        let expected = pattern(&shown);
        let mut printed = String::new();
        let mut ended = false;
        let mut until = Instant::now() + PATIENCE;
        loop {
            if ended && (!command.ends_with('&') || expected.is_match(&printed)) {
                return (shown, printed);
            }
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line == END => {
                    ended = true;
                    until = Instant::now() + BACKGROUND;
                    // The line break that was put before it, unless the output had none at its end.
                    if printed.ends_with("\n\n") || printed == "\n" {
                        printed.pop();
                    }
                }
                Ok(line) => printed.extend([line.as_str(), "\n"]),
                Err(_) if ended => return (shown, printed),
                Err(_) => panic!("$ {command}\nhas not ended; it printed\n{printed}"),
            }
        }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the shell reads");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.shell.id().try_into().expect("process numbers are small"));
        let _already_gone = killpg(group, Signal::SIGKILL);
        let _reaped = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(shown: &str, printed: &str) -> bool {
        let lines: Vec<String> = shown.lines().map(str::to_owned).collect();
        pattern(&lines).is_match(printed)
    }

    #[test]
    fn commands_are_found_with_their_output() {
        let found = steps("text\n```console\n$ a\n1\n\n2\n$ b\n```\n$ no\n```sh\n$ no\n```\n");
        let step = |command: &str, output: &[&str]| Step {
            command: command.to_owned(),
            output: output.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(found, [step("a", &["1", "", "2"]), step("b", &[])]);
    }

    #[test]
    fn only_what_varies_may_differ() {
        assert!(shows(" ID  STATE\n a  paused 1s ago", " ID       STATE \r\n a  paused now\n"));
        assert!(shows("id 01a1fbd8-cf23-76a6-8021-a4559c768ebf", "id 00000000-cf23-76a6-8021-a4559c768ebf\n"));
        assert!(shows("pid … (x)", "pid 17 (x)\n"));
        assert!(shows("{\n…\n}", "{\n1\n2\n}\n"));
        assert!(shows("{\n…\n}", "{\n}\n"));
        assert!(shows("ran for 1.0s", "ran for 17ms\n"));
        assert!(!shows("exited 3", "exited 4\n"));
        assert!(!shows("exited 3", "exited 3\nmore\n"));
        assert!(!shows("pid …", "id 17\n"));
        assert!(!shows("a", ""));
        assert!(!shows("a.c", "abc\n"));
    }
}
