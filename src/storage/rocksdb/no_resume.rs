//! The one option that the `rocksdb` crate does not wrap, set through RocksDB's C interface.
#![allow(unsafe_code)]

use ::rocksdb::{AsRawPtr, Options};

/// After a background error RocksDB would try again by itself; a log store must not go on behind its owner's back.
pub fn switch_off_automatic_resume(options: &mut Options) {
    // SAFETY: the pointer is that of a live `Options`, which we hold exclusively until the call returns; the function
    // writes one integer field of it and keeps nothing.
    unsafe {
        librocksdb_sys::rocksdb_options_set_max_bgerror_resume_count(options.as_raw_ptr(), 0);
    }
}
