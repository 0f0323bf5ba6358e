//! Turns a [`StoreWrite`] into operations of a RocksDB write batch.

use super::super::log_class::LogClass;
use super::super::log_store::{LocalPartitionId, StoreOp, StoreWrite};
use super::keys::{self, meta_key, offset_key, snapshot_key};
use super::options;
use ::rocksdb::{BoundColumnFamily, DBWithThreadMode, MultiThreaded, WriteBatch};
use std::sync::Arc;

/// The database; column families are added by the commit thread alone.
pub type Database = DBWithThreadMode<MultiThreaded>;

/// The column family of the time index.
pub fn time_index(db: &Database) -> Arc<BoundColumnFamily<'_>> {
    db.cf_handle(keys::TIME).expect("opened with the database")
}

/// The column family of a class, if a batch of it was ever stored.
pub fn class_family(db: &Database, class: LogClass) -> Option<Arc<BoundColumnFamily<'_>>> {
    db.cf_handle(class.column_family())
}

/// Adds the column families that a write needs and that are not there: about a tenth of a second each, once in the life of
/// a directory.
pub fn create_missing_families(db: &Database, write: &StoreWrite) -> Result<(), rocksdb::Error> {
    for op in &write.ops {
        if let StoreOp::PutBatch { class, .. } = op
            && class_family(db, *class).is_none()
        {
            db.create_cf(class.column_family(), &options::column_family())?;
        }
    }
    Ok(())
}

/// Adds the operations of a write. Every column family it puts into must exist.
pub fn add(db: &Database, batch: &mut WriteBatch, write: &StoreWrite) {
    let id = write.partition;
    for op in &write.ops {
        match op {
            StoreOp::PutBatch { class, last_offset, batch: bytes } => {
                let family = class_family(db, *class).expect("created before the batch is filled");
                batch.put_cf(&family, offset_key(id, *last_offset), bytes);
            }
            StoreOp::DeleteBatches { class, last_offsets } => {
                if let Some(family) = class_family(db, *class) {
                    batch.delete_range_cf(
                        &family,
                        offset_key(id, last_offsets.start),
                        offset_key(id, last_offsets.end),
                    );
                }
            }
            StoreOp::PutTimeEntry(entry) => {
                batch.put_cf(&time_index(db), offset_key(id, entry.last_offset), entry.encode());
            }
            StoreOp::DeleteTimeEntries(range) => {
                batch.delete_range_cf(&time_index(db), offset_key(id, range.start), offset_key(id, range.end));
            }
            StoreOp::PutProducerSnapshot { offset, snapshot } => batch.put(snapshot_key(id, *offset), snapshot),
            StoreOp::DeleteProducerSnapshot { offset } => batch.delete(snapshot_key(id, *offset)),
            StoreOp::PutMeta(meta) => batch.put(meta_key(id), meta),
            StoreOp::DeletePartition { classes } => delete_partition(db, batch, id, classes),
        }
    }
}

fn delete_partition(db: &Database, batch: &mut WriteBatch, id: LocalPartitionId, classes: &[LogClass]) {
    let (from, to) = (offset_key(id, 0), offset_key(id, i64::MAX));
    for family in classes.iter().filter_map(|class| class_family(db, *class)) {
        batch.delete_range_cf(&family, from, to);
    }
    batch.delete_range_cf(&time_index(db), from, to);
    batch.delete_range(snapshot_key(id, 0), snapshot_key(id, i64::MAX));
    batch.delete(meta_key(id));
}
