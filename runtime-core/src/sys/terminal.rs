//! Terminals: the size of a window (ioctl_tty(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::checked;

/// `ioctl(fd, TIOCSWINSZ)`: the size in characters; the foreground group gets SIGWINCH if it changed.
pub fn set_window_size(fd: BorrowedFd<'_>, columns: u16, rows: u16) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` is a valid winsize that outlives the call; the kernel copies it. `fd` is open.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
        .map(drop)
}

/// `ioctl(fd, TIOCGWINSZ)`: (columns, rows).
pub fn window_size(fd: BorrowedFd<'_>) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` is a valid winsize that outlives the call. `fd` is open.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_col, size.ws_row))
}
