//! seccomp: the system calls an executor may make are listed, and there are few: memory, threads, its own files, its socket.
//!
//! Two filters, of which the kernel takes the stricter answer, and of two refusals that of the filter put in last. The first lets
//! pass what is listed and answers "not in this kernel" (ENOSYS) to all else, as seen from a C library that tries a newer call and
//! falls back: `clone3`, whose arguments cannot be judged, becomes `clone` that way. The second answers "not permitted" (EPERM)
//! where a person may read the answer.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Passed whatever their arguments.
pub(super) const PASSED: &[c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_getparam,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    // Signals of its own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Who and where it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    // Files: Landlock says which.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_chdir,
    libc::SYS_getcwd,
    libc::SYS_umask,
    // The socket to its worker; no other can be had.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // More filters can only take more away; the second one comes after the first.
    libc::SYS_seccomp,
];

/// The older names of the same, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
pub(super) const PASSED_OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_dup2,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const PASSED_OLD: &[c_long] = &[];

/// Refused by name.
const REFUSED: &[c_long] = &[
    // Network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // SVT-AV1 asks for both at each thread, and takes no for an answer.
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_setrlimit,
    // Directories, links and special files, names of other places, rights.
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_truncate,
    // Namespaces, mounts, identities.
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
    libc::SYS_personality,
    // What widens the kernel's face.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_memfd_create,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_link,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_ioperm,
    libc::SYS_iopl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: &[c_long] = &[];

/// Puts both filters before this thread and those it starts.
///
/// # Errors
/// Why this kernel takes them not.
pub fn filter() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no list of system calls is kept for {}", std::env::consts::ARCH))?;
    let pid = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).map_err(|error| error.to_string())?;
    for program in programs(arch, pid).map_err(|error| error.to_string())? {
        seccompiler::apply_filter(&program).map_err(|error| format!("seccomp refused: {error}"))?;
    }
    Ok(())
}

fn programs(arch: TargetArch, pid: u64) -> Result<[BpfProgram; 2], BackendError> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let passed = SeccompFilter::new(passed(pid)?, errno(libc::ENOSYS), SeccompAction::Allow, arch)?;
    let refused = SeccompFilter::new(refused(pid)?, SeccompAction::Allow, errno(libc::EPERM), arch)?;
    Ok([passed.try_into()?, refused.try_into()?])
}

pub(super) fn always(calls: &[&[c_long]]) -> Rules {
    calls.concat().into_iter().map(|call| (call, Vec::new())).collect()
}

/// A rule for each of `values` of one argument.
pub(super) fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value: &u64| SeccompRule::new(vec![SeccompCondition::new(argument, Width::Dword, Op::Eq, *value)?]);
    values.iter().map(rule).collect()
}

/// Of `clone`'s flags: a thread of this process, in no namespace of its own.
fn thread_alone() -> (u64, u64) {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWCGROUP,
    ];
    (namespaces.iter().fold(thread, |mask, flag| mask | u64::from(flag.unsigned_abs())), thread)
}

fn passed(pid: u64) -> Result<Rules, BackendError> {
    let mut rules = always(&[PASSED, PASSED_OLD]);
    let (mask, thread) = thread_alone();
    let is_thread = SeccompCondition::new(0, Width::Qword, Op::MaskedEq(mask), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]);
    // Its own alone.
    rules.insert(libc::SYS_kill, one_of(0, &[pid])?);
    rules.insert(libc::SYS_tgkill, one_of(0, &[pid])?);
    // Asked, not set.
    let asked = SeccompCondition::new(2, Width::Qword, Op::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![asked])?]);
    let own = [SeccompCondition::new(0, Width::Dword, Op::Eq, 0)?, SeccompCondition::new(1, Width::Dword, Op::Eq, 0)?];
    rules.insert(libc::SYS_setpriority, vec![SeccompRule::new(own.into())?]);
    // Names of threads and of mappings; what the second filter is put in with.
    let prctl = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS];
    rules.insert(libc::SYS_prctl, one_of(0, &prctl.map(|option| u64::from(option.unsigned_abs())))?);
    // Not F_SETOWN: it has signals sent to others.
    let fcntl = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETLK,
        libc::F_SETLK,
        libc::F_SETLKW,
    ];
    rules.insert(libc::SYS_fcntl, one_of(1, &fcntl.map(|command| u64::from(command.unsigned_abs())))?);
    // Whether stderr is a terminal, how much is there, not to wait, not to be passed on.
    let ioctl = [libc::TCGETS, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX];
    rules.insert(libc::SYS_ioctl, one_of(1, &ioctl)?);
    Ok(rules)
}

fn refused(pid: u64) -> Result<Rules, BackendError> {
    let mut rules = always(&[REFUSED, REFUSED_OLD]);
    // What is no thread: a fork.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let is_process = SeccompCondition::new(0, Width::Qword, Op::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_process])?]);
    let other = || SeccompRule::new(vec![SeccompCondition::new(0, Width::Dword, Op::Ne, pid)?]);
    rules.insert(libc::SYS_kill, vec![other()?]);
    rules.insert(libc::SYS_tgkill, vec![other()?]);
    let set = SeccompCondition::new(2, Width::Qword, Op::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![set])?]);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_built_and_fit_the_kernel() {
        let most = 4096;
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        for program in programs(arch, 1).unwrap() {
            assert!(!program.is_empty() && program.len() <= most, "{}", program.len());
        }
    }

    #[test]
    fn nothing_is_passed_and_refused() {
        for call in [REFUSED, REFUSED_OLD].concat() {
            assert!(![PASSED, PASSED_OLD].concat().contains(&call), "system call {call}");
        }
    }
}
