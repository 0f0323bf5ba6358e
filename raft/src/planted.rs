//! Mistakes built in on purpose, to see that the simulations would notice.
//!
//! Shipped code asks `planted!(Mistake)` at the very line that the mistake is about. In a shipped build that is the word
//! `false`: the list, the question and the switch exist in tests and with the feature `testing` only. (So in the binary that integration tests drive the question
//! is there; the switch is a function that nothing in that binary calls.) The switch belongs to the thread, because a simulated cluster runs on one: nothing has to be carried through the types, and tests beside each other do not meet.

/// `true` while the named [`Mistake`](crate::planted::Mistake) is planted on this thread.
#[cfg(any(test, feature = "testing"))]
macro_rules! planted {
    ($mistake:ident) => {
        $crate::planted::is($crate::planted::Mistake::$mistake)
    };
}
#[cfg(not(any(test, feature = "testing")))]
macro_rules! planted {
    ($mistake:ident) => {
        false
    };
}
pub(crate) use planted;

#[cfg(any(test, feature = "testing"))]
pub use switch::*;

#[cfg(any(test, feature = "testing"))]
mod switch {
    use std::cell::Cell;

    macro_rules! mistakes {
        ($($(#[$doc:meta])* $mistake:ident,)*) => {
            /// What the quorum or the controller can be made to do wrong.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Mistake { $($(#[$doc])* $mistake,)* }

            impl Mistake {
                /// All of them.
                pub const ALL: &[Mistake] = &[$(Mistake::$mistake,)*];
            }
        };
    }

    mistakes! {
        /// An ISR change is taken whatever epochs it was proposed in.
        SkipEpochsOfIsrChange,
        /// An ISR change is taken whatever registration of the same leader epoch it was based on.
        SkipPartitionEpochOfIsrChange,
        /// A replica may join an ISR with the broker epoch of an earlier life (KIP-903).
        SkipBrokerEpochOfMember,
        /// A request is taken from whatever life of the broker.
        SkipBrokerEpochCheck,
        /// A fenced broker may join an ISR.
        FencedBrokerJoinsIsr,
        /// An election that finds nobody clean takes any replica that is up.
        ElectOutsideIsr,
        /// A fence leaves the broker in its ISRs.
        FenceKeepsIsr,
        /// A registration leaves the broker in its ISRs.
        RegistrationKeepsIsr,
        /// A leader elected from the ELR joins the ISR that was there instead of being the whole of it.
        ElrWinnerJoinsOldIsr,
        /// Who leaves an ISR stays a candidate although commits go on without it.
        ElrAboveMinIsr,
        /// Who lost synced data counts as before.
        LogLostCounts,
        /// A replica that has given its log up can be elected.
        GivenUpCanLead,
        /// A wiped directory counts as the one that was there before.
        WipedDirectoryCounts,
        /// A new leader, in the epoch of the one before.
        LeaderWithoutNewEpoch,
        /// A leader whose store was reopened goes on in its epoch.
        ReopenedLeaderKeepsEpoch,
        /// A broker is unfenced before it has caught up with its own registration.
        UnfenceBeforeCaughtUp,
        /// An answer without records does not need the lease.
        AnswerWithoutLease,
        /// A voter answers a request that means another directory: a wiped voter votes.
        WipedVoterVotes,
    }

    thread_local! {
        static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// Whether this mistake is planted on this thread.
    pub fn is(mistake: Mistake) -> bool {
        PLANTED.get() == Some(mistake)
    }

    /// Plants a mistake on this thread until the guard is dropped.
    #[must_use]
    pub fn plant(mistake: Mistake) -> Planted {
        PLANTED.set(Some(mistake));
        Planted(())
    }

    /// Takes the mistake away again.
    pub struct Planted(());

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
}
