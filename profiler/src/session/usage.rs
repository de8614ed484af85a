//! Looks at the containers that are recorded, from a thread of its own: what they use beside calls and capabilities.
//!
//! Soon after a container's entry point runs, twice a second from then on, and when its last process has ended: what it wrote can be read until
//! the engine removes it. It takes at most a twentieth of a processor, so with many containers it looks less often. Nothing that it
//! cannot read ends a recording; what its results rest on is in them. A file system may hang it: who waits for it waits for a bounded time.

mod watch;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    time::{ClockId, clock_gettime},
};

use self::watch::{Images, Looked, Watch};
use super::event::brief_list;
use crate::{
    kernel::{
        cgroup::CgroupSetup,
        shed,
        usage::{
            image::{MAX_ORIGINALS, MAX_RESTRICTED},
            layer::MAX_CHANGES,
        },
    },
    model::usage::{Image, Root, Usage},
    target::cgroup::{self, container_id_in},
};

/// Between two looks at one container, when there is time; the first ones are closer together.
const EVERY: Duration = Duration::from_millis(500);
const FIRST: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(250)];

/// The same, while its entry point does not run yet; and when that takes long.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(10);

/// How long the cgroup of a container that was made is looked for.
const JUST_MADE: Duration = Duration::from_secs(5);

/// How much longer than looking is not looking.
const SHARE: u32 = 20;

/// How long an image is walked over at a time, and how long all of them are at the end.
const WALK: Duration = Duration::from_millis(10);
const LAST_WALK: Duration = Duration::from_secs(1);

/// How long the thread is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many containers of a run are looked at.
const MAX_CONTAINERS: usize = 1_024;

/// A container that started.
pub struct Started {
    /// Which of the targets it is of.
    pub target: usize,
    /// Its id.
    pub id: String,
    /// The id of its cgroup.
    pub cgroup: u64,
    /// It ran before the recording began: its processor time so far is not the run's.
    pub ran_before: bool,
    /// The lowest port that needs no capability in its network namespace, if that could be asked.
    pub port_start: Option<u16>,
}

enum Message {
    Made(Made),
    Started(Started),
    End(mpsc::Sender<()>),
}

/// A container that was made and may start at any time.
struct Made {
    target: usize,
    id: String,
    at: Instant,
}

/// What is known of each container, by target and id, and since when.
type Results = Arc<Mutex<BTreeMap<(usize, String), (Usage, Instant)>>>;

/// The thread, for those that it works for.
pub struct Sampler {
    messages: mpsc::Sender<Message>,
    bell: PipeWriter,
    results: Results,
}

impl Sampler {
    /// Starts the thread, which keeps of the privileges what looking takes.
    ///
    /// # Errors
    /// When the kernel has no pipe for it.
    pub fn start(setup: CgroupSetup) -> io::Result<Sampler> {
        let (door, bell) = pipe()?;
        let (messages, inbox) = mpsc::channel();
        let results = Results::default();
        let theirs = Arc::clone(&results);
        let (begun, has_begun) = mpsc::channel::<()>();
        thread::Builder::new().name("usage".to_owned()).spawn(move || {
            if let Err(error) = shed::keep(shed::LOOKING) {
                tracing::warn!("a thread keeps more privileges than it needs: {error}");
            }
            drop(begun);
            let (made, watches) = (Vec::new(), Vec::new());
            let images = Images::default();
            Thread { setup, door, inbox, results: theirs, made, watches, images }.run();
        })?;
        let _ = has_begun.recv(); // nothing is ever sent
        Ok(Sampler { messages, bell, results })
    }

    /// A container was made: its cgroup is looked for, and looked at when it is there, for a while.
    pub fn expect(&mut self, target: usize, id: &str) {
        self.send(Message::Made(Made { target, id: id.to_owned(), at: Instant::now() }));
    }

    /// Looks at a container from now on.
    pub fn follow(&mut self, started: Started) {
        let key = (started.target, started.id.clone());
        let mut results = lock(&self.results);
        if results.len() < MAX_CONTAINERS {
            results.entry(key).or_insert_with(|| (Usage::default(), Instant::now()));
        }
        drop(results);
        self.send(Message::Started(started));
    }

    /// A last look at those that run. What was seen of each container, by its target's number and its id.
    pub fn end(mut self) -> BTreeMap<(usize, String), Usage> {
        let (done, is_done) = mpsc::channel();
        self.send(Message::End(done));
        let is_late = is_done.recv_timeout(PATIENCE).is_err();
        let seen = std::mem::take(&mut *lock(&self.results)).into_iter();
        seen.map(|(key, (mut usage, at))| {
            if is_late {
                usage.longest_gap_ms = usage.longest_gap_ms.max(milliseconds(at.elapsed()));
            }
            (key, usage)
        })
        .collect()
    }

