"""A cable that delays packets: carries frames between two interfaces, each frame some time later.

    pump.py ONE OTHER LEAST_MS MOST_MS FILE [flows|reorder] [one-way]
Every frame waits a random time between LEAST and MOST. No frame overtakes an earlier one; with "flows" none of its own flow
(addresses, protocol, ports), but those of others; with "reorder" any. With "one-way" only what comes from ONE is late. FILE
says how many frames were late, and how many milliseconds the quickest and the slowest of them took.
"""

import heapq
import os
import random
import select
import socket
import sys
import threading
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3
VNET_HDR, ETHERNET = 10, 14


def end(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # Frames come with what the kernel has left to be done: checksums, cutting into segments.
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind((interface, 0))
    s.setblocking(False)
    return s


def flow(frame):
    """Addresses, protocol and ports of IPv4; the kind of anything else."""
    ip = VNET_HDR + ETHERNET
    kind = frame[ip - 2 : ip]
    if kind != b"\x08\x00":
        return kind
    ports = ip + (frame[ip] & 15) * 4
    return frame[ip + 9 : ip + 10] + frame[ip + 12 : ip + 20] + frame[ports : ports + 4]


def tell(path, said):
    """On a thread of its own: a busy disk must not hold up frames."""
    while True:
        time.sleep(0.2)
        if said[0]:
            with open(path + ".new", "w") as f:
                f.write(f"{said[0]} {said[1] * 1000:.1f} {said[2] * 1000:.1f}")
            os.replace(path + ".new", path)


def main():
    one, other = end(sys.argv[1]), end(sys.argv[2])
    least, most, how = float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000, sys.argv[6:]
    lane = (lambda s, frame: (s, flow(frame))) if "flows" in how else (lambda s, frame: s)
    towards, last, waiting, count = {one: other, other: one}, {}, [], 0
    late = {one} if "one-way" in how else {one, other}
    said, tidied = [0, float("inf"), 0.0], 0.0
    threading.Thread(target=tell, args=(sys.argv[5], said), daemon=True).start()
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, came, to, frame = heapq.heappop(waiting)
            try:
                to.send(frame)
                said[:] = said[0] + 1, min(said[1], now - came), max(said[2], now - came)
            except OSError:
                pass  # a full queue, or an end that is down: a lost packet
        if now - tidied > 1:
            # Flows that ended are not kept.
            tidied, last = now, {key: due for key, due in last.items() if due > now}
        timeout = max(0.0, waiting[0][0] - now) if waiting else 1.0
        for s in select.select([one, other], [], [], timeout)[0]:
            for _ in range(64):
                try:
                    frame = s.recv(1 << 17)
                except BlockingIOError:
                    break
                if s not in late:
                    try:
                        towards[s].send(frame)
                    except OSError:
                        pass
                    continue
                came = time.monotonic()
                due = came + random.uniform(least, most)
                if "reorder" not in how:
                    key = lane(s, frame)
                    due = last[key] = max(due, last.get(key, 0.0))
                count += 1
                heapq.heappush(waiting, (due, count, came, towards[s], frame))


if __name__ == "__main__":
    main()
