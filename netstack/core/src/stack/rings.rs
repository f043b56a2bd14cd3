//! The memory of a connection's two rings.
//!
//! It comes from the system page by page as bytes are put in, and goes back while nothing is in it, so that a
//! connection which waits costs no buffer however much it has carried. An allocator would keep the pages of
//! connections that are gone, and write zeros over all of them for the next.

use memmap2::MmapMut;
use smoltcp::socket::tcp::SocketBuffer;

use crate::Buffers;

/// One piece of memory for both rings.
#[derive(Debug)]
pub(super) struct Rings {
    memory: MmapMut,
    receive: usize,
}

impl Rings {
    /// Asks the system for the address range; `None` when it has none to give.
    pub(super) fn new(buffers: Buffers) -> Option<Self> {
        let memory = MmapMut::map_anon(buffers.receive + buffers.transmit).ok()?;
        // One byte would make half a ring resident otherwise. A system without such pages says no, which is fine.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::NoHugePage);
        Some(Self {
            memory,
            receive: buffers.receive,
        })
    }

    /// Lends the memory as receive and transmit buffer.
    ///
    /// # Safety
    /// To be called once, and what it returns must not be used when `self` is gone.
    #[expect(unsafe_code, reason = "the socket takes buffers that outlive it, or vectors")]
    pub(super) unsafe fn lend(&mut self) -> [SocketBuffer<'static>; 2] {
        let (start, len) = (self.memory.as_mut_ptr(), self.memory.len());
        // SAFETY: the mapping is as long, readable and writable, lives as long as `self`, and stays where it is when
        // `self` moves. The caller sees to it that there is one such slice at a time.
        let all: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let (receive, transmit) = all.split_at_mut(self.receive);
        [SocketBuffer::new(receive), SocketBuffer::new(transmit)]
    }

    /// Gives the pages back; both rings read as anything from now on, so nothing may be in them.
    #[cfg_attr(unix, expect(unsafe_code, reason = "only the kernel can take pages away"))]
    #[cfg_attr(not(unix), expect(clippy::unused_self, reason = "there is no such call"))]
    pub(super) fn release(&mut self) {
        // A system that keeps the pages does no harm.
        #[cfg(unix)]
        // SAFETY: the range is our own anonymous mapping, which stays mapped and reads as zeros; bytes of any value
        // are valid, and the owner of the rings has said that nobody waits for these.
        let _ = unsafe { self.memory.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}
