//! seccomp for programs that users wrote: an executor's list, and what it takes to start other programs and keep files.
//!
//! Three filters. What the first does not list is "not in this kernel" (ENOSYS), as seen from a library that falls back. The second
//! refuses (EPERM) what a person may ask about. The third ignores changes of the rights, owners and times of files: Landlock does
//! not judge those, so that they would reach every file of the worker's user; programs that copy files make them by the way and
//! give up when they are refused.

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::syscalls::{PASSED, PASSED_OLD, Rules, always, one_of};

/// Beyond what executors may.
const PASSED_MORE: &[c_long] = &[
    // Programs and their ends.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pipe2,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_pidfd_open,
    libc::SYS_close_range,
    // Time, events, signals of its own.
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_signalfd4,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    // Memory.
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    // Files: Landlock says which.
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mknodat,
    libc::SYS_faccessat2,
    libc::SYS_statfs,
    libc::SYS_fchdir,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sync_file_range,
    libc::SYS_readahead,
    libc::SYS_tee,
    libc::SYS_vmsplice,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_flistxattr,
    // What it has, to ask and to lower; `prlimit64` of others is judged below.
    libc::SYS_ioctl,
    // Pairs alone can be had.
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];
#[cfg(target_arch = "x86_64")]
const PASSED_MORE_OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_pipe,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mknod,
    libc::SYS_creat,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_arch_prctl,
    libc::SYS_setrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const PASSED_MORE_OLD: &[c_long] = &[];

/// Refused by name.
const REFUSED: &[c_long] = &[
    // Network.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Out of the group that is ended together.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    // Namespaces, mounts, identities, names of other places.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Memory that nothing counts, and shares with others.
    libc::SYS_memfd_create,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // What widens the kernel's face.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
];

/// Answered with success, and nothing is done.
const IGNORED: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
#[cfg(target_arch = "x86_64")]
const IGNORED_OLD: &[c_long] =
    &[libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const IGNORED_OLD: &[c_long] = &[];

/// Puts the filters before this process and whatever it starts. `signals`, `truncate`: Landlock keeps these inside.
///
/// # Errors
/// Why this kernel takes them not.
pub fn filter(signals: bool, truncate: bool) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no list of system calls is kept for {}", std::env::consts::ARCH))?;
    for program in programs(arch, signals, truncate).map_err(|error| error.to_string())? {
        seccompiler::apply_filter(&program).map_err(|error| format!("seccomp refused: {error}"))?;
    }
    Ok(())
}

fn programs(arch: TargetArch, signals: bool, truncate: bool) -> Result<[BpfProgram; 3], BackendError> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let allow = || SeccompAction::Allow;
    let passed = SeccompFilter::new(passed(signals, truncate)?, errno(libc::ENOSYS), allow(), arch)?;
    let refused = SeccompFilter::new(refused(signals)?, allow(), errno(libc::EPERM), arch)?;
    let ignored = SeccompFilter::new(always(&[IGNORED, IGNORED_OLD]), allow(), SeccompAction::Errno(0), arch)?;
    Ok([passed.try_into()?, refused.try_into()?, ignored.try_into()?])
}

fn condition(argument: u8, op: Op, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Width::Dword, op, value)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<Vec<SeccompRule>, BackendError> {
    Ok(vec![SeccompRule::new(conditions)?])
}

fn passed(signals: bool, truncate: bool) -> Result<Rules, BackendError> {
    let mut rules = always(&[PASSED, PASSED_OLD, PASSED_MORE, PASSED_MORE_OLD]);
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWCGROUP,
    ];
    let mask = namespaces.iter().fold(0, |mask, flag| mask | u64::from(flag.unsigned_abs()));
    rules.insert(libc::SYS_clone, rule(vec![SeccompCondition::new(0, Width::Qword, Op::MaskedEq(mask), 0)?])?);
    // Its own alone.
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity] {
        rules.insert(call, one_of(0, &[0])?);
    }
    rules.insert(libc::SYS_setpriority, rule(vec![condition(0, Op::Eq, 0)?, condition(1, Op::Eq, 0)?])?);
    // Connected to each other, and to nobody else: what sends datagrams can send them anywhere.
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let pair = |kind: i32| {
        let kind = condition(1, Op::MaskedEq(0xf), u64::from(kind.unsigned_abs()))?;
        SeccompRule::new(vec![condition(0, Op::Eq, unix)?, kind])
    };
    rules.insert(libc::SYS_socketpair, vec![pair(libc::SOCK_STREAM)?, pair(libc::SOCK_SEQPACKET)?]);
    let prctl = [
        libc::PR_SET_NAME,
        libc::PR_GET_NAME,
        libc::PR_SET_VMA,
        libc::PR_SET_NO_NEW_PRIVS,
        libc::PR_GET_NO_NEW_PRIVS,
        libc::PR_SET_PDEATHSIG,
        libc::PR_GET_PDEATHSIG,
        libc::PR_GET_DUMPABLE,
        libc::PR_CAPBSET_READ,
        libc::PR_GET_SECCOMP,
        libc::PR_SET_TIMERSLACK,
        libc::PR_GET_TIMERSLACK,
    ];
    rules.insert(libc::SYS_prctl, one_of(0, &prctl.map(|option| u64::from(option.unsigned_abs())))?);
    // Not what has signals sent to others.
    let not = |command: i32| condition(1, Op::Ne, u64::from(command.unsigned_abs()));
    // F_SETOWN, F_SETSIG, F_SETOWN_EX.
    rules.insert(libc::SYS_fcntl, rule(vec![not(libc::F_SETOWN)?, not(10)?, not(15)?])?);
    if signals {
        rules.extend(always(&[&[libc::SYS_kill, libc::SYS_tgkill, libc::SYS_pidfd_send_signal]]));
    } else {
        // Its group, which is ended together anyway.
        rules.insert(libc::SYS_kill, one_of(0, &[0])?);
    }
    if truncate {
        rules.extend(always(&[&[libc::SYS_truncate]]));
    }
    Ok(rules)
}

fn refused(signals: bool) -> Result<Rules, BackendError> {
    let mut rules = always(&[REFUSED]);
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity] {
        rules.insert(call, rule(vec![condition(0, Op::Ne, 0)?])?);
    }
    rules.insert(
        libc::SYS_setpriority,
        vec![SeccompRule::new(vec![condition(0, Op::Ne, 0)?])?, SeccompRule::new(vec![condition(1, Op::Ne, 0)?])?],
    );
    if !signals {
        rules.insert(libc::SYS_kill, rule(vec![condition(0, Op::Ne, 0)?])?);
        rules.extend(always(&[&[libc::SYS_tgkill, libc::SYS_pidfd_send_signal]]));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_built_and_fit_the_kernel() {
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        for (signals, truncate) in [(true, true), (false, false)] {
            for program in programs(arch, signals, truncate).unwrap() {
                assert!(!program.is_empty() && program.len() <= 4096, "{}", program.len());
            }
        }
    }

    #[test]
    fn no_call_is_two_things() {
        let passed = [PASSED, PASSED_OLD, PASSED_MORE, PASSED_MORE_OLD].concat();
        for call in [REFUSED, IGNORED, IGNORED_OLD].concat() {
            assert!(!passed.contains(&call), "system call {call}");
        }
        assert!(!REFUSED.iter().any(|call| [IGNORED, IGNORED_OLD].concat().contains(call)));
    }
}
