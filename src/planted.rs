//! Mistakes built in on purpose, to see that the simulations would notice. As in `rookery_raft::planted`: shipped code asks
//! `planted!(Mistake)` at the line in question, which in a shipped build is the word `false`.

/// `true` while the named [`Mistake`](crate::planted::Mistake) is planted on this thread.
#[cfg(test)]
macro_rules! planted {
    ($mistake:ident) => {
        $crate::planted::is($crate::planted::Mistake::$mistake)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($mistake:ident) => {
        false
    };
}
pub(crate) use planted;

#[cfg(test)]
pub(crate) use switch::*;

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    macro_rules! mistakes {
        ($($(#[$doc:meta])* $mistake:ident,)*) => {
            /// What a broker can be made to do wrong.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) enum Mistake { $($(#[$doc])* $mistake,)* }

            impl Mistake {
                /// All of them.
                pub(crate) const ALL: &[Mistake] = &[$(Mistake::$mistake,)*];
            }
        };
    }

    mistakes! {
        /// The leader counts its own log end instead of its synced end.
        AckBeforeFsync,
        /// The offset that a follower wants counts as synced.
        CountUnsynced,
        /// The high watermark moves although the ISR is too small.
        HighWatermarkBelowMinIsr,
        /// A leader whose store was reopened goes on in its old term.
        LeadAgainAfterLostTail,
        /// What a follower said in one leader epoch counts in another.
        RememberAnotherTerm,
        /// A diverged follower keeps its tail.
        SkipTruncation,
        /// A fetch that does not match the leader's log counts all the same.
        SkipDivergenceCheck,
        /// A fetch or a progress message of another leader epoch counts.
        SkipEpochOfFollower,
        /// What an earlier life of a follower's broker said counts on, and what it says late.
        CountEarlierLifeOfFollower,
        /// A follower is proposed for the ISR as soon as it fetches.
        ExpandBeforeCaughtUp,
        /// A proposal that is tried again names the newest life of its member, not the one that has caught up.
        ProposeLaterLife,
        /// The high watermark does not wait for a member that is proposed.
        IgnoreProposedMember,
        /// The high watermark does not wait for a member that is proposed to leave.
        IgnoreLeavingMember,
        /// A refusal for a stale epoch takes a proposal back, though an earlier try may have been committed.
        TakeBackStaleProposal,
        /// An answer to an earlier position is appended, which leaves a hole.
        AppendBeyondLogEnd,
        /// A truncation that was decided for another end of the log is done all the same.
        CutMovedEnd,
        /// A duplicate is acknowledged without waiting as the original does.
        AckDuplicateAtOnce,
        /// Produces that wait stay when the leadership ends, and are acknowledged by the next one.
        KeepWaitersOfEndedTerm,
        /// What comes behind a refused batch is judged by its sequence.
        ForgetRefused,
        /// A leader tells a gap that may be its own: it may have been deposed.
        TrustOwnGap,
        /// A leader that nobody confirms serves on.
        IgnoreLease,
        /// A damaged batch is mended with one of another leader epoch.
        RepairFromAnotherEpoch,
        /// A store that was opened anew without some of its synced data goes on under the same broker epoch.
        LossyReopenKeepsEpoch,
        /// Metadata from before this life is acted on.
        ActOnEarlierLifesMetadata,
    }

    thread_local! {
        static PLANTED: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this mistake is planted on this thread.
    pub(crate) fn is(mistake: Mistake) -> bool {
        PLANTED.get() & (1 << mistake as u64) != 0
    }

    /// Plants a mistake on this thread, beside others, until the guard is dropped.
    #[must_use]
    pub(crate) fn plant(mistake: Mistake) -> Planted {
        PLANTED.set(PLANTED.get() | (1 << mistake as u64));
        Planted(mistake)
    }

    /// Takes the mistake away again.
    pub(crate) struct Planted(Mistake);

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(PLANTED.get() & !(1 << self.0 as u64));
        }
    }
}
