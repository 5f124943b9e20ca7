//! The log of a long-running process. Lines gather for a moment in memory, and a thread of its own writes them together:
//! no request waits for a disk, and a thousand lines cost one write.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others. One of an error does not: it may be the last that this process writes.
const GATHERING: Duration = Duration::from_millis(10);

/// Lines that come faster than they can be written are dropped once so many bytes wait, and counted.
const WAITING_BYTES: usize = 8 << 20;

/// Starts the log, to standard error. `RUST_LOG` chooses what is logged; `info` without it (`info,access=off` leaves the
/// access log out). What is returned has to be kept: the log ends with it, and its last lines are written then.
pub(crate) fn start() -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colour =
        io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = Log::to(io::stderr());
    // Only fails when a log was started before, and then there is one.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(log.lines()).try_init();
    log
}

/// A log that is being written.
pub(crate) struct Log {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

/// Where lines are put to be written.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Waiting>, Condvar)>);

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    /// Somebody does not want to wait for more lines.
    now: bool,
    ended: bool,
}

impl Log {
    fn to(sink: impl Write + Send + 'static) -> Self {
        let lines = Lines::default();
        let waiting = lines.clone();
        let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || waiting.write_to(sink));
        Self { lines, writer: writer.ok() }
    }

    fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.lock().ended = true;
        self.lines.0.1.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8], now: bool) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > WAITING_BYTES {
            waiting.dropped += 1;
            return;
        }
        // The writer sleeps while there is nothing; once it gathers, only haste disturbs it.
        let wake = waiting.lines.is_empty() || now;
        waiting.now |= now;
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if wake {
            self.0.1.notify_one();
        }
    }

    /// Writes what comes until the end. A sink that takes nothing loses its lines: there is nobody to tell.
    fn write_to(&self, mut sink: impl Write) {
        let mut lines = Vec::new();
        loop {
            let waiting = self.lock();
            let waiting = self.0.1.wait_while(waiting, |w| w.lines.is_empty() && !w.ended);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let gathered = self.0.1.wait_timeout_while(waiting, GATHERING, |w| !w.now && !w.ended);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            let ended = waiting.ended;
            let dropped = std::mem::take(&mut waiting.dropped);
            waiting.now = false;
            std::mem::swap(&mut waiting.lines, &mut lines);
            drop(waiting);
            let _ = sink.write_all(&lines);
            lines.clear();
            if dropped > 0 {
                let _ = writeln!(
                    sink,
                    "{dropped} lines of the log were dropped here: they came faster than they can be written"
                );
            }
            if ended {
                return;
            }
        }
    }
}

/// Takes one line after another.
struct Line {
    lines: Lines,
    now: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.put(line, self.now);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: self.clone(), now: false }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Line {
        Line { lines: self.clone(), now: *meta.level() == tracing::Level::ERROR }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Tells what is written.
    struct Told(mpsc::Sender<Vec<u8>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_in_their_order_and_all_before_the_end() {
        let (told, writes) = mpsc::channel();
        let log = Log::to(Told(told));
        for number in 0..1000 {
            log.lines().put(format!("{number}\n").as_bytes(), number == 500);
        }
        drop(log);
        let writes: Vec<_> = writes.iter().filter(|bytes| !bytes.is_empty()).collect();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(writes.concat()).unwrap(), expected);
        assert!(writes.len() < 100, "{} writes", writes.len());
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        /// Takes nothing before it may.
        struct Stuck(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go, may) = mpsc::channel();
        let (told, writes) = mpsc::channel();
        let log = Log::to(Stuck(may, told));
        let line = [b'x'; 1 << 20];
        for _ in 0..64 {
            log.lines().put(&line, true);
        }
        drop(go);
        drop(log);
        let all = writes.iter().collect::<Vec<_>>().concat();
        let text = String::from_utf8_lossy(&all);
        assert!(all.len() <= 20 << 20, "{} bytes", all.len());
        assert!(text.contains("lines of the log were dropped"));
    }
}