    fn send(&mut self, message: Message) {
        // without a thread there is nobody to look
        let _ = self.messages.send(message);
        let _ = self.bell.write_all(b"\n");
    }
}

/// What the containers of one target used, together; `None` when none was looked at.
pub fn joined(all: impl IntoIterator<Item = Usage>) -> Option<Usage> {
    let mut joined = all.into_iter().reduce(Usage::joined)?.canonical();
    bound(&mut joined);
    Some(joined)
}

/// What is not known of some of the containers of a target that has several, by their names: who reads the advice of all of them wants
/// to know on whose account it is none.
pub fn unseen(all: &[(&str, &Usage)]) -> Vec<String> {
    if all.len() < 2 {
        return Vec::new();
    }
    let mut by_what: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, usage) in all {
        if let Root::Unknown { reason } = &usage.root {
            let what = format!("what was written to the root is not known ({reason})");
            by_what.entry(what).or_default().push(name);
        }
        if usage.image.is_none() {
            let what = "whose the files of the image are is not known".to_owned();
            by_what.entry(what).or_default().push(name);
        }
    }
    by_what.into_iter().map(|(what, names)| format!("{what} of {}", brief_list(names))).collect()
}

/// Keeps as much of the changes of many containers as of one.
fn bound(usage: &mut Usage) {
    if let Root::Layer { changes, more } = &mut usage.root {
        while changes.len() > MAX_CHANGES {
            changes.pop_last();
            *more += 1;
        }
    }
    if let Some(Image { originals, restricted, more }) = &mut usage.image {
        for (kept, most) in [(originals, MAX_ORIGINALS), (restricted, MAX_RESTRICTED)] {
            while kept.len() > most {
                kept.pop_last();
                *more += 1;
            }
        }
    }
}

struct Thread {
    setup: CgroupSetup,
    door: PipeReader,
    inbox: mpsc::Receiver<Message>,
    results: Results,
    made: Vec<Made>,
    watches: Vec<Followed>,
    images: Images,
}

/// A container that lives, or lived.
struct Followed {
    target: usize,
    watch: Watch,
    /// Tells when its last process has ended; `None` when nothing more will be seen.
    events: Option<Events>,
    /// A process was in it.
    lived: bool,
    due: Instant,
    since: Instant,
    /// What the last look took of a processor.
    took: Duration,
}

