"""A cable that delays packets: carries frames between two interfaces, each frame some time later.

    pump.py ONE OTHER LEAST_MS MOST_MS FILE [reorder]
Every frame waits a random time between LEAST and MOST; with "reorder" a later frame may overtake an earlier one. FILE says
how many frames were carried, and how many milliseconds the quickest of them took.
"""

import heapq
import os
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3


def end(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # Frames come with what the kernel has left to be done: checksums, cutting into segments.
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind((interface, 0))
    s.setblocking(False)
    return s


def main():
    one, other = end(sys.argv[1]), end(sys.argv[2])
    least, most, reorder = float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000, sys.argv[6:] == ["reorder"]
    towards, last, waiting, count = {one: other, other: one}, {one: 0.0, other: 0.0}, [], 0
    carried, quickest, told = 0, float("inf"), 0.0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, came, to, frame = heapq.heappop(waiting)
            try:
                to.send(frame)
                carried, quickest = carried + 1, min(quickest, now - came)
            except OSError:
                pass  # a full queue, or an end that is down: a lost packet
        if carried and now - told > 0.2:
            told = now
            with open(sys.argv[5] + ".new", "w") as f:
                f.write(f"{carried} {quickest * 1000:.1f}")
            os.replace(sys.argv[5] + ".new", sys.argv[5])
        timeout = max(0.0, waiting[0][0] - now) if waiting else 1.0
        for s in select.select([one, other], [], [], timeout)[0]:
            for _ in range(64):
                try:
                    frame = s.recv(1 << 17)
                except BlockingIOError:
                    break
                came = time.monotonic()
                due = came + random.uniform(least, most)
                if not reorder:
                    due = last[s] = max(due, last[s])
                count += 1
                heapq.heappush(waiting, (due, count, came, towards[s], frame))


if __name__ == "__main__":
    main()
