//! The load generator: one thread, epoll, requests built beforehand, replies parsed no further than needed.
//!
//! It shares the machine's cores with the server that it measures, so it has to be cheap: about 3 µs a request.
//! Connections are kept alive and each has one request under way (a closed loop).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::figures::Histogram;

/// Where requests go, and what each is.
#[derive(Clone)]
pub(crate) struct Target {
    /// The server's address.
    pub(crate) address: Address,
    /// One whole HTTP/1.1 request.
    pub(crate) request: Vec<u8>,
}

/// A server's address.
#[derive(Clone)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// For peers that know nothing else.
    Tcp(SocketAddr),
}

/// What one drive measured.
pub(crate) struct Sample {
    /// Latencies of the answers with status 200.
    pub(crate) latencies: Histogram,
    /// Answers with another status.
    pub(crate) failures: u64,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

impl Sample {
    /// Answers with status 200 in a second.
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let count = self.latencies.count() as f64;
        count / self.took.as_secs_f64()
    }
}

/// Open connections to one server.
pub(crate) struct Connections {
    all: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
}

impl Connections {
    /// Connects `count` times; a full backlog is waited for.
    pub(crate) fn open(target: &Target, count: usize) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(count);
        for nth in 0..count {
            let connection = Connection::open(target)?;
            connection.stream.set_nonblocking(count > 1)?;
            epoll::add(&epoll, connection.stream.as_fd(), event(nth), epoll::EventFlags::IN)?;
            all.push(connection);
        }
        Ok(Self { all, epoll })
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Keeps every connection busy for `long`, then waits for the answers under way.
    ///
    /// With a `pause`, each connection rests that long after an answer.
    pub(crate) fn drive(&mut self, long: Duration, pause: Duration) -> std::io::Result<Sample> {
        let began = Instant::now();
        let mut sample = Sample { latencies: Histogram::new(), failures: 0, took: Duration::ZERO };
        if let [one] = self.all.as_mut_slice()
            && pause.is_zero()
        {
            while began.elapsed() < long {
                one.send()?;
                while !one.receive(&mut sample)? {}
            }
        } else {
            self.turn(began, long, pause, &mut sample)?;
        }
        sample.took = began.elapsed();
        Ok(sample)
    }

    /// Sends one request on each connection without waiting for answers.
    pub(crate) fn send_all(&mut self) -> std::io::Result<()> {
        self.all.iter_mut().try_for_each(Connection::send)
    }

    /// Waits for one answer on each connection to which a request was sent.
    pub(crate) fn receive_all(&mut self) -> std::io::Result<Sample> {
        let began = Instant::now();
        let mut sample = Sample { latencies: Histogram::new(), failures: 0, took: Duration::ZERO };
        self.turn(began, Duration::ZERO, Duration::ZERO, &mut sample)?;
        sample.took = began.elapsed();
        Ok(sample)
    }

    fn turn(&mut self, began: Instant, long: Duration, pause: Duration, sample: &mut Sample) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        // Where every pause is equally long, those who rest end their rest in the order in which they began it.
        let mut resting: std::collections::VecDeque<(Instant, usize)> = (0..self.all.len())
            .filter(|nth| !self.all[*nth].waiting && !long.is_zero())
            .map(|nth| (began + pause.mul_f64(spread(nth, self.all.len())), nth))
            .collect();
        let mut waiting = self.all.iter().filter(|connection| connection.waiting).count();
        loop {
            let now = Instant::now();
            let over = now.duration_since(began) >= long;
            while let Some((at, nth)) = resting.front().copied().filter(|(at, _)| over || *at <= now) {
                resting.pop_front();
                if !over {
                    debug_assert!(at <= now);
                    self.all[nth].send()?;
                    waiting += 1;
                }
            }
            if waiting == 0 && resting.is_empty() {
                return Ok(());
            }
            let patience = resting.front().map(|(at, _)| timespec(at.saturating_duration_since(now)));
            epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref().or(Some(&GIVE_UP)))?;
            if events.is_empty() && resting.is_empty() {
                return Err(std::io::Error::new(ErrorKind::TimedOut, format!("{waiting} requests are not answered")));
            }
            for event in events.drain(..) {
                let nth = usize::try_from(event.data.u64()).unwrap();
                let connection = &mut self.all[nth];
                if !connection.receive(sample)? {
                    continue;
                }
                waiting -= 1;
                if !pause.is_zero() {
                    resting.push_back((Instant::now() + pause, nth));
                } else if began.elapsed() < long {
                    connection.send()?;
                    waiting += 1;
                }
            }
        }
    }
}

