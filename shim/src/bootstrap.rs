//! What a caller of `start` wants: the bootstrap message of containerd ≥ 2.3, or an `Any` with options, or nothing.

use std::collections::HashMap;
use std::env;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::args::Args;
use crate::wire::Writer;

/// Which answer the caller understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// containerd ≥ 2.3: protobuf `BootstrapResult`, version 3.
    Bootstrap,
    /// containerd 1.6–2.2: the plain address. 1.7 refuses version 3 and can't be told from 2.0–2.2.
    Plain,
}

/// One call of `start`.
#[derive(Debug)]
pub struct Call {
    /// How to answer.
    pub protocol: Protocol,
    /// containerd's socket for events, empty if there is none.
    pub ttrpc_address: String,
    /// containerd's grpc socket; part of the name of our own.
    pub grpc_address: String,
    /// Where our socket has to be, if the caller says.
    pub socket_dir: Option<String>,
    /// Runtime options, if there are any.
    pub options: Vec<Any>,
    /// Log at debug level.
    pub debug: bool,
}

/// Log levels of the message at or below which everything is logged (`LOG_LEVEL_DEBUG`).
const DEBUG: i32 = -4;

/// Reads what came on stdin. An `Any` is a valid `BootstrapParams` too (its type url lands in
/// `instance_id`), so the message counts only if it names the id and the namespace of the flags.
pub fn decode(stdin: &[u8], args: &Args) -> Call {
    match BootstrapParams::parse_from_bytes(stdin) {
        Ok(params)
            if !stdin.is_empty()
                && params.instance_id == args.id
                && params.namespace == args.ctr_ns =>
        {
            Call {
                protocol: Protocol::Bootstrap,
                ttrpc_address: first_of(&[
                    params.containerd_ttrpc_address,
                    variable("TTRPC_ADDRESS"),
                ]),
                grpc_address: first_of(&[params.containerd_grpc_address, args.address.clone()]),
                socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()),
                options: params
                    .extensions
                    .into_iter()
                    .filter_map(|e| e.value.into_option())
                    .collect(),
                debug: args.debug || params.log_level.value() <= DEBUG,
            }
        }
        _ => Call {
            protocol: Protocol::Plain,
            ttrpc_address: variable("TTRPC_ADDRESS"),
            grpc_address: first_of(&[args.address.clone(), variable("GRPC_ADDRESS")]),
            socket_dir: None,
            options: Any::parse_from_bytes(stdin)
                .ok()
                .filter(|any| !any.type_url.is_empty())
                .into_iter()
                .collect(),
            debug: args.debug,
        },
    }
}

/// The answer that this caller understands. Nothing else may be on stdout or stderr.
pub fn encode(protocol: Protocol, address: &str) -> Vec<u8> {
    match protocol {
        Protocol::Plain => address.as_bytes().to_vec(),
        Protocol::Bootstrap => {
            let result = BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                metadata: HashMap::new(),
                ..BootstrapResult::default()
            };
            let mut bytes = Writer::new();
            bytes.message(&result);
            bytes.nested(RESULT_EXTENSIONS, |extension| {
                extension.nested(1, |any| {
                    any.text(1, "containerd.types.MountCapabilities");
                    any.nested(2, |_no_types_of_our_own| {});
                });
            });
            bytes.into_bytes()
        }
    }
}

/// Field `extensions` of `BootstrapResult` (containerd ≥ 2.4; not in containerd-shim-protos 0.12).
/// With `MountCapabilities` there, even empty, containerd saves the `-info` call at the first Create.
const RESULT_EXTENSIONS: u32 = 6;

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn first_of(candidates: &[String]) -> String {
    candidates
        .iter()
        .find(|c| !c.is_empty())
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            id: "c1".into(),
            ctr_ns: "k8s.io".into(),
            address: "/run/containerd/containerd.sock".into(),
            ..Args::default()
        }
    }

    #[test]
    fn options_on_stdin_are_not_taken_for_a_bootstrap_message() {
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: vec![0x48, 1],
            ..Any::default()
        };
        let call = decode(&any.write_to_bytes().unwrap(), &args());
        assert_eq!(call.protocol, Protocol::Plain);
        assert_eq!(call.options, [any]);
    }

    #[test]
    fn a_bootstrap_message_for_this_container_is_taken() {
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/x.ttrpc".into(),
            socket_dir: Some("/run/elsewhere".into()),
            ..BootstrapParams::default()
        };
        let call = decode(&params.write_to_bytes().unwrap(), &args());
        assert_eq!(call.protocol, Protocol::Bootstrap);
        assert_eq!(call.ttrpc_address, "/x.ttrpc");
        assert_eq!(call.grpc_address, "/run/containerd/containerd.sock");
        assert_eq!(call.socket_dir.as_deref(), Some("/run/elsewhere"));
    }

    #[test]
    fn an_empty_stdin_is_a_legacy_call_without_options() {
        let call = decode(&[], &args());
        assert_eq!(call.protocol, Protocol::Plain);
        assert!(call.options.is_empty());
    }

    #[test]
    fn the_answer_of_a_bootstrap_call_decodes_and_carries_mount_capabilities() {
        let bytes = encode(Protocol::Bootstrap, "unix:///run/containerd/s/abc");
        let result = BootstrapResult::parse_from_bytes(&bytes).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(result.address, "unix:///run/containerd/s/abc");
        assert!(String::from_utf8_lossy(&bytes).contains("containerd.types.MountCapabilities"));
    }
}
