"""The system-call filter of the sandbox: a classic BPF program, written by hand so that no C library is needed.

The layout of `struct seccomp_data` and the return values are those of linux/seccomp.h; the numbers are those of the
kernel's asm/unistd_64.h (x86-64) and asm-generic/unistd.h (AArch64). Both machines are little-endian.
"""

import errno
import platform
import struct

# (x86-64, AArch64); None where the machine has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # Looking into other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Mounts and roots
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "fsconfig": (431, 431),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # Namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    # Keys
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # Large kernel interfaces with a history of holes
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy": (238, 237),
    # The kernel itself
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "query_module": (178, None),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    # Relics
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "nfsservctl": (180, 42),
    # Memory that belongs to no process, so that nothing that watches processes would see it
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
SOCKETPAIR = (53, 199)
IOCTL = (16, 29)

# CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h)
NEW_NAMESPACE = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # push characters into the terminal's input
X32_CALL = 0x40000000  # x86-64 only: the same calls under other numbers

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_* (linux/audit.h)

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JGE, JSET, RET|K
AT_NUMBER, AT_MACHINE, AT_ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000


def supported() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in MACHINES


def program(machine: str | None = None) -> bytes:
    """The filter for `bwrap --seccomp`: 8-byte `struct sock_filter` instructions.

    A denied call fails with EPERM; a call by another machine's table (32-bit, x32) kills the process. clone3 fails
    with ENOSYS, because its flags lie in memory where a filter cannot see them: the C library then uses clone.

    Raises KeyError on a machine other than x86_64 and aarch64.
    """
    column, audit = MACHINES[machine or platform.machine()]
    deny = _op(RETURN, ERRNO | errno.EPERM)
    code = [_op(LOAD, AT_MACHINE), _op(EQUAL, audit, 1, 0), _op(RETURN, KILL_PROCESS), _op(LOAD, AT_NUMBER)]
    code += [_op(AT_LEAST, X32_CALL, 0, 1), _op(RETURN, KILL_PROCESS)]
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            code += [_op(EQUAL, number, 0, 1), deny]
    code += [_op(EQUAL, CLONE3[column], 0, 1), _op(RETURN, ERRNO | errno.ENOSYS)]
    code += _unless(CLONE[column], 0, [_op(ANY_BIT, NEW_NAMESPACE, 0, 1), deny])
    for call in (SOCKET, SOCKETPAIR):
        code += _unless(call[column], 0, [_op(EQUAL, AF_UNIX, 1, 0), deny])
    code += _unless(IOCTL[column], 1, [_op(EQUAL, TIOCSTI, 1, 0), _op(EQUAL, TIOCLINUX, 0, 1), deny])
    return b"".join([*code, _op(RETURN, ALLOW)])


def _unless(call: int, argument: int, test: list[bytes]) -> list[bytes]:
    """Judge one call by the low 32 bits of an argument: `test` returns, or falls through to allow."""
    body = [_op(LOAD, AT_ARGUMENTS + 8 * argument), *test, _op(RETURN, ALLOW)]
    return [_op(EQUAL, call, 0, len(body)), *body]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
