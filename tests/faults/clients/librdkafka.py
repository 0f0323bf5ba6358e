"""A client of the fault test on librdkafka (confluent-kafka).

It writes what it does to a file of JSON lines (see src/history.rs) and ends when its standard input does.
    librdkafka.py producer|consumer|tail|member|topics --bootstrap A,B --topic T --partitions N --out FILE
                  [--writer W --rate R] [--group G]
"""

import argparse
import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PADDING = "." * 90
WRITER_STEP = 1_000_000_000


class Journal:
    def __init__(self, path):
        self.file, self.lock, self.flushed = open(path, "w", buffering=1 << 16), threading.Lock(), 0

    def write(self, op, t=None, **fields):
        now = time.monotonic_ns()
        line = json.dumps({"t": t or now, "op": op, **fields}, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")
            if now - self.flushed > 200_000_000:
                self.file.flush()
                self.flushed = now

    def close(self):
        with self.lock:
            self.file.close()


def stopping():
    """An event that is set when nobody holds the other end of standard input any more."""
    event = threading.Event()

    def wait():
        while sys.stdin.buffer.read(1):
            pass
        event.set()

    threading.Thread(target=wait, daemon=True).start()
    return event


def base(a):
    return {"bootstrap.servers": a.bootstrap, "log_level": 3, "client.id": a.name, "error_cb": lambda e: a.journal.write("notice", error=f"{e.name()}: {e.str()}")}


def value_of(message):
    raw = message.value() or b""
    digits = raw.split(b".", 1)[0]
    return int(digits) if digits.isdigit() else -1


def producer(a):
    """Unique values at a steady rate, to one partition after the other. A fatal error ends the client inside, not the test."""
    journal, stop, count = a.journal, stopping(), 0

    def delivered(value, partition):
        def report(error, message):
            if error is None:
                offset = message.offset()
                journal.write("ack", v=value, p=partition, o=offset if offset is not None and offset >= 0 else -1)
            else:
                journal.write("unknown", v=value, error=error.name())

        return report

    def client():
        # Why it takes a new producer id, if it does, is said on standard error.
        return Producer({**base(a), "enable.idempotence": True, "acks": "all", "debug": "eos", "log_level": 7})

    p, begun = client(), time.monotonic()
    while not stop.is_set():
        value, partition = a.writer * WRITER_STEP + count, count % a.partitions
        count += 1
        journal.write("send", p=partition, v=value)
        try:
            p.produce(a.topic, f"{value}{PADDING}".encode(), partition=partition, on_delivery=delivered(value, partition))
        except BufferError:
            journal.write("fail", v=value, error="queue full")
        except KafkaException as e:
            journal.write("fail", v=value, error=e.args[0].name())
            if e.args[0].code() == KafkaError._FATAL:
                journal.write("trouble", error=f"fatal, a new producer goes on: {e.args[0].str()}")
                p.purge()
                p.flush(5)
                p = client()
        # Late by more than this, it goes on from now: what was not sent is not made up for.
        ahead = begun + count / a.rate - time.monotonic()
        if ahead < -1:
            begun -= ahead
        p.poll(max(0, ahead))
    p.flush(120)
    p.purge()
    p.flush(5)


def consumer(a, at_once=500):
    """Follows every partition from its start, by itself. A position that is out of range would be an anomaly: no reset."""
    journal, stop = a.journal, stopping()
    c = Consumer({**base(a), "group.id": "none", "enable.auto.commit": False, "auto.offset.reset": "error"})
    c.assign([TopicPartition(a.topic, p, 0) for p in range(a.partitions)])
    quiet = 0
    # At the end, what is there already is still read.
    while not stop.is_set() or quiet < 4:
        rows, quiet = {}, quiet + 1
        for message in c.consume(at_once, 0.25):
            if message.error():
                journal.write("trouble", error=f"{message.error().name()} {message.partition()}: {message.error().str()}")
            else:
                quiet = 0
                rows.setdefault(message.partition(), []).append((message.offset(), value_of(message)))
        for partition, found in rows.items():
            journal.write("poll", p=partition, rows=found)
    c.close()


def tail(a):
    """The same, but each record is noted when it comes, not when some more have come or a quarter of a second is over."""
    consumer(a, at_once=1)


def member(a):
    """A member of a group: handles what it is given, then commits it, at least twice a second."""
    journal, stop, handled = a.journal, stopping(), {}

    def commit(c):
        offsets = sorted(handled.items())
        handled.clear()
        if not offsets:
            return
        since = time.monotonic_ns()
        try:
            done = c.commit(offsets=[TopicPartition(a.topic, p, o) for p, o in offsets], asynchronous=False)
            fine = {(d.partition, d.offset) for d in done if d.error is None}
            ok, bad = [o for o in offsets if o in fine], [o for o in offsets if o not in fine]
        except KafkaException as e:
            ok, bad = [], offsets
            journal.write("trouble", error=f"commit: {e.args[0].name()}")
        # The client tries by itself: an error at its last try says nothing of the ones before.
        for outcome, some in ("ok", ok), ("unknown", bad):
            if some:
                journal.write("commit", group=a.group, since=since, offsets=some, outcome=outcome)

    def assigned(c, partitions):
        since = time.monotonic_ns()
        try:
            for found in c.committed(partitions, timeout=10):
                if found.error is None:
                    journal.write("committed", group=a.group, since=since, p=found.partition, o=max(-1, found.offset))
        except KafkaException as e:
            journal.write("trouble", error=f"committed: {e.args[0].name()}")

    def revoked(c, partitions):
        commit(c)

    def lost(c, partitions):
        handled.clear()

    c = Consumer({**base(a), "group.id": a.group, "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 10000})
    c.subscribe([a.topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    last = time.monotonic()
    while not stop.is_set():
        rows = {}
        for message in c.consume(500, 0.1):
            if message.error():
                journal.write("trouble", error=f"{message.error().name()}: {message.error().str()}")
            else:
                rows.setdefault(message.partition(), []).append((message.offset(), value_of(message)))
        for partition, found in rows.items():
            journal.write("deliver", group=a.group, p=partition, rows=found)
            handled[partition] = found[-1][0] + 1
        if time.monotonic() - last > 0.5:
            commit(c)
            last = time.monotonic()
    commit(c)
    c.close()


def topics(a):
    """Creates a topic every few seconds; none of those that were acknowledged may be gone in the end."""
    journal, stop, count = a.journal, stopping(), 0
    admin = AdminClient(base(a))
    while not stop.wait(3):
        name, since = f"{a.topic}-made-{count}", time.monotonic_ns()
        count += 1
        try:
            admin.create_topics([NewTopic(name, 1, 3)], operation_timeout=10, request_timeout=15)[name].result(30)
            journal.write("create-topic", name=name, since=since, outcome="ok")
        except Exception as e:  # whatever it is, the topic may be there or not
            journal.write("create-topic", name=name, since=since, outcome="unknown")
            journal.write("trouble", error=f"creating a topic: {name}: {str(e)[:200]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["producer", "consumer", "tail", "member", "topics"])
    for text in "name", "bootstrap", "topic", "out", "group":
        parser.add_argument(f"--{text}")
    for number in "partitions", "writer":
        parser.add_argument(f"--{number}", type=int)
    parser.add_argument("--rate", type=float)
    a = parser.parse_args()
    a.journal = Journal(a.out)
    {"producer": producer, "consumer": consumer, "tail": tail, "member": member, "topics": topics}[a.role](a)
    a.journal.close()


if __name__ == "__main__":
    main()