impl Thread {
    fn run(mut self) {
        loop {
            self.wait();
            loop {
                match self.inbox.try_recv() {
                    Ok(Message::Made(made)) if self.made.len() < MAX_CONTAINERS => {
                        self.made.push(made)
                    }
                    Ok(Message::Made(_)) => {}
                    Ok(Message::Started(started)) => self.begin(started),
                    Ok(Message::End(done)) => {
                        for place in 0..self.watches.len() {
                            self.look(place, true);
                        }
                        let until = Instant::now() + LAST_WALK;
                        while Instant::now() < until && self.images.walk(WALK) {}
                        (0..self.watches.len()).for_each(|place| self.publish(place));
                        let _ = done.send(());
                        return;
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.find_made();
            self.images.walk(WALK);
            for place in 0..self.watches.len() {
                let one = &mut self.watches[place];
                let Some(events) = &one.events else { continue };
                let populated = events.is_populated();
                one.lived |= populated == Some(true);
                let has_ended = populated.is_none() || one.lived && populated == Some(false);
                if has_ended || one.due <= Instant::now() {
                    self.look(place, has_ended);
                }
                if has_ended {
                    self.watches[place].events = None;
                }
            }
        }
    }

    /// Until there is a message, a container's last process has ended, or one is due.
    fn wait(&mut self) {
        let live = || self.watches.iter().filter_map(|one| Some((one, one.events.as_ref()?)));
        let next = live().map(|(one, _)| one.due.saturating_duration_since(Instant::now())).min();
        let next = next
            .into_iter()
            .chain((!self.made.is_empty()).then_some(SOON))
            .chain((!self.images.are_walked()).then_some(WALK * SHARE))
            .min();
        let timeout = next.and_then(|next| Timespec::try_from(next).ok());
        let mut fds = vec![PollFd::new(&self.door, PollFlags::IN)];
        fds.extend(
            live().map(|(_, events)| PollFd::from_borrowed_fd(events.file.as_fd(), PollFlags::PRI)),
        );
        let _ = poll(&mut fds, timeout.as_ref()); // a signal wakes it as well
        let rings = !fds[0].revents().is_empty();
        drop(fds);
        if rings {
            // when nobody is there any more, the inbox says so, too
            let _ = self.door.read(&mut [0; 64]);
        }
    }

    /// Takes those that were made and are about to run.
    fn find_made(&mut self) {
        if self.made.is_empty() {
            return;
        }
        self.made.retain(|made| made.at.elapsed() < JUST_MADE);
        let tree = cgroup::at(&self.setup, self.setup.v2_tree.clone());
        let all = tree.and_then(|tree| cgroup::with_descendants(&tree)).unwrap_or_default();
        let outermost = |id: &str| {
            all.iter().find(|one| {
                let name = one.path.file_name().and_then(|name| name.to_str());
                name.and_then(container_id_in) == Some(id)
            })
        };
        let mut found = Vec::new();
        self.made.retain(|made| {
            let Some(cgroup) = outermost(&made.id) else { return true };
            found.push(Started {
                target: made.target,
                id: made.id.clone(),
                cgroup: cgroup.id,
                ran_before: false,
                port_start: None,
            });
            false
        });
        found.into_iter().for_each(|started| self.begin(started));
    }

    fn begin(&mut self, started: Started) {
        self.made.retain(|made| (made.target, &made.id) != (started.target, &started.id));
        let known = self
            .watches
            .iter()
            .position(|one| one.target == started.target && one.watch.id() == started.id);
        if known.is_some_and(|place| self.watches[place].watch.is_same_start(&started)) {
            return;
        }
        let now = Instant::now();
        let events = |watch: &Watch| watch.cgroup().and_then(Events::open);
        let place = match known {
            Some(place) => {
                let one = &mut self.watches[place];
                one.watch.again(&self.setup, started);
                (one.events, one.lived) = (events(&one.watch), false);
                (one.due, one.since) = (now, now);
                place
            }
            None if self.watches.len() < MAX_CONTAINERS => {
                let target = started.target;
                let watch = Watch::new(&self.setup, started, self.images.clone());
                let events = events(&watch);
                let took = Duration::ZERO;
                let lived = false;
                self.watches.push(Followed {
                    target,
                    watch,
                    events,
                    lived,
                    due: now,
                    since: now,
                    took,
                });
                self.watches.len() - 1
            }
            None => return,
        };
        if self.watches[place].events.is_none() {
            self.publish(place);
        }
    }

    fn look(&mut self, place: usize, last: bool) {
        let one = &mut self.watches[place];
        if one.events.is_none() {
            return;
        }
        let before = processor_time();
        let looked = one.watch.look(last);
        // looks differ: the tables of sockets are not read at each
        one.took = (one.took * 3 + processor_time().saturating_sub(before)) / 4;
        let now = Instant::now();
        match looked {
            Looked::NotYet => {
                let waits = now.duration_since(one.since) < LONG;
                one.due = now + if waits { SOON } else { LATER };
                if !last {
                    return;
                }
            }
            Looked::Times(looks) => {
                let all: Duration = self
                    .watches
                    .iter()
                    .filter(|one| one.events.is_some())
                    .map(|one| one.took)
                    .sum();
                let looks = usize::try_from(looks).unwrap_or(usize::MAX);
                let least = FIRST.get(looks.saturating_sub(1)).copied().unwrap_or(EVERY);
                self.watches[place].due = now + least.max(all * SHARE);
            }
        }
        self.publish(place);
    }

    fn publish(&self, place: usize) {
        let one = &self.watches[place];
        let key = (one.target, one.watch.id().to_owned());
        lock(&self.results).insert(key, (one.watch.usage(), Instant::now()));
    }
}

/// `cgroup.events`, which the kernel can wait for.
struct Events {
    file: File,
}

impl Events {
    fn open(cgroup: &std::path::Path) -> Option<Events> {
        Some(Events { file: File::open(cgroup.join("cgroup.events")).ok()? })
    }

    /// Whether a process lives there, `None` when it is gone. Reading it is what makes the kernel tell of the next change.
    fn is_populated(&self) -> Option<bool> {
        let mut bytes = [0; 256];
        let read = rustix::io::pread(&self.file, &mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(&bytes[..read]);
        Some(text.lines().any(|line| line == "populated 1"))
    }
}

/// What this thread has taken of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_containers_the_one_that_was_not_looked_at_is_named() {
        let unknown = |reason: &str| Usage {
            root: Root::Unknown { reason: reason.to_owned() },
            ..Usage::default()
        };
        let gone = unknown("it ended");
        let seen =
            Usage { root: Root::ReadOnly {}, image: Some(Image::default()), ..Usage::default() };
        assert!(unseen(&[("a", &gone)]).is_empty(), "there is no other one");
        assert!(unseen(&[("a", &seen), ("b", &seen)]).is_empty());
        let told = unseen(&[("a", &seen), ("b", &gone)]);
        assert_eq!(
            told,
            [
                "what was written to the root is not known (it ended) of `b`",
                "whose the files of the image are is not known of `b`"
            ]
        );
        let names: Vec<String> = (0..9).map(|number| format!("n{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), &gone)).collect();
        assert!(unseen(&many)[0].ends_with("of `n0`, `n1`, `n2`, `n3` and 5 more"));
        assert_eq!(joined([seen.clone(), gone.clone()]).expect("two").root, gone.root);
        assert_eq!(joined([]), None);
    }
}
