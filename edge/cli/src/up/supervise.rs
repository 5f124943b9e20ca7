//! What happens to a process of the fleet after it was started.
//!
//! - It crashes (a signal nobody sends on purpose, or a failure): it is started again after a pause that doubles.
//! - Somebody ends it (SIGTERM, SIGINT, success): it stays down, and the command that starts it again is printed. The
//!   front door finds it again whoever starts it.
//! - It is found running already when it should be started again: somebody was faster, it is left alone.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use origin::client::Control;
use tokio::sync::watch;

use super::child::{self, Child, Recipe, StartError};
use crate::front::health;

/// Between two looks at the length of a log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before a crashed process is started again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// A process that lived this long starts with the first pause again.
    pub calm: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(30), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Pauses from `first` to `most`, doubling.
    pub(crate) fn new(first: Duration, most: Duration, calm: Duration) -> Self {
        Self { first, most, calm, next: first }
    }

    /// The pause after a process that lived this long.
    pub(crate) fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= self.calm {
            self.next = self.first;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.most);
        pause
    }
}

/// A process and how to know that it is ready.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// What to start.
    pub recipe: Recipe,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it shows that it is ready.
    pub probe: Probe,
}

/// How a process shows that it is ready.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// A PoP answers its health check, be it that it is not ready: before the first deploy there is nothing to serve.
    Health,
    /// The admin API says what is live.
    Manifest(Box<Control>),
}

/// What a supervisor has to tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// Ended on purpose: it stays down.
    Stopped(String),
    /// Crashed: it is started again after the pause.
    Crashed(String, Duration),
    /// Runs again, as this process.
    Started(Option<u32>),
    /// Could not be started again; the next try comes after the pause.
    Failed(StartError, Duration),
    /// Something listens on its address by now, healthy or not: it is left alone.
    Elsewhere,
    /// Did not drain in time and was killed.
    Killed,
}

impl Member {
    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub(crate) async fn start(&self) -> Result<Child, StartError> {
        let mut child = self.recipe.spawn()?;
        match self.recipe.wait_ready(&mut child, || self.is_ready()).await {
            Ok(()) => Ok(child),
            Err(error) => {
                child.stop().await;
                Err(error)
            }
        }
    }

    async fn is_ready(&self) -> bool {
        match &self.probe {
            Probe::Health => health::probe(self.address).await.is_some(),
            Probe::Manifest(control) => control.manifest().await.is_ok(),
        }
    }

    /// Watches the process until `stop` turns true or its sender is gone, then ends it.
    pub(crate) async fn supervise(
        self,
        mut child: Child,
        mut backoff: Backoff,
        mut stop: watch::Receiver<bool>,
        report: impl Fn(&Self, Event),
    ) {
        loop {
            let started = Instant::now();
            let status = tokio::select! {
                status = self.watch(&mut child) => status,
                () = until(&mut stop) => {
                    if !child.stop().await {
                        report(&self, Event::Killed);
                    }
                    return;
                }
            };
            let (how, on_purpose) = match &status {
                Ok(status) => (child::describe(*status), child::on_purpose(*status)),
                Err(error) => (error.to_string(), false),
            };
            if on_purpose {
                return report(&self, Event::Stopped(how));
            }
            let pause = backoff.pause(started.elapsed());
            report(&self, Event::Crashed(how, pause));
            let again = tokio::select! {
                again = self.restart(pause, &mut backoff, &report) => again,
                () = until(&mut stop) => return,
            };
            let Some(again) = again else { return report(&self, Event::Elsewhere) };
            report(&self, Event::Started(again.pid()));
            child = again;
        }
    }

    /// Waits for the end, and keeps the log short meanwhile.
    async fn watch(&self, child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
        loop {
            match tokio::time::timeout(LOG_INTERVAL, child.ended()).await {
                Ok(status) => return status,
                // A log that cannot be cut is no reason to end the process. Copying takes a while, and this is the thread
                // of the front door and of every distance.
                Err(_) => {
                    let log = self.recipe.log.clone();
                    let _ = tokio::task::spawn_blocking(move || child::rotate_log(&log)).await;
                }
            }
        }
    }

    /// Tries until it runs; `None` when something else listens on its address.
    async fn restart(&self, first: Duration, backoff: &mut Backoff, report: &impl Fn(&Self, Event)) -> Option<Child> {
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            if TcpListener::bind(self.address).is_err() {
                return None;
            }
            match self.start().await {
                Ok(child) => return Some(child),
                Err(error) => {
                    pause = backoff.pause(Duration::ZERO);
                    report(self, Event::Failed(error, pause));
                }
            }
        }
    }
}

/// Resolves when `stopped` turns true or its sender is gone.
pub(crate) async fn until(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn quick() -> Backoff {
        Backoff::new(Duration::from_millis(1), Duration::from_millis(1), Duration::from_secs(60))
    }

    fn member(folder: &Path, script: &str) -> Member {
        let path = folder.join("child.sh");
        std::fs::write(&path, script).unwrap();
        let recipe = Recipe {
            name: "PoP lhr".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec![path.into()],
            log: folder.join("lhr.log"),
        };
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Member { recipe, address, probe: Probe::Health }
    }

    async fn events(member: Member, stop: watch::Receiver<bool>) -> Vec<String> {
        let seen = Mutex::new(Vec::new());
        let child = member.recipe.spawn().unwrap();
        member.supervise(child, quick(), stop, |_, event| seen.lock().unwrap().push(format!("{event:?}"))).await;
        seen.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_process_that_is_ended_on_purpose_stays_down() {
        let root = tempfile::tempdir().unwrap();
        let (_keep, stop) = watch::channel(false);
        let seen = events(member(root.path(), "kill -TERM $$\n"), stop).await;
        assert_eq!(seen, ["Stopped(\"signal 15\")"]);
    }

    #[tokio::test]
    async fn a_crashed_process_that_somebody_else_started_meanwhile_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (_keep, stop) = watch::channel(false);
        let member = member(root.path(), "kill -KILL $$\n");
        let _other = TcpListener::bind(member.address).unwrap();
        let seen = events(member, stop).await;
        assert_eq!(seen, ["Crashed(\"signal 9\", 1ms)", "Elsewhere"]);
    }

    #[tokio::test]
    async fn a_crashed_process_is_started_again_and_ends_with_its_supervisor() {
        let root = tempfile::tempdir().unwrap();
        let (stopper, stop) = watch::channel(false);
        // The first run crashes, the second waits for its end. A listener here answers the health check for it, once
        // the restart has found the address free.
        let member = member(root.path(), "[ -e $0.ran ] && exec cat >/dev/null; touch $0.ran; exit 1\n");
        let address = member.address;
        let ran = root.path().join("child.sh.ran");
        tokio::spawn(async move {
            while !ran.exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        });
        let seen = Mutex::new(Vec::new());
        let child = member.recipe.spawn().unwrap();
        let report = |_: &Member, event: Event| {
            seen.lock().unwrap().push(format!("{event:?}"));
            if matches!(event, Event::Started(_)) {
                stopper.send_replace(true);
            }
        };
        member.supervise(child, Backoff::new(Duration::ZERO, Duration::ZERO, Duration::ZERO), stop, report).await;
        let seen = seen.into_inner().unwrap();
        assert!(seen[0].starts_with("Crashed(\"exit code 1\"") && seen[1].starts_with("Started(Some("), "{seen:?}");
        assert_eq!(seen.len(), 2, "it drained in time: {seen:?}");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_a_calm_life_starts_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.pause(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(backoff.pause(Duration::from_secs(60)).as_millis(), 200);
    }
}
