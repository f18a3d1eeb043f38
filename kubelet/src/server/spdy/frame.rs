//! Frames of SPDY/3.1 (upstream: github.com/moby/spdystream).
use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{headers, number};

const VERSION: u16 = 3;
const MAX_FRAME: usize = 1 << 20;
const FIN: u8 = 1;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        id: u32,
        headers: Vec<(String, String)>,
        fin: bool,
    },
    Reply {
        id: u32,
    },
    Reset {
        id: u32,
        status: u32,
    },
    Data {
        id: u32,
        data: Bytes,
        fin: bool,
    },
    Window {
        id: u32,
        delta: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings and headers: nothing here depends on them.
    Other,
}

/// Reads one frame; `None` at the end of the stream.
pub(super) async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    decoder: &mut headers::Decoder,
) -> io::Result<Option<Frame>> {
    let mut head = [0; 8];
    match reader.read_exact(&mut head).await {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    };
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame is too long"));
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    let payload = Bytes::from(payload);
    let flags = head[4];
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if first >> 31 == 0 {
        return Ok(Some(Frame::Data { id: first, data: payload, fin: flags & FIN != 0 }));
    }
    control((first & 0xffff) as u16, flags, payload, decoder).map(Some)
}

fn control(kind: u16, flags: u8, mut payload: Bytes, decoder: &mut headers::Decoder) -> io::Result<Frame> {
    let stream = |payload: &mut Bytes| number(payload).map(|id| id & 0x7fff_ffff);
    Ok(match kind {
        1 => {
            let id = stream(&mut payload)?;
            number(&mut payload)?;
            if payload.len() < 2 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame is too short"));
            }
            let headers = decoder.decode(&payload.slice(2..))?;
            Frame::Open { id, headers, fin: flags & FIN != 0 }
        }
        2 => {
            let id = stream(&mut payload)?;
            decoder.decode(&payload)?;
            Frame::Reply { id }
        }
        3 => Frame::Reset { id: stream(&mut payload)?, status: number(&mut payload)? },
        6 => Frame::Ping { id: number(&mut payload)? },
        7 => Frame::GoAway,
        8 => {
            stream(&mut payload)?;
            // Header blocks share one compression state: each must be read, wanted or not.
            decoder.decode(&payload)?;
            Frame::Other
        }
        9 => Frame::Window { id: stream(&mut payload)?, delta: number(&mut payload)? & 0x7fff_ffff },
        _ => Frame::Other,
    })
}

/// Writes frames until nobody sends any more.
pub(super) async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut encoder = headers::Encoder::new();
    while let Some(frame) = frames.recv().await {
        writer.write_all(&encode(&frame, &mut encoder)?).await?;
        writer.flush().await?;
    }
    Ok(())
}

/// The bytes of a frame.
pub(super) fn encode(frame: &Frame, encoder: &mut headers::Encoder) -> io::Result<Bytes> {
    let mut payload = BytesMut::new();
    let (kind, flags) = match frame {
        Frame::Data { id, data, fin } => {
            let mut bytes = BytesMut::with_capacity(8 + data.len());
            bytes.put_u32(id & 0x7fff_ffff);
            put_length(&mut bytes, u8::from(*fin), data.len());
            bytes.put_slice(data);
            return Ok(bytes.freeze());
        }
        Frame::Open { id, headers, fin } => {
            payload.put_u32(*id);
            payload.put_u32(0);
            payload.put_u16(0);
            payload.put_slice(&encoder.encode(headers)?);
            (1, u8::from(*fin))
        }
        Frame::Reply { id } => {
            payload.put_u32(*id);
            payload.put_slice(&encoder.encode(&[])?);
            (2, 0)
        }
        Frame::Reset { id, status } => {
            payload.put_u32(*id);
            payload.put_u32(*status);
            (3, 0)
        }
        Frame::Ping { id } => {
            payload.put_u32(*id);
            (6, 0)
        }
        Frame::Window { id, delta } => {
            payload.put_u32(*id);
            payload.put_u32(*delta);
            (9, 0)
        }
        Frame::GoAway | Frame::Other => {
            payload.put_u32(0);
            payload.put_u32(0);
            (7, 0)
        }
    };
    let mut bytes = BytesMut::with_capacity(8 + payload.len());
    bytes.put_u16(0x8000 | VERSION);
    bytes.put_u16(kind);
    put_length(&mut bytes, flags, payload.len());
    bytes.put_slice(&payload);
    Ok(bytes.freeze())
}

fn put_length(bytes: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    bytes.put_u32(u32::from(flags) << 24 | length);
}
