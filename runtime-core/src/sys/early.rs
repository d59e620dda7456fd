//! Can a program be in its sealed binary before the C library has started?
//!
//! Who executes itself again starts twice, and a static program takes 0.3 ms for it where a processor is virtual: glibc
//! asks what it can (each `cpuid` leaves the virtual machine), and two runtimes touch their pages. With
//! `rsrun_start` as its entry point the kernel begins here, before anything has been written to the program's memory. So
//! its file is exchanged below it (`sys::exchange`), and where the kernel refuses that it is executed again from the seal.
//!
//! Nothing of the process is ready: no thread-local storage, and `memcpy` and its kind are not chosen yet. So there are
//! system calls alone, and volatile reads, of which a compiler makes no call. Whatever is not as it should be goes
//! on into the ordinary start, whose `exe::is_sealed` and `exe::seal` do the same and have words for an error.

use core::arch::naked_asm;
use core::ptr;

use super::exchange::{auxiliary, exchange};
use super::exe::{self, ENTERING};
use super::raw::call;

const OWN: &[u8; 15] = b"/proc/self/exe\0";
const EMPTY: &[u8; 1] = b"\0";
const CLONED: usize = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
const AT_EMPTY_PATH: usize = libc::AT_EMPTY_PATH.cast_unsigned() as usize;
pub(super) const HERE: usize = libc::AT_FDCWD.cast_unsigned() as usize;

/// The last of the standard streams.
const STREAMS: usize = libc::STDERR_FILENO.cast_unsigned() as usize;

/// Size of `struct mount_attr` (mount_setattr(2), Linux 5.12), and the only one of its members that is not 0.
const SIZE_OF_ATTRIBUTES: usize = 32;
const READ_ONLY: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];

/// The entry point of a program that is linked at a fixed address; it ends in the C library's own.
///
/// # Safety
/// The kernel alone comes here: with the argument count where the stack points to, and in rdx what atexit is told
/// (System V ABI for x86-64, 3.4.1), both of which `_start` finds unchanged.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn rsrun_start() {
    naked_asm!(
        "xor ebp, ebp",
        "mov rbx, rdx",
        "mov r12, rsp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {enter_sealed}",
        "mov rsp, r12",
        "mov rdx, rbx",
        "jmp _start",
        enter_sealed = sym enter_sealed,
    )
}

/// Puts this program into its seal, if it is not there and one of its words is of [`ENTERING`].
///
/// # Safety
/// At `stack` are the number of arguments, their addresses, a null, those of the environment, a null, and the auxiliary
/// vector. Nothing that the program has in memory has been changed since the kernel mapped it.
unsafe extern "C" fn enter_sealed(stack: *const usize) {
    // SAFETY: the kernel has put it there, see above.
    let (count, arguments) = unsafe { (stack.read_volatile(), stack.add(1)) };
    // SAFETY: behind the arguments and their null.
    let environment = unsafe { arguments.add(count).add(1) };
    let mut at = 1;
    // SAFETY: `at` is less than their number, and each is a text with a NUL at its end.
    while at < count && !unsafe { enters(arguments.add(at).cast::<*const u8>().read_volatile()) } {
        at += 1;
    }
    // SAFETY: as promised; what is found there is a text with a NUL at its end.
    let may_be_sealed = at == count
        || unsafe {
            let file = auxiliary(stack, libc::AT_EXECFN);
            begins(ptr::with_exposed_provenance(file), b"/dev/fd/")
        };
    // SAFETY: it takes nothing.
    if may_be_sealed || unsafe { call(libc::SYS_geteuid, [0; 6]) } != 0 {
        return;
    }
    let own = OWN.as_ptr().addr();
    // SAFETY: the path is a constant that ends with a NUL.
    let tree = unsafe { call(libc::SYS_open_tree, [HERE, own, CLONED, 0, 0, 0]) };
    let Ok(tree) = usize::try_from(tree) else {
        return;
    };
    let empty = EMPTY.as_ptr().addr();
    let attributes = READ_ONLY.as_ptr().addr();
    let sealing = [
        tree,
        empty,
        AT_EMPTY_PATH,
        attributes,
        SIZE_OF_ATTRIBUTES,
        0,
    ];
    let executing = [
        tree,
        empty,
        arguments.addr(),
        environment.addr(),
        AT_EMPTY_PATH,
        0,
    ];
    // SAFETY: the path is a constant that ends with a NUL, the attributes have the length that is said; both lists are as
    // the kernel itself has laid them out. The descriptor is ours, and memory is as `exchange` wants it.
    unsafe {
        let is_sealed = call(libc::SYS_mount_setattr, sealing) == 0;
        // Below it are the standard streams: one that was closed is another thing's now, and an execve gives it back.
        if is_sealed && tree > STREAMS && exchange(tree, stack) {
            exe::note_sealed();
        } else if is_sealed {
            call(libc::SYS_execveat, executing);
        }
        // What is held any longer could be changed (`exe::let_go`). Nothing else of this process runs, so that the kernel
        // is soon done.
        call(libc::SYS_close, [tree, 0, 0, 0, 0, 0]);
    }
}

/// # Safety
/// `word` is a text with a NUL at its end.
unsafe fn enters(word: *const u8) -> bool {
    // SAFETY: as promised.
    let is = |name: &str| unsafe {
        begins(word, name.as_bytes()) && word.add(name.len()).read_volatile() == 0
    };
    ENTERING.iter().any(|name| is(name))
}

/// # Safety
/// `text` is null, or a text with a NUL at its end.
unsafe fn begins(text: *const u8, start: &[u8]) -> bool {
    let mut bytes = start.iter().enumerate();
    // SAFETY: all bytes before this one are equal to those of `start`, none of them a NUL.
    !text.is_null() && bytes.all(|(at, byte)| unsafe { text.add(at).read_volatile() } == *byte)
}
