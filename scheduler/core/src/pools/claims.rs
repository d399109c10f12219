//! Who is owed what others use, and from whom it may be taken.

use super::{Kind, Numbers, PoolIx, Pools};

impl Pools {
    /// The nodes of `of`'s path below the lowest pool that is above both.
    pub(crate) fn below_common(&self, of: PoolIx, other: PoolIx) -> Vec<PoolIx> {
        let others: Vec<PoolIx> = self.path(other).collect();
        self.path(of).take_while(|pool| !others.contains(pool)).collect()
    }

    /// Whether anybody of the leaf can be entitled to anything: some node of the path, below the root, has not used up what it is guaranteed.
    pub(crate) fn has_slack(&self, leaf: PoolIx) -> bool {
        let guaranteed = self.path(leaf).filter(|pool| *pool != PoolIx::ROOT);
        guaranteed.flat_map(|pool| self.table.row(pool)).any(|of| of.held > 0 && of.usage < of.subtree)
    }

    /// Whether anybody at all might take a task of the leaf: without it the leaf still has what it is guaranteed of something that others
    /// may be owed.
    pub(crate) fn may_spare(&self, leaf: PoolIx, uses: &[(Kind, u64)]) -> bool {
        let contested = |kind: &Kind| self.fair || self.guaranteed.contains(kind);
        let spared =
            |kind: Kind, amount: u64| self.usage(leaf, kind) >= self.subtree(leaf, kind).saturating_add(amount);
        uses.iter().any(|(kind, amount)| contested(kind) && spared(*kind, *amount))
    }

    /// Nodes of the path, below the root, that would stay within their guarantee with the task: it is entitled there.
    pub(crate) fn entitled(&self, leaf: PoolIx, need: &[(Kind, u64)]) -> Vec<PoolIx> {
        let mut rises: Vec<u64> = need.iter().map(|(_, amount)| *amount).collect();
        let mut found = Vec::new();
        for pool in self.path(leaf).filter(|pool| *pool != PoolIx::ROOT) {
            let (mut guaranteed, mut within) = (false, true);
            for (&(kind, _), rise) in need.iter().zip(&mut rises) {
                let &Numbers { usage: before, local, held, subtree, .. } = self.table.of(pool, kind);
                let after = before.saturating_add(*rise);
                if held > 0 {
                    guaranteed = true;
                    within &= after <= subtree;
                }
                *rise = after.saturating_sub(local) - before.saturating_sub(local);
            }
            if guaranteed && within {
                found.push(pool);
            }
        }
        found
    }

    /// Whether a task of `victim` may be taken for one of `claimant`, which is entitled at the nodes `at`. Only looks.
    pub(crate) fn may_take(
        &mut self,
        (claimant, need, at): (PoolIx, &[(Kind, u64)], &[PoolIx]),
        (victim, uses): (PoolIx, &[(Kind, u64)]),
    ) -> bool {
        let mine = self.below_common(claimant, victim);
        let Some(basis) = at.iter().find(|pool| mine.contains(pool)).copied() else { return false };
        let held: Vec<Kind> = need.iter().map(|(kind, _)| *kind).filter(|kind| self.held(basis, *kind) > 0).collect();
        let contested = |kind| held.contains(&kind);
        self.can_spare(claimant, (victim, uses), contested)
    }

    /// Whether the victim's side, below what it has in common with the claimant, borrows of what is contested, has what it is guaranteed
    /// of it without the task, too, and would not be owed the same place in turn.
    pub(crate) fn can_spare(
        &mut self,
        claimant: PoolIx,
        (victim, uses): (PoolIx, &[(Kind, u64)]),
        contested: impl Fn(Kind) -> bool,
    ) -> bool {
        let taken: Vec<Kind> = uses.iter().map(|(kind, _)| *kind).filter(|kind| contested(*kind)).collect();
        let theirs = self.below_common(victim, claimant);
        let borrows = theirs.iter().all(|pool| taken.iter().any(|kind| self.borrowed(*pool, *kind) > 0));
        if taken.is_empty() || !borrows {
            return false;
        }
        self.let_go(victim, uses);
        let kept =
            theirs.iter().all(|pool| taken.iter().all(|kind| self.usage(*pool, *kind) >= self.subtree(*pool, *kind)));
        let is_owed = kept && self.goes_before(&theirs, (victim, uses), &taken);
        self.hold_for(victim, uses);
        kept && !is_owed
    }

    /// Whether the task, gone, is owed its place at one of `theirs` for the sake of a kind that goes before all that were `taken` from it:
    /// two pools that each lack what the other is guaranteed would else take it from one another for ever.
    fn goes_before(&self, theirs: &[PoolIx], (victim, uses): (PoolIx, &[(Kind, u64)]), taken: &[Kind]) -> bool {
        let first = taken.iter().map(|kind| kind.precedence()).max();
        let owed = self.entitled(victim, uses).into_iter().filter(|pool| theirs.contains(pool));
        let held = |pool| uses.iter().filter(move |(kind, _)| self.held(pool, *kind) > 0);
        owed.flat_map(held).map(|(kind, _)| kind.precedence()).max() > first
    }

    /// Whether `claimant` with the task would still be behind `victim` without one of its own, by more than the dead zone (thousandths
    /// of what there is).
    pub(crate) fn is_fairer(
        &self,
        (claimant, need): (PoolIx, &[(Kind, u64)]),
        (victim, uses): (PoolIx, &[(Kind, u64)]),
        dead_zone_milli: u64,
    ) -> bool {
        let (Some(mine), Some(theirs)) =
            (self.below_common(claimant, victim).pop(), self.below_common(victim, claimant).pop())
        else {
            return false;
        };
        let profile: Vec<Kind> = need.iter().map(|(kind, _)| *kind).collect();
        let amount = |of: &[(Kind, u64)], kind: Kind| of.iter().find(|(k, _)| *k == kind).map_or(0, |(_, a)| *a);
        let with = self.share_with(mine, &profile, |kind| amount(need, kind), |_| 0);
        let without = self.share_with(theirs, &profile, |_| 0, |kind| amount(uses, kind));
        with.plus_milli(dead_zone_milli) < without
    }
}
