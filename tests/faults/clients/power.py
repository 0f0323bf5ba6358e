"""Power off: PID:MOUNT ... loses what it has not synced, at once.

On each mounted ext4 file system something is written and not synced; then the file system is shut down without writing out
its journal (EXT4_IOC_SHUTDOWN, NOLOGFLUSH) and the process is killed. One line per disk is printed once it is off."""
import fcntl
import os
import signal
import struct
import sys

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NOLOGFLUSH = struct.pack("I", 2)

machines = []
for argument in sys.argv[1:]:
    pid, mount = argument.split(":", 1)
    unsynced = os.open(os.path.join(mount, "unsynced"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    machines.append((int(pid), mount, os.open(mount, os.O_RDONLY), unsynced))
for _, _, _, unsynced in machines:
    os.write(unsynced, b"x" * 4096)
for pid, _, mount, _ in machines:
    fcntl.ioctl(mount, SHUTDOWN, NOLOGFLUSH)
    os.kill(pid, signal.SIGKILL)
for _, mount, _, _ in machines:
    print("off", mount, flush=True)
