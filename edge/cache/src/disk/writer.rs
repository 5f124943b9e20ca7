//! The one thread that gives files their names and takes them away.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::format::{self, Writer};
use super::{FileId, Health, Inner, Job, Order, State, nonce, scan};
use crate::entry::{Entry, Head, Place};

/// Works until the disk is dropped.
pub(super) fn run(inner: &Arc<Inner>) {
    let Some(_lock) = prepare(inner) else { return };
    scan::start(inner);
    while let Some(Task { job, mut doomed, searches, litter, waiting }) = next(inner) {
        doomed.extend(searches.into_iter().flat_map(|uri| scan::search(inner, uri)));
        remove(inner, doomed);
        inner.counts.removing.store(0, Ordering::Relaxed);
        // What can't be removed now is when the cache starts again.
        litter.into_iter().for_each(|path| drop(fs::remove_file(path)));
        // They are gone, or the failure is known: in either case nobody is to wait.
        for waiting in waiting {
            let _ = waiting.send(());
        }
        if let Some(job) = job {
            perform(inner, job);
            inner.counts.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Makes the folder ready, however often that takes. The lock on it; `None` when the disk is dropped before.
fn prepare(inner: &Inner) -> Option<File> {
    loop {
        match take_folder(inner) {
            Ok(lock) => {
                inner.recover();
                return Some(lock);
            }
            Err(error) => inner.fail("making its folder ready", &error),
        }
        let again = Instant::now() + inner.config.retry;
        let mut state = inner.lock();
        loop {
            drop_all(inner, &mut state);
            let pause = again.saturating_duration_since(Instant::now());
            if inner.is_closing() {
                return None;
            } else if pause.is_zero() {
                break;
            }
            state = inner.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Gives up what was ordered: there is no folder.
fn drop_all(inner: &Inner, state: &mut State) {
    state.waiting.clear();
    for job in std::mem::take(&mut state.jobs) {
        let (Job::Write { order, .. } | Job::Update { order, .. } | Job::Commit { order, .. }) = job;
        state.index.give_up(order.id, order.stamp);
        inner.counts.skipped.fetch_add(1, Ordering::Relaxed);
    }
    state.queued_bytes = 0;
}

fn take_folder(inner: &Inner) -> io::Result<File> {
    fs::create_dir_all(inner.temporary_folder())?;
    let lock = File::create(inner.config.folder.join("lock"))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::other("another cache uses the folder; give each its own"),
        fs::TryLockError::Error(error) => error,
    })?;
    // What a process that was killed had not finished.
    for leftover in fs::read_dir(inner.temporary_folder())? {
        fs::remove_file(leftover?.path())?;
    }
    Ok(lock)
}

struct Task {
    job: Option<Job>,
    doomed: Vec<FileId>,
    searches: Vec<u64>,
    litter: Vec<PathBuf>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Waits for something to do; `None` when nothing will come any more.
fn next(inner: &Inner) -> Option<Task> {
    let mut state = inner.lock();
    loop {
        let pause = match state.health {
            Health::Failing(until) => until.saturating_duration_since(Instant::now()),
            _ => Duration::ZERO,
        };
        // A disk that fails is left alone.
        let (doomed, searches) = match pause.is_zero() {
            true => (state.index.take_doomed().into_iter().collect(), state.index.take_searches()),
            false => (Vec::new(), Vec::new()),
        };
        let (waiting, litter) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.litter));
        let job = state.jobs.pop_front();
        if let Some(Job::Write { bytes, .. }) = &job {
            state.queued_bytes -= bytes;
        }
        if job.is_some() || !doomed.is_empty() || !searches.is_empty() || !litter.is_empty() || !waiting.is_empty() {
            inner.counts.busy.fetch_add(u64::from(job.is_some()), Ordering::Relaxed);
            inner.counts.removing.store((doomed.len() + searches.len()) as u64, Ordering::Relaxed);
            let closed = state.close_evicted();
            drop(state);
            closed.iter().for_each(|file| file.close());
            return Some(Task { job, doomed, searches, litter, waiting });
        }
        if inner.is_closing() {
            return None;
        }
        state = if pause.is_zero() || state.index.doomed() == 0 {
            inner.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
        } else {
            inner.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
        };
    }
}

fn remove(inner: &Inner, doomed: Vec<FileId>) {
    for id in doomed {
        match fs::remove_file(inner.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                inner.fail("removing a file", &error);
                inner.lock().index.doom(id);
            }
            _ => {}
        }
    }
}

fn perform(inner: &Inner, job: Job) {
    let (order, result) = match job {
        Job::Write { order, .. } if !inner.lock().index.is_current(order.id, order.stamp) => return,
        Job::Write { order, entry, .. } => {
            (order, write(inner, &entry).and_then(|(temporary, size)| commit(inner, order, &temporary, size)))
        }
        Job::Commit { order, path, size } => (order, commit(inner, order, &path, size)),
        Job::Update { order, head, file } => {
            let updated = update(inner, order, &head, &file);
            let mut state = inner.lock();
            // Without its latest head it must not be found again.
            if !matches!(updated, Ok(true)) && state.index.is_current(order.id, order.stamp) {
                state.index.remove(order.id);
            }
            drop(state);
            (order, updated.map(drop))
        }
    };
    match result {
        Ok(()) => inner.recover(),
        Err(error) => {
            inner.lock().index.give_up(order.id, order.stamp);
            inner.counts.skipped.fetch_add(1, Ordering::Relaxed);
            inner.fail("writing a response", &error);
        }
    }
}

/// Writes a response that is in memory to a temporary file; its path and size.
fn write(inner: &Inner, entry: &Entry) -> io::Result<(PathBuf, u64)> {
    let Place::Memory(blocks) = &entry.body.place else { return Err(io::Error::other("it is not in memory")) };
    let (path, file) = inner.create()?;
    let written = || {
        let mut writer = Writer::begin(file, nonce(entry.body.length), &entry.head)?;
        for block in blocks.iter() {
            writer.push(block)?;
        }
        writer.finish(&entry.head)
    };
    match written() {
        Ok((_, _, size)) => Ok((path, size)),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Gives a finished file its name, if it still counts.
fn commit(inner: &Inner, order: Order, temporary: &Path, size: u64) -> io::Result<()> {
    if !inner.lock().index.begin_commit(order.id, order.stamp) {
        return fs::remove_file(temporary);
    }
    let path = inner.path(order.id);
    let renamed = fs::rename(temporary, &path).or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(folder)) => {
            fs::create_dir_all(folder)?;
            fs::rename(temporary, &path)
        }
        _ => Err(error),
    });
    if let Err(error) = renamed {
        let _ = fs::remove_file(temporary);
        return Err(error);
    }
    inner.lock().index.commit(order.id, order.stamp, size);
    inner.counts.written.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Brings the head of a large file up to date. Whether it fits.
fn update(inner: &Inner, order: Order, head: &Head, stored: &super::StoredFile) -> io::Result<bool> {
    let file = File::options().read(true).write(true).open(inner.path(order.id))?;
    let opened = format::open(&file).map_err(io::Error::other)?;
    Ok(opened.layout == stored.layout() && opened.layout.update(&file, head, opened.length, opened.sequence + 1)?)
}
