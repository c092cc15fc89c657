//! What of a file this machine has in other content, as the machine knows it.

use std::ops::Range;

/// What of the file this machine has in other content.
pub(super) struct Earlier {
    /// Its number among the sources.
    pub(super) source: usize,
    /// In order, and apart from each other.
    pub(super) spans: Vec<Range<u64>>,
}

impl Earlier {
    /// The end of the span in which `at` is.
    pub(super) fn end(&self, at: u64) -> Option<u64> {
        self.spans.iter().find(|span| span.contains(&at)).map(|span| span.end)
    }

    /// The beginning of the first span behind `at`.
    pub(super) fn next(&self, at: u64) -> Option<u64> {
        self.spans.iter().map(|span| span.start).find(|start| *start > at)
    }

    /// These bytes are not here, or not right.
    pub(super) fn forget(&mut self, gone: Range<u64>) {
        let parts = std::mem::take(&mut self.spans).into_iter().flat_map(|span| {
            let before = span.start..span.end.min(gone.start);
            let behind = span.start.max(gone.end)..span.end;
            [before, behind].into_iter().filter(|part| !part.is_empty())
        });
        self.spans = parts.collect();
    }
}
