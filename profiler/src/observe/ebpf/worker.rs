//! A thread for work that may hang, as reading a file does whose file system is hostile or dead. Who asks it for something
//! waits for so long and no longer.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::kernel::shed::{self, Capabilities};

/// How long a turn is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker does.
pub trait Job: Send + 'static {
    /// Before the first turn, by the thread itself. Whoever starts it waits for this.
    fn begin(&mut self) {}

    /// A turn.
    fn work(&mut self);

    /// Until there may be something to do again, and not much longer if there is not.
    fn rest(&mut self);
}

/// A thread that works in turns. It ends after its turn when this is dropped.
pub struct Worker {
    turns: Arc<Turns>,
    patience: Duration,
}

#[derive(Default)]
struct Turns {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    wanted: u64,
    done: u64,
    /// A turn that was waited for in vain.
    missed: u64,
}

impl Worker {
    /// Starts a thread that works and rests.
    pub fn start(patience: Duration, mut job: impl Job) -> Self {
        let turns = Arc::new(Turns::default());
        let theirs = Arc::downgrade(&turns);
        let (begun, has_begun) = mpsc::channel::<()>();
        thread::spawn(move || {
            job.begin();
            drop(begun);
            while let Some(turns) = theirs.upgrade() {
                let wanted = lock(&turns.state).wanted;
                job.work();
                lock(&turns.state).done = wanted;
                turns.done.notify_all();
                drop(turns);
                job.rest();
            }
        });
        let _ = has_begun.recv(); // nothing is ever sent
        Worker { turns, patience }
    }

    /// Waits for the end of a turn that begins now. False when it takes too long; then nobody waits again until it has ended.
    pub fn turn(&self) -> bool {
        let mut state = lock(&self.turns.state);
        state.wanted += 1;
        let mine = state.wanted;
        let hangs = state.done < state.missed;
        let patience = if hangs { Duration::ZERO } else { self.patience };
        let (mut state, _) = self
            .turns
            .done
            .wait_timeout_while(state, patience, |state| state.done < mine)
            .unwrap_or_else(PoisonError::into_inner);
        if state.done < mine && !hangs {
            state.missed = mine;
        }
        state.done >= mine
    }
}

/// Keeps what the calling thread's work needs.
pub fn keep(kept: Capabilities) {
    if let Err(error) = shed::keep(kept) {
        tracing::warn!("a thread keeps more privileges than it needs: {error}");
    }
}

/// What a mutex guards, whatever happened to others that held it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Instant,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    struct Closure<F>(F);

    impl<F: FnMut() + Send + 'static> Job for Closure<F> {
        fn work(&mut self) {
            (self.0)();
        }

        fn rest(&mut self) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_turn_that_is_waited_for_began_after_that() {
        let (done, theirs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (count, asked) = (Arc::clone(&done), Arc::clone(&theirs));
        let work = move || count.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
        let worker = Worker::start(LONG, Closure(work));
        for turn in 1..100 {
            theirs.store(turn, Ordering::SeqCst);
            assert!(worker.turn());
            assert_eq!(done.load(Ordering::SeqCst), turn);
        }
    }

    #[test]
    fn work_that_hangs_is_waited_for_once() {
        let (let_go, held) = mpsc::channel::<()>();
        let work = move || {
            let _ = held.recv(); // until a word, or for ever no more
        };
        let mut worker = Worker::start(Duration::from_millis(1), Closure(work));
        assert!(!worker.turn());
        worker.patience = LONG;
        let begun = Instant::now();
        assert!(!worker.turn() && !worker.turn());
        assert!(begun.elapsed() < LONG);
        drop(let_go);
        while !worker.turn() {
            thread::yield_now();
        }
        assert!(worker.turn());
    }
}
