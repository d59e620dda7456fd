//! ttrpc frames on a stream: ten bytes of header, then a protobuf message. Types and limits are ttrpc's.

use std::io;
use std::time::Duration;

use protobuf::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use ttrpc::proto::{
    MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE,
    MessageHeader, Status,
};
use ttrpc::{Code, Request, Response};

/// From the first byte of a frame to its last: whoever drips bytes must not hold memory for ever.
const WHOLE_FRAME: Duration = Duration::from_secs(30);

/// A header, once one has begun to arrive; `None` at the end of the stream.
pub async fn receive_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<MessageHeader>> {
    let mut bytes = [0; MESSAGE_HEADER_LENGTH];
    let begun = stream.read(&mut bytes).await?;
    if begun == 0 {
        return Ok(None);
    }
    if begun < bytes.len() {
        bounded(stream.read_exact(&mut bytes[begun..])).await?;
    }
    Ok(Some(MessageHeader::from(bytes)))
}

/// The payload that belongs to `header`, whose length the caller has checked.
pub async fn receive_payload(
    stream: &mut (impl AsyncRead + Unpin),
    header: &MessageHeader,
) -> io::Result<Vec<u8>> {
    let mut payload = vec![0; header.length as usize];
    bounded(stream.read_exact(&mut payload)).await?;
    Ok(payload)
}

/// Whether the payload is larger than the protocol allows.
pub fn is_oversized(header: &MessageHeader) -> bool {
    header.length as usize > MESSAGE_LENGTH_MAX
}

/// Reads and forgets the payload of an oversized frame, so that the connection can go on.
pub async fn discard_payload(
    stream: &mut (impl AsyncRead + Unpin),
    header: &MessageHeader,
) -> io::Result<()> {
    let discard = async {
        let mut rest = stream.take(header.length.into());
        let copied = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        if copied == u64::from(header.length) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    bounded(discard).await
}

async fn bounded<T>(read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(WHOLE_FRAME, read)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends a whole response frame. An answer that is too large becomes an error answer.
pub async fn send_response(
    stream: &mut (impl AsyncWrite + Unpin),
    id: u32,
    response: &Response,
) -> io::Result<()> {
    let mut payload = response.write_to_bytes().map_err(io::Error::other)?;
    if payload.len() > MESSAGE_LENGTH_MAX {
        payload = refusal(Code::RESOURCE_EXHAUSTED, "the answer is larger than 4 MiB")
            .write_to_bytes()
            .map_err(io::Error::other)?;
    }
    send(stream, MESSAGE_TYPE_RESPONSE, id, &payload).await
}

/// Sends a whole request frame.
pub async fn send_request(
    stream: &mut (impl AsyncWrite + Unpin),
    id: u32,
    request: &Request,
) -> io::Result<()> {
    send(
        stream,
        MESSAGE_TYPE_REQUEST,
        id,
        &request.write_to_bytes().map_err(io::Error::other)?,
    )
    .await
}

/// One write for header and payload: two would be two wake-ups of the reader.
async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    id: u32,
    payload: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(MESSAGE_HEADER_LENGTH + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await
}

/// What came back for a request.
#[derive(Debug)]
pub enum Reply {
    /// A frame that is not the answer to it.
    Other,
    /// Success.
    Accepted,
    /// An error status.
    Refused {
        /// Its code.
        code: Code,
        /// Its text.
        text: String,
    },
}

/// The next frame from a server, judged as the answer to request `id`.
pub async fn receive_reply(stream: &mut (impl AsyncRead + Unpin), id: u32) -> io::Result<Reply> {
    let header = receive_header(stream)
        .await?
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    if is_oversized(&header) {
        discard_payload(stream, &header).await?;
        return Ok(Reply::Other);
    }
    let payload = receive_payload(stream, &header).await?;
    if header.type_ != MESSAGE_TYPE_RESPONSE || header.stream_id != id {
        return Ok(Reply::Other);
    }
    let response = Response::parse_from_bytes(&payload).map_err(io::Error::other)?;
    match response.status.code.enum_value_or(Code::UNKNOWN) {
        Code::OK => Ok(Reply::Accepted),
        code => Ok(Reply::Refused {
            code,
            text: response.status.message.clone(),
        }),
    }
}

/// An answer that carries only an error.
pub fn refusal(code: Code, text: impl Into<String>) -> Response {
    let status = Status {
        code: code.into(),
        message: text.into(),
        ..Status::default()
    };
    Response {
        status: Some(status).into(),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let request = Request {
            service: "s".into(),
            method: "m".into(),
            payload: vec![7; 300],
            ..Request::default()
        };
        let mut wire = Vec::new();
        block_on(send_request(&mut wire, 3, &request)).unwrap();
        let mut reader = wire.as_slice();
        let header = block_on(receive_header(&mut reader)).unwrap().unwrap();
        assert_eq!((header.stream_id, header.type_), (3, MESSAGE_TYPE_REQUEST));
        let payload = block_on(receive_payload(&mut reader, &header)).unwrap();
        assert_eq!(Request::parse_from_bytes(&payload).unwrap(), request);
        assert!(block_on(receive_header(&mut reader)).unwrap().is_none());
    }

    #[test]
    fn an_answer_that_is_too_large_is_an_error_to_its_caller() {
        let response = Response {
            payload: vec![0; MESSAGE_LENGTH_MAX + 1],
            ..Response::default()
        };
        let mut wire = Vec::new();
        block_on(send_response(&mut wire, 1, &response)).unwrap();
        assert!(wire.len() < 200);
        let reply = block_on(receive_reply(&mut wire.as_slice(), 1)).unwrap();
        assert!(matches!(
            reply,
            Reply::Refused {
                code: Code::RESOURCE_EXHAUSTED,
                ..
            }
        ));
    }

    #[test]
    fn a_header_that_breaks_off_is_an_error_not_an_end() {
        assert!(block_on(receive_header(&mut [0u8, 0, 0].as_slice())).is_err());
    }
}
