//! A record on its way to the disk, and how all who wait for one batch are told of it at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::account::Nonce;

use super::{LogId, NotDurable, Receipt};

/// A record on its way to the disk. It is written whether or not this is awaited.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    ticket: Result<Ticket, NotDurable>,
    /// Where our waker stands among those of the batch.
    slot: Option<usize>,
    nonce: Option<Nonce>,
    log: LogId,
}

impl Pending {
    /// Waits for `ticket`, a place in `log`; the receipt will carry `nonce`.
    pub(super) fn new(ticket: Result<Ticket, NotDurable>, nonce: Option<Nonce>, log: LogId) -> Self {
        Self { ticket, slot: None, nonce, log }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, NotDurable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { ticket, slot, nonce, log } = &mut *self;
        match ticket {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(ticket) => ticket.poll(slot, cx).map_ok(|index| Receipt::issue(*nonce, log.decision(index))),
        }
    }
}

/// A place in a batch.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) fate: Arc<Fated>,
    pub(super) nth: u64,
}

impl Ticket {
    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<u64, NotDurable>> {
        if !self.fate.is_settled() {
            self.fate.wait(slot, cx.waker());
        }
        match self.fate.result.get() {
            None => Poll::Pending,
            Some(Ok(first)) => Poll::Ready(Ok(first + self.nth)),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
        }
    }

    /// The index, if the record is durable already.
    pub(super) fn index(&self) -> Option<u64> {
        self.fate.result.get()?.as_ref().ok().map(|first| first + self.nth)
    }
}

/// What became of a batch, for all who have a record in it.
#[derive(Debug, Default)]
pub(super) struct Fated {
    /// The index of the batch's first record.
    result: OnceLock<Result<u64, NotDurable>>,
    waiters: Mutex<Vec<Waker>>,
}

impl Fated {
    /// Whether it is known.
    pub(super) fn is_settled(&self) -> bool {
        self.result.get().is_some()
    }

    fn wait(&self, slot: &mut Option<usize>, waker: &Waker) {
        let mut waiters = lock(&self.waiters);
        if self.is_settled() {
            return;
        }
        match slot.and_then(|slot| waiters.get_mut(slot)) {
            Some(waiter) => waiter.clone_from(waker),
            None => {
                *slot = Some(waiters.len());
                waiters.push(waker.clone());
            }
        }
    }

    /// Tells all who wait, at once.
    pub(super) fn settle(&self, result: Result<u64, NotDurable>) {
        let waiters = {
            let mut waiters = lock(&self.waiters);
            // Set once, by the writer or by who looks after it; what comes second comes in vain.
            let _ = self.result.set(result);
            std::mem::take(&mut *waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }
}

/// The lock, also after a panic of another holder.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole before anything in it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
