//! A child process whose log is kept for the failure message and which never outlives the test run.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::{binary, eventually};

/// Lines of a log that a failure shows.
const LOG_TAIL: usize = 150;

/// How long a process may take to tell what it holds.
const TELL: Duration = Duration::from_secs(5);

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// Ends its command when the thread that started it ends.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running `meshgate`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts `meshgate` with the arguments; its output goes to `LOG_DIR/NAME.log`.
    ///
    /// The environment is empty but for what a program needs, so that settings of the machine do not leak in.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, log_dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = leashed(binary());
        command.args(args);
        clear_environment(&mut command, env);
        Self::spawn(name, log_dir, command)
    }

    /// Starts another program in the same way, with the environment of the test.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_program(name: &str, log_dir: &Path, program: &Path, args: &[&str]) -> Self {
        let mut command = leashed(program);
        command.args(args);
        Self::spawn(name, log_dir, command)
    }

    fn spawn(name: &str, log_dir: &Path, mut command: Command) -> Self {
        let log = log_dir.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be written");
        command.stdin(Stdio::null());
        command
            .stdout(output.try_clone().expect("the log is open"))
            .stderr(output);
        let child = spawn_on_lasting_thread(command).expect("the program starts");
        Self {
            child,
            log,
            name: name.to_owned(),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far, also before it was started again.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The end of what it said, for a failure message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(LOG_TAIL);
        let tail: Vec<&str> = log.lines().skip(skip).collect();
        format!("--- log of {} ---\n{}\n--- end ---", self.name, tail.join("\n"))
    }

    /// Sends a signal by its name, such as `KILL`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} is gone\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Asks for the number of its tasks; `None` when it does not tell in time.
    pub async fn tasks(&self) -> Option<u64> {
        const MARK: &str = "Holds tasks";
        let told = || {
            let log = self.log();
            let lines = log.lines().filter(|line| line.contains(MARK));
            let last = lines.clone().next_back().and_then(number_of_tasks);
            (lines.count(), last)
        };
        let (before, _) = told();
        self.signal("USR1");
        let deadline = Instant::now() + TELL;
        while Instant::now() < deadline {
            let (lines, last) = told();
            if lines > before {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Kills without notice and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks to stop and waits for a clean end.
    ///
    /// # Panics
    /// When it does not end, or ends with an error.
    pub async fn stop(self) {
        self.signal("TERM");
        self.ended_cleanly().await;
    }

    /// Waits for a clean end that was asked for.
    ///
    /// # Panics
    /// When it does not end, or ends with an error.
    pub async fn ended_cleanly(mut self) {
        let status = self.exit().await;
        assert!(
            status.success(),
            "{} ended with {status}\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it runs on.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, async || {
            self.child.try_wait().ok().flatten().ok_or("still running")
        })
        .await
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails with the log when the process has ended by itself.
    ///
    /// # Panics
    /// When it has.
    pub fn check(&mut self) {
        let ended = self.ended();
        assert!(
            ended.is_none(),
            "{} ended with {ended:?}\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn rss(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("the kernel tells the memory");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("it is a number");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

fn number_of_tasks(line: &str) -> Option<u64> {
    let (_, number) = line.split_once("tasks=")?;
    number.split_whitespace().next()?.parse().ok()
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// What follows `label` on a line of the output.
    ///
    /// # Panics
    /// When the command failed, or wrote no such line.
    pub fn line(&self, label: &str) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        let found = self
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        let Some(rest) = found else {
            panic!("no line {label:?} in {self:?}")
        };
        rest.trim().to_owned()
    }

    /// Everything it wrote.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `meshgate` to its end.
///
/// # Panics
/// When it does not end in time.
pub async fn run(args: &[&str], env: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    clear_environment(&mut command, env);
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(COMMAND_TIMEOUT, command.kill_on_drop(true).output()).await;
    let Ok(output) = output else {
        panic!("`meshgate {}` did not end", args.join(" "))
    };
    let output = output.expect("the binary starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command that is killed when the test run ends, however that happens.
fn leashed(program: &Path) -> Command {
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn clear_environment(command: &mut Command, env: &[(&str, &str)]) {
    command.env_clear();
    for keep in ["PATH", "HOME", "TMPDIR", "NB_LOG_LEVEL"] {
        if let Some(value) = std::env::var_os(keep) {
            command.env(keep, value);
        }
    }
    command.env("RUST_BACKTRACE", "1").envs(env.iter().copied());
}

struct Order {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// The kernel sends the signal of the leash when the starting *thread* ends, and the threads of tests do so
/// long before the test run.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static ORDERS: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (orders, queue) = sync_channel::<Order>(16);
        std::thread::spawn(move || {
            for Order { mut command, reply } in queue {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, answer) = sync_channel(1);
    let gone = || io::Error::other("the starting thread is gone");
    ORDERS.send(Order { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