const GIVE_UP: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap(), tv_nsec: i64::from(wait.subsec_nanos()) }
}

/// Connections that pause begin evenly spread over the first pause.
#[expect(clippy::cast_precision_loss, reason = "a count of connections")]
fn spread(nth: usize, of: usize) -> f64 {
    nth as f64 / of as f64
}

fn event(nth: usize) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(nth).unwrap())
}

struct Connection {
    stream: Stream,
    request: std::sync::Arc<[u8]>,
    waiting: bool,
    sent: Instant,
    reply: Box<[u8; 16 * 1024]>,
    filled: usize,
    shape: Shape,
}

impl Connection {
    fn open(target: &Target) -> std::io::Result<Self> {
        Ok(Self {
            stream: Stream::open(&target.address)?,
            request: target.request.as_slice().into(),
            waiting: false,
            sent: Instant::now(),
            reply: Box::new([0; 16 * 1024]),
            filled: 0,
            shape: Shape::default(),
        })
    }

    fn send(&mut self) -> std::io::Result<()> {
        self.sent = Instant::now();
        self.waiting = true;
        self.stream.write_all(&self.request)
    }

    /// Reads once. Whether the answer is whole; then it has been counted.
    fn receive(&mut self, sample: &mut Sample) -> std::io::Result<bool> {
        let read = match self.stream.read(&mut self.reply[self.filled..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        if read == 0 {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection"));
        }
        self.filled += read;
        if !self.shape.fits(&self.reply[..self.filled]) {
            return Ok(false);
        }
        if self.reply.starts_with(b"HTTP/1.1 200 ") {
            sample.latencies.record(self.sent.elapsed());
        } else {
            if sample.failures == 0 {
                eprintln!("{}", String::from_utf8_lossy(&self.reply[..self.filled]));
            }
            sample.failures += 1;
        }
        self.filled = 0;
        self.waiting = false;
        Ok(true)
    }
}

/// Where the last reply had its length and its end: the next one mostly has them in the same place.
#[derive(Default)]
struct Shape {
    length_at: usize,
    length: Vec<u8>,
    whole: usize,
}

impl Shape {
    /// Whether `reply` is whole.
    fn fits(&mut self, reply: &[u8]) -> bool {
        let same = reply[self.length_at.min(reply.len())..].starts_with(&self.length) && !self.length.is_empty();
        if !same && self.learn(reply).is_none() {
            return false;
        }
        reply.len() == self.whole
    }

    /// Reads `reply`'s header; none if it has not come whole.
    fn learn(&mut self, reply: &[u8]) -> Option<()> {
        const NAME: &[u8] = b"\r\ncontent-length: ";
        let head = reply.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let at = reply[..head].windows(NAME.len()).position(|name| name.eq_ignore_ascii_case(NAME));
        let at = at.expect("a reply without content-length") + NAME.len();
        // The value and all that follows it up to the body: if these bytes stand there again, the reply is as long.
        let digits = reply[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = std::str::from_utf8(&reply[at..at + digits]).unwrap().parse().unwrap();
        (self.length_at, self.length, self.whole) = (at, reply[at..at + digits + 2].to_vec(), head + length);
        Some(())
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn open(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Unix(path) => connect(path).map(Self::Unix),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn set_nonblocking(&self, on: bool) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(on),
            Self::Tcp(stream) => stream.set_nonblocking(on),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

/// Connects to a unix socket; blocks while its backlog is full.
fn connect(path: &std::path::Path) -> std::io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            connected => return connected,
        }
    }
}
