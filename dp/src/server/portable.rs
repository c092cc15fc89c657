//! Where pages of files cannot be given to sockets as they are: other systems than Linux, and the feature `portable`, by
//! which this way is compiled and tested on Linux. Nothing is mapped, so no answer has a region, and every body is read on
//! the blocking pool ([`super::body`]). The names are those of [`super::lease`] and [`super::push`].

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::open::OpenContent;

/// There is no lease.
#[derive(Debug)]
pub(super) enum Lease {}

/// No leases at all.
#[derive(Debug, Default)]
pub(super) struct Leases;

/// A file without one.
#[derive(Debug, Default)]
pub(super) struct Leased {}

impl Leased {
    pub(super) fn current(&self) -> Option<Arc<Lease>> {
        None
    }

    pub(super) fn take(&self, _: &Arc<Leases>, _: &Arc<File>) {}

    pub(super) fn take_of_arriving(&self, _: &Arc<Leases>, _: &Arc<File>) {}

    pub(super) fn is_whole(&self) {}

    pub(super) fn renew(&self, _: &Arc<Leases>, _: &Arc<File>) {}
}

/// No file has a region.
pub(super) fn map(_: &File, _: u64) -> Option<Bytes> {
    None
}

/// Regions that are never met.
#[derive(Debug, Default)]
pub(super) struct Regions;

impl Regions {
    pub(super) fn expect(&self, _: &Arc<OpenContent>) {}
}

/// No slice is a part of a region.
pub(super) enum Part {}

impl Part {
    pub(super) fn find(_: &[IoSlice<'_>], _: &Regions) -> Option<Self> {
        None
    }
}

/// Sends nothing by itself.
#[derive(Debug)]
pub(super) struct Pusher;

impl Pusher {
    pub(super) fn new(_: &TcpStream) -> Self {
        Self
    }

    pub(super) fn count_others(&self, _: usize) {}

    pub(super) fn let_go(&mut self, _: &TcpStream) {}

    pub(super) fn poll_push(
        &mut self,
        _: &mut Context<'_>,
        _: &TcpStream,
        part: &Part,
    ) -> Poll<io::Result<(usize, usize)>> {
        match *part {}
    }
}
