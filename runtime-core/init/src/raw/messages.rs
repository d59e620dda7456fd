//! Calls on the wake socket.

use core::mem::{size_of, zeroed};

use super::{Outcome, call3, call6, word};

/// `sendto` of `bytes` on a connected socket, without SIGPIPE.
pub fn send(socket: i32, bytes: &[u8]) -> Outcome<()> {
    loop {
        let (at, flags) = (bytes.as_ptr().expose_provenance(), word(libc::MSG_NOSIGNAL));
        // SAFETY: the kernel reads `bytes`, which outlive the call; there is no address.
        let sent = unsafe {
            call6(
                libc::SYS_sendto,
                [word(socket), at, bytes.len(), flags, 0, 0],
            )
        };
        match sent {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other.map(drop),
        }
    }
}

/// `sendmsg` of one byte that carries the descriptor `passenger`.
pub fn send_with_fd(socket: i32, byte: u8, passenger: i32) -> Outcome<()> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: i32,
        padding: i32,
    }
    // SAFETY: all bytes zero is a valid value of both (null pointers, zero lengths).
    let (mut message, mut control): (libc::msghdr, Control) = unsafe { (zeroed(), zeroed()) };
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    #[allow(
        clippy::useless_conversion,
        reason = "the field's type differs between C libraries"
    )]
    {
        // CMSG_LEN: the header and one int, without the padding.
        control.header.cmsg_len = size_of::<libc::cmsghdr>()
            .wrapping_add(size_of::<i32>())
            .try_into()
            .unwrap_or(0);
        message.msg_controllen = size_of::<Control>().try_into().unwrap_or(0);
    }
    control.fd = passenger;
    let payload = byte;
    let mut vector = libc::iovec {
        iov_base: (&raw const payload).cast_mut().cast(),
        iov_len: 1,
    };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    loop {
        let at = (&raw const message).expose_provenance();
        // SAFETY: `message` points to one vector over one readable byte and to one whole control
        //         message; all outlive the call, and the kernel only reads them.
        let sent = unsafe {
            call3(
                libc::SYS_sendmsg,
                word(socket),
                at,
                word(libc::MSG_NOSIGNAL),
            )
        };
        match sent {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other.map(drop),
        }
    }
}
