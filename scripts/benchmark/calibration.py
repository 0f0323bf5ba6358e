"""What this machine does now, without any broker: the scale for everything else."""

import os
import socket
import threading
import time

BLOCK = os.urandom(1 << 20)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def syncs(path, count, bytes_each=16384):
    """Milliseconds of each fdatasync after an append."""
    times, data = [], BLOCK[:bytes_each]
    f = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        for _ in range(count):
            os.write(f, data)
            begin = time.perf_counter()
            os.fdatasync(f)
            times.append((time.perf_counter() - begin) * 1000)
    finally:
        os.close(f)
        os.unlink(path)
    return times


def syncs_of(folder, writers, count):
    found = [None] * writers

    def write(i):
        found[i] = syncs(os.path.join(folder, f"calibration-{i}"), count)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(writers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [t for times in found for t in times]


def sequential(folder, blocks=512):
    """MB/s of one large file, synced at the end."""
    path = os.path.join(folder, "calibration")
    f = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        begin = time.perf_counter()
        for _ in range(blocks):
            os.write(f, BLOCK)
        os.fdatasync(f)
        return blocks * len(BLOCK) / 1e6 / (time.perf_counter() - begin)
    finally:
        os.close(f)
        os.unlink(path)


def round_trips(count=2000):
    """Microseconds of each message of 64 bytes to another thread and back, over loopback TCP."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    for s in client, server:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def echo():
        while data := server.recv(64):
            server.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        client.sendall(b"x" * 64)
        client.recv(64)
        times.append((time.perf_counter() - begin) * 1e6)
    client.shutdown(socket.SHUT_WR)
    thread.join()
    for s in client, server, listener:
        s.close()
    return times


def memory_copy(times=64):
    """GB/s of copying 64 MiB, larger than any cache."""
    source = bytearray(64 << 20)
    target = bytearray(64 << 20)
    begin = time.perf_counter()
    for _ in range(times):
        target[:] = source
    return times * len(source) / 1e9 / (time.perf_counter() - begin)


def calibrate(folder):
    """Yields (figure, value, unit)."""
    yield "load_average", os.getloadavg()[0], "processes"
    for writers, name in (1, "one writer"), (3, "three writers"):
        times = syncs_of(folder, writers, 500)
        for q, label in (0.5, "p50"), (0.99, "p99"):
            yield f"fdatasync, {name}, {label}", round(quantile(times, q), 3), "ms"
    yield "sequential write", round(sequential(folder)), "MB/s"
    trips = round_trips()
    yield "loopback round trip, p50", round(quantile(trips, 0.5), 1), "µs"
    yield "loopback round trip, p99", round(quantile(trips, 0.99), 1), "µs"
    yield "memory copy", round(memory_copy(), 1), "GB/s"
