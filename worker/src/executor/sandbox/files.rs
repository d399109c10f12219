//! Landlock: an executor opens no file but below the directory it was started in, and reads what libav's encoders ask about cores.
//!
//! Inputs come as open handles over its socket; Landlock judges the opening, so those are not concerned. Of the system's files
//! nothing is needed once the libraries are loaded: they never load others.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest whose rules are known here. An older kernel enforces those it has.
pub(super) const ABI_KNOWN: ABI = ABI::V7;
/// How many cores there are, for glibc and through it the encoders. It is the one place of the system they ask at run time.
const CORES: &str = "/sys/devices/system/cpu";

/// What may still be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// What lies below the working directory, and what tells the cores.
    Own,
    Nothing,
}

/// Locks this thread, and those it starts, into its working directory, or away from all files.
///
/// # Errors
/// Why nothing is enforced.
pub fn lock(open: Open) -> Result<u32, String> {
    enforced(&restrict(open).map_err(|error| format!("Landlock refused: {error}"))?)
}

/// The version of Landlock that enforces something, or why nothing is.
pub(super) fn enforced(status: &landlock::RestrictionStatus) -> Result<u32, String> {
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.map_or(effective_abi as i32, |newer| newer)
        }
        LandlockStatus::NotEnabled => {
            return Err("this kernel has Landlock, not enabled (boot with lsm=landlock,…)".into());
        }
        LandlockStatus::NotImplemented => {
            return Err("this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK)".into());
        }
    };
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("Landlock enforces nothing".into()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(u32::try_from(abi).unwrap_or(0)),
    }
}

fn restrict(open: Open) -> Result<landlock::RestrictionStatus, RulesetError> {
    // No directories, links, pipes, sockets or devices: outputs are plain files in the call's directory.
    let own = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_KNOWN))?
        .handle_access(AccessNet::from_all(ABI_KNOWN))?
        .scope(Scope::from_all(ABI_KNOWN))?
        .create()?;
    if open == Open::Nothing {
        return ruleset.restrict_self();
    }
    if let Ok(directory) = PathFd::new(".") {
        ruleset = ruleset.add_rule(PathBeneath::new(directory, own))?;
    }
    if let Ok(cores) = PathFd::new(CORES) {
        ruleset = ruleset.add_rule(PathBeneath::new(cores, AccessFs::ReadFile | AccessFs::ReadDir))?;
    }
    ruleset.restrict_self()
}
