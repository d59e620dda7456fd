//! A connection of ttrpc as the shim serves it: whatever comes, each request has one answer, every answer is a
//! whole frame, and the end of the stream is the end of the connection.

use std::time::Duration;

use protobuf::Message;
use rsrun_shim::fuzzing::{is_oversized, method, receive_header, receive_payload, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::LocalSet;
use tokio::time::timeout;
use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE};
use ttrpc::{Request, Response};

/// Far more than the slowest answer takes; the shim's own limits are longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub fn check(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    let Some(expected) = runtime.block_on(answered(data)) else {
        return;
    };
    let answers = LocalSet::new().block_on(&runtime, async {
        timeout(PATIENCE, conversation(data))
            .await
            .expect("the connection hangs")
    });
    let mut given = answers;
    given.sort_unstable();
    assert_eq!(given, expected, "requests and answers");
}

/// Ids of the frames that must be answered, sorted; `None` for what is not to be sent: a Create would be done, a
/// Wait has no end here.
async fn answered(data: &[u8]) -> Option<Vec<u32>> {
    let mut reader = data;
    let mut ids = Vec::new();
    let mut last = 0;
    while let Ok(Some(header)) = receive_header(&mut reader).await {
        if is_oversized(&header) {
            let Ok(length) = usize::try_from(header.length) else {
                return None;
            };
            if reader.len() < length {
                break;
            }
            reader = &reader[length..];
            ids.push(header.stream_id);
            continue;
        }
        // A length that is a lie must not cost its memory twice.
        if reader.len() < header.length as usize {
            break;
        }
        let Ok(payload) = receive_payload(&mut reader, &header).await else {
            break;
        };
        if header.type_ != MESSAGE_TYPE_REQUEST {
            continue;
        }
        ids.push(header.stream_id);
        if header.stream_id % 2 == 1 && header.stream_id > last {
            last = header.stream_id;
            if let Ok(request) = Request::parse_from_bytes(&payload) {
                let _ = method(&request);
                if request.method == "Create" {
                    return None;
                }
            }
        }
    }
    ids.sort_unstable();
    Some(ids)
}

/// Sends everything, closes this half once as many answers came as were due or none is to come, and reads on to
/// the end.
async fn conversation(data: &[u8]) -> Vec<u32> {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let served = tokio::task::spawn_local(serve(theirs));
    let (mut reader, mut writer) = ours.into_split();
    let due = answered(data).await.map_or(0, |ids| ids.len());
    let sending = async {
        let _ = writer.write_all(data).await;
        writer
    };
    let receiving = async {
        let mut ids = Vec::new();
        while ids.len() < due {
            let Ok(Some(header)) = receive_header(&mut reader).await else {
                break;
            };
            assert_eq!(header.type_, MESSAGE_TYPE_RESPONSE);
            let payload = receive_payload(&mut reader, &header)
                .await
                .expect("a whole answer");
            let response = Response::parse_from_bytes(&payload).expect("an answer");
            assert!(response.status.is_some(), "an answer without a status");
            ids.push(header.stream_id);
        }
        ids
    };
    let (writer, mut ids) = tokio::join!(sending, receiving);
    drop(writer);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest).await;
    // What nobody waits for would be an answer too many.
    if !rest.is_empty() {
        ids.push(u32::MAX);
    }
    served.await.expect("serving does not panic");
    ids
}
