use super::acked_durable::value_at;
use super::{AckedDurable, OneValue, PartitionInvariants, Record, Violation};
use rookery_raft::ids::{LeaderEpoch, NodeId};

/// The histories of a partition. An unclean election ends one and begins another.
///
/// What the new leader has on its disk when it begins goes over into the new history, and holds there as everything does. What else was
/// committed may be lost, and so may what leaders of the old epochs commit until they hear of it; but each history by itself stays one:
/// no offset has two values in it.
#[derive(Default)]
pub(crate) struct Histories {
    /// The first leader epoch of the present one.
    since: LeaderEpoch,
    /// Those before, by their first leader epochs.
    earlier: Vec<(LeaderEpoch, OneValue)>,
    /// What goes over if the next leader holds it.
    doubtful: Option<(AckedDurable, OneValue)>,
}

impl PartitionInvariants {
    /// An unclean election made this epoch.
    pub(crate) fn elected_uncleanly(&mut self, epoch: LeaderEpoch) {
        if epoch <= self.histories.since {
            return;
        }
        let (acked, committed) = (std::mem::take(&mut self.acked), std::mem::take(&mut self.committed));
        self.histories.earlier.push((self.histories.since, committed.clone()));
        self.histories.since = epoch;
        self.histories.doubtful.get_or_insert((acked, committed));
    }

    /// Whether there was an unclean election.
    pub(crate) fn had_unclean_elections(&self) -> bool {
        !self.histories.earlier.is_empty()
    }

    /// This node leads in this epoch, with this on its disk.
    pub(crate) fn leads(&mut self, node: NodeId, epoch: LeaderEpoch, disk: &[Record]) -> Result<(), Violation> {
        self.single_leader.leads(node, epoch)?;
        if epoch >= self.histories.since
            && let Some((acked, committed)) = self.histories.doubtful.take()
        {
            let holds = |offset: i64, value: u64| value_at(disk, offset) == Some(value);
            (self.acked, self.committed) = (acked.retained(holds), committed.retained(holds));
        }
        Ok(())
    }

    /// These records lie below the high watermark of a leader in this epoch.
    pub(crate) fn visible(&mut self, node: NodeId, epoch: LeaderEpoch, below: &[Record]) -> Result<(), Violation> {
        let earlier = self.histories.earlier.iter_mut().rev();
        match earlier.filter(|_| epoch < self.histories.since).find(|(since, _)| *since <= epoch) {
            Some((_, history)) => history.visible(node, below),
            None => self.committed.visible(node, below),
        }
    }

    /// A producer was told by a leader of this epoch that its value is committed at `offset`; `copies` disks hold it.
    pub(crate) fn acknowledged(
        &mut self,
        epoch: LeaderEpoch,
        (value, offset): (u64, i64),
        copies: usize,
        min: usize,
    ) -> Result<(), Violation> {
        match epoch >= self.histories.since {
            true => self.acked.acknowledged(value, offset, copies, min),
            false => AckedDurable::default().acknowledged(value, offset, copies, min),
        }
    }
}
