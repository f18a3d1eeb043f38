//! The body of a long list, which makes its next chunk when it is asked for it.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use api::ApiError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;

use super::envelope::Envelope;
use super::form::Form;
use super::{CHUNK, LOOKED, SOURCE};
use crate::registry::Cursor;

/// A list that is being written.
pub(super) struct ListBody {
    form: Form,
    cursor: Cursor,
    /// Not written yet: whether there are items decides how it looks.
    envelope: Option<Envelope>,
    tail: Vec<u8>,
    is_done: bool,
    /// What was made and not read.
    ready: VecDeque<Bytes>,
    zipper: Option<GzEncoder<Vec<u8>>>,
}

impl ListBody {
    pub(super) fn new(form: Form, envelope: Envelope, cursor: Cursor) -> Self {
        Self {
            form,
            cursor,
            envelope: Some(envelope),
            tail: Vec::new(),
            is_done: false,
            ready: VecDeque::new(),
            zipper: None,
        }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Writes on, about up to `enough` bytes. It may be that nothing is written because nothing was found yet.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> Result<(), ApiError> {
        let mut source = 0;
        let (form, envelope, tail) = (&self.form, &mut self.envelope, &mut self.tail);
        self.cursor.read(LOOKED, |cached| {
            let is_first = envelope.is_some();
            if let Some(begun) = envelope.take() {
                out.extend_from_slice(&begun.head);
                *tail = begun.tail;
            }
            form.write(cached, is_first, out)?;
            source += cached.size();
            Ok::<_, ApiError>(out.len() < enough && source < SOURCE)
        })?;
        if self.cursor.is_at_end() {
            if let Some(envelope) = self.envelope.take() {
                let Envelope { head, tail } = self.form.empty(envelope);
                out.extend_from_slice(&head);
                self.tail = tail;
            }
            out.append(&mut self.tail);
            self.is_done = true;
        }
        Ok(())
    }

    /// The rest as a body behind what was written.
    pub(super) fn behind(mut self, begun: Vec<u8>, zips: bool) -> io::Result<Self> {
        if zips {
            let mut zipper = GzEncoder::new(Vec::new(), Compression::fast());
            zipper.write_all(&begun)?;
            self.zipper = Some(zipper);
        } else {
            self.ready.push_back(begun.into());
        }
        Ok(self)
    }

    /// Makes the next chunk, if there is something for it.
    fn make(&mut self) -> Result<(), ApiError> {
        let mut chunk = Vec::with_capacity(CHUNK + CHUNK / 8);
        self.write(&mut chunk, CHUNK)?;
        let Some(zipper) = &mut self.zipper else {
            self.ready.extend((!chunk.is_empty()).then(|| Bytes::from(chunk)));
            return Ok(());
        };
        zipper.write_all(&chunk).map_err(ApiError::internal)?;
        let zipped = if self.is_done {
            self.zipper.take().map_or_else(|| Ok(Vec::new()), GzEncoder::finish).map_err(ApiError::internal)?
        } else if zipper.get_ref().len() >= CHUNK / 2 {
            std::mem::take(zipper.get_mut())
        } else {
            return Ok(());
        };
        self.ready.push_back(zipped.into());
        Ok(())
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let this = self.get_mut();
        if let Some(chunk) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if this.is_done {
            return Poll::Ready(None);
        }
        if let Err(err) = this.make() {
            // What was sent cannot be taken back: the client sees that the answer was cut.
            tracing::error!(error = &err as &dyn std::error::Error, "a list cannot be written to its end");
            this.is_done = true;
            return Poll::Ready(Some(Err(err)));
        }
        match this.ready.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None if this.is_done => Poll::Ready(None),
            None => {
                // Others have their turn before the search goes on.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done && self.ready.is_empty()
    }
}
