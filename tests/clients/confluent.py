"""confluent-kafka (librdkafka). Started by ./run: BOOTSTRAP, KILL_NODE and START_NODE are set.

Prints "ok CHECK" or "not ok CHECK: why"; any other line is a remark. Exit status 0: every check was run.
"""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress

from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

BASE = {"bootstrap.servers": os.environ["BOOTSTRAP"], "log_level": 0}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
admin = AdminClient(BASE)


class Failure(Exception):
    """What a check expected and did not see."""


def expect(condition, why):
    if not condition:
        raise Failure(why)


def check(name, function, *args):
    try:
        function(*args)
        print(f"ok {name}", flush=True)
    except Exception as e:  # a check reports whatever went wrong, and the next one runs
        print(f"not ok {name}: {type(e).__name__}: {str(e)[:600]}".replace("\n", " "), flush=True)


def wait_for(seconds, what, condition):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.1)


def error_of(call):
    """The name of the Kafka error that the call ends with."""
    try:
        call()
    except KafkaException as e:
        return e.args[0].name()
    return "no error"


# The records that every client writes (README.md).


def noise(seed, size):
    out, state = bytearray(size), seed
    for i in range(size):
        state = (75 * state + 74) % 65537
        out[i] = ALPHABET[state % 64]
    return bytes(out)


def records(c):
    """(partition, key, value, headers) of codec number c, in order."""
    codec = CODECS[c]
    headers = [None, [("codec", codec.encode()), ("empty", b"")], [("dup", b"1"), ("dup", b"2"), ("null", None)]]
    for b in range(12):
        for i in range(20 * b, 20 * b + (3 if b == 10 else 20)):
            key = [None, b"", f"key-{i}".encode()][min(b % 4, 2)]
            sizes = {8: 3000, 9: 3000, 10: 900_000}
            value = noise(1000 * c + i + 1, sizes[b]) if b in sizes else {6: None, 7: b""}.get(b, f"{codec}-{i}".encode())
            yield 3 * c + b % 3, key, value, headers[b % 3]


def produce_all(config, items):
    """Send (topic, keyword arguments) of each item; wait for every acknowledgement; return the errors."""
    producer, errors = Producer({**BASE, "acks": "all", **config}), []

    def done(error, _):
        if error:
            errors.append(error.name())

    for topic, item in items:
        producer.produce(topic, on_delivery=done, **item)
        producer.poll(0)
    left = producer.flush(60)
    return errors + ["unacknowledged"] * left


def read_all(topic, partitions):
    """Every record of these partitions, from the earliest to the end as it is now: {partition: [message]}."""
    consumer = Consumer({**BASE, "group.id": "confluent-reader", "auto.offset.reset": "earliest", "enable.auto.commit": False})
    try:
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=15)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        got, deadline = {p: [] for p in partitions}, time.monotonic() + 60
        while any((got[p][-1].offset() + 1 if got[p] else 0) < ends[p] for p in partitions):
            expect(time.monotonic() < deadline, f"reading stops at { {p: len(m) for p, m in got.items()} } of {ends}")
            for m in consumer.consume(500, 0.5):
                expect(m.error() is None, f"reading: {m.error()}")
                got[m.partition()].append(m)
        return got
    finally:
        consumer.close()


def compare(topic, c):
    expected = defaultdict(list)
    for p, *record in records(c):
        expected[p].append(tuple(record))
    for p, messages in read_all(topic, list(expected)).items():
        got = [(m.key(), m.value(), m.headers()) for m in messages]
        expect(len(got) == len(expected[p]), f"partition {p}: {len(got)} records, expected {len(expected[p])}")
        for n, (a, b) in enumerate(zip(got, expected[p])):
            expect(a == b, f"partition {p}, record {n}: {str(a)[:150]}, expected {str(b)[:150]}")
        expect([m.offset() for m in messages] == list(range(len(messages))), f"partition {p}: offsets have gaps")


def describe(topic):
    return admin.describe_topics(TopicCollection([topic]))[topic].result(15).partitions


def in_sync(topic, partitions):
    try:
        found = describe(topic)
    except KafkaException:
        return False
    return len(found) == partitions and all(p.leader and p.leader.id > 0 and len(p.replicas) == 3 and len(p.isr) == 3 for p in found)


def create(topic, partitions):
    new = NewTopic(topic, partitions, 3, config={"min.insync.replicas": "2"})
    admin.create_topics([new])[topic].result(30)
    wait_for(30, f"{topic} in sync", lambda: in_sync(topic, partitions))


def check_create():
    for topic, partitions in ("records-confluent", 15), ("confluent-group", 6), ("confluent-kill", 3), ("confluent-times", 1):
        create(topic, partitions)


def check_cluster():
    cluster = admin.describe_cluster().result(15)
    expect(cluster.cluster_id, "no cluster id")
    expect(sorted(n.id for n in cluster.nodes) == [1, 2, 3], f"nodes {cluster.nodes}")
    expect(cluster.controller.id in (1, 2, 3), f"controller {cluster.controller}")


def check_codec(c):
    items = [("records-confluent", {"partition": p, "key": k, "value": v, "headers": h}) for p, k, v, h in records(c)]
    errors = produce_all({"compression.type": CODECS[c]}, items)
    expect(not errors, f"producing: {errors[:5]}")
    compare("records-confluent", c)


def check_others():
    for topic in sorted(admin.list_topics(timeout=15).topics):
        if topic.startswith("records-") and topic != "records-confluent":
            check(f"reads-{topic}", lambda: [compare(topic, c) for c in range(5)])


def check_times():
    begin = int(time.time() * 1000) - 3_600_000
    stamps = [begin + 1000 * i for i in range(50)]
    stamps[20] = begin + 100_000  # one is ahead of its time: the latest, but not the last
    errors = produce_all({}, [("confluent-times", {"partition": 0, "value": b"t", "timestamp": t}) for t in stamps])
    expect(not errors, f"producing: {errors[:5]}")
    messages = read_all("confluent-times", [0])[0]
    expect([m.timestamp() for m in messages] == [(TIMESTAMP_CREATE_TIME, t) for t in stamps], "timestamps are not those sent")
    consumer = Consumer({**BASE, "group.id": "confluent-reader"})
    for t, offset in (begin - 5000, 0), (begin, 0), (begin + 500, 1), (begin + 19_000, 19), (begin + 19_001, 20), (begin + 60_000, 20), (begin + 100_001, -1):
        found = consumer.offsets_for_times([TopicPartition("confluent-times", 0, t)], timeout=15)[0].offset
        expect(found == offset, f"time {t - begin}: offset {found}, expected {offset}")  # -1 stands for the end
    consumer.close()
    p = TopicPartition("confluent-times", 0)
    for name, spec, offset in ("earliest", OffsetSpec.earliest(), 0), ("latest", OffsetSpec.latest(), 50), ("max-timestamp", OffsetSpec.max_timestamp(), 20):
        found = admin.list_offsets({p: spec})[p].result(15).offset
        expect(found == offset, f"{name}: offset {found}, expected {offset}")


class Feed:
    """Records 0, 1, 2 ... at about 200 a second, spread over six partitions, until it is stopped."""

    def __init__(self, topic):
        self.sent, self.errors, self.stopping = 0, [], threading.Event()
        self.topic, self.thread = topic, threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        # A leadership that moves meanwhile must not make it send a record twice: that would look like one handled twice.
        producer = Producer({**BASE, "acks": "all", "linger.ms": 5, "enable.idempotence": True})
        while not self.stopping.wait(0.005):
            producer.produce(self.topic, str(self.sent).encode(), partition=self.sent % 6, on_delivery=lambda e, _: e and self.errors.append(e.name()))
            self.sent += 1
            producer.poll(0)
        if producer.flush(30):
            self.errors.append("unacknowledged")

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.sent


class Member(threading.Thread):
    """A consumer that notes what it owns in a table shared by its group; it commits what it has handled before it gives a partition up."""

    def __init__(self, group, strategy, name):
        super().__init__(daemon=True)
        self.group, self.name, self.leaving, self.owned = group, name, threading.Event(), set()
        self.consumer = Consumer({
            **BASE, "group.id": group.id, "partition.assignment.strategy": strategy, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "heartbeat.interval.ms": 500, "session.timeout.ms": 20000,
        })
        self.start()

    def assigned(self, _, partitions):
        for p in partitions:
            other = self.group.owners.setdefault(p.partition, self.name)
            if other != self.name:
                self.group.faults.append(f"partition {p.partition} given to {self.name} while {other} owns it")
            self.owned.add(p.partition)

    def revoked(self, consumer, partitions):
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as e:
            if e.args[0].code() != KafkaError._NO_OFFSET:
                self.group.faults.append(f"{self.name} committing: {e}")
        for p in partitions:
            self.group.owners.pop(p.partition, None)
            self.owned.discard(p.partition)

    def lost(self, _, partitions):
        self.group.faults.append(f"{self.name} lost {len(partitions)} partitions")

    def run(self):
        self.consumer.subscribe([self.group.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        while not self.leaving.is_set():
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.group.faults.append(f"{self.name}: {message.error()}")
                continue
            if message.partition() not in self.owned:
                self.group.faults.append(f"{self.name} reads partition {message.partition()}, which it does not own")
            self.group.handled[int(message.value())] += 1
        self.consumer.close()

    def leave(self):
        self.leaving.set()
        self.join()


class Group:
    def __init__(self, topic, id):
        self.topic, self.id = topic, id
        self.owners, self.faults, self.handled = {}, [], defaultdict(int)

    def shared_by(self, members):
        return lambda: len(self.owners) == 6 and set(self.owners.values()) == {m.name for m in members}


def group_of_three(feed, strategy, rest):
    group = Group("confluent-group", f"confluent-{strategy}")
    a, b = Member(group, strategy, "a"), Member(group, strategy, "b")
    wait_for(40, "two members share the partitions", group.shared_by([a, b]))
    c = Member(group, strategy, "c")
    wait_for(40, "three members share the partitions", group.shared_by([a, b, c]))
    if strategy == "range":
        check("describe-group", check_described, group.id)
    a.leave()
    wait_for(40, "the two that stay share the partitions", group.shared_by([b, c]))
    with suppress(threading.BrokenBarrierError):
        rest.wait()  # the feed goes on until every group has seen its members come and go
    total = feed.stop()
    wait_for(40, f"all {total} records handled", lambda: len(group.handled) >= total)
    b.leave()
    c.leave()
    twice = sorted(n for n, times in group.handled.items() if times > 1)
    expect(not twice, f"{len(twice)} records handled twice, {twice[:5]}")
    expect(set(group.handled) == set(range(total)), "records that were never sent")
    expect(not group.faults, "; ".join(group.faults[:5]))


def check_described(group):
    listed = {g.group_id for g in admin.list_consumer_groups().result(15).valid}
    expect(group in listed, f"listed: {listed}")
    found = admin.describe_consumer_groups([group])[group].result(15)
    expect(found.state.name == "STABLE", f"state {found.state}")
    owned = sorted(p.partition for m in found.members for p in m.assignment.topic_partitions)
    expect(len(found.members) == 3 and owned == list(range(6)), f"{len(found.members)} members own {owned}")


def check_groups():
    feed, strategies = Feed("confluent-group"), ["range", "roundrobin", "cooperative-sticky"]
    rest = threading.Barrier(len(strategies))

    def group(strategy):
        try:
            group_of_three(feed, strategy, rest)
        except Exception:
            rest.abort()  # the others need not wait for this one
            raise

    threads = [threading.Thread(target=check, args=(f"group-{s}", group, s)) for s in strategies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    feed.stop()
    expect(not feed.errors, f"producing: {feed.errors[:5]}")


def check_resume():
    config = {**BASE, "group.id": "confluent-resume", "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.auto.offset.store": True}
    total = sum(len(m) for m in read_all("confluent-group", range(6)).values())
    seen, positions = defaultdict(list), {}

    def read(consumer, count):
        deadline = time.monotonic() + 40
        while sum(map(len, seen.values())) < count:
            expect(time.monotonic() < deadline, f"reading stops after { {p: len(o) for p, o in seen.items()} }, expected {count}")
            m = consumer.poll(0.2)
            if m is not None:
                expect(m.error() is None, f"reading: {m.error()}")
                seen[m.partition()].append(m.offset())

    first = Consumer(config)
    first.subscribe(["confluent-group"])
    read(first, 100)
    committed = {p.partition: p.offset for p in first.commit(asynchronous=False)}
    first.close()
    positions = {p: offsets[-1] + 1 for p, offsets in seen.items()}
    expect({p: o for p, o in committed.items() if o >= 0} == positions, f"committed {committed}, read up to {positions}")
    stored = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("confluent-resume")])["confluent-resume"].result(15).topic_partitions
    expect({p.partition: p.offset for p in stored} == positions, f"stored {stored}, read up to {positions}")
    second = Consumer(config)
    second.subscribe(["confluent-group"])
    read(second, total)
    second.close()
    for p, offsets in seen.items():
        expect(offsets == list(range(len(offsets))), f"partition {p}: not one after the other")


def check_error(expected, call):
    found = error_of(call)
    expect(found == expected, f"{found}, expected {expected}")


def check_errors():
    def make(topic, partitions=1, factor=3, **config):
        return lambda: admin.create_topics([NewTopic(topic, partitions, factor, config=config)])[topic].result(30)

    check("topic-exists", check_error, "TOPIC_ALREADY_EXISTS", make("confluent-kill"))
    check("illegal-name", check_error, "TOPIC_EXCEPTION", make("confluent topic?"))
    check("rf-above-brokers", check_error, "INVALID_REPLICATION_FACTOR", make("confluent-four", factor=4))
    check("no-partitions", check_error, "INVALID_PARTITIONS", make("confluent-none", partitions=0))
    check("illegal-config", check_error, "INVALID_CONFIG", make("confluent-config", **{"retention.ms": "soon"}))
    check("unknown-topic", check_error, "UNKNOWN_TOPIC_OR_PART", lambda: describe("confluent-no-such-topic"))

    def too_large():
        errors = produce_all({"message.max.bytes": 5_000_000}, [("confluent-kill", {"value": b"x" * 2_000_000, "partition": 2})])
        expect(errors == ["MSG_SIZE_TOO_LARGE"], f"{errors}")

    check("too-large", too_large)

    def transactions():
        try:
            Producer({**BASE, "transactional.id": "confluent"}).init_transactions(30)
        except KafkaException as e:  # a time-out is not fatal
            expect("no transactions yet" in str(e) and e.args[0].fatal(), f"{e}")
        else:
            expect(False, "they began")

    check("no-transactions", transactions)


def command(template, node):
    subprocess.run(template.replace("{}", str(node)), shell=True, check=True, stdout=subprocess.DEVNULL)


def create_led_by(topic, leader):
    others = [n for n in (1, 2, 3) if n != leader]
    turns = [[leader, *others], [*others, leader], [others[1], leader, others[0]]]  # one partition led by each, the first by the one asked for
    admin.create_topics([NewTopic(topic, 3, config={"min.insync.replicas": "2"}, replica_assignment=turns)])[topic].result(30)


def kill_leader(topic):
    """Send records at a steady rate from an idempotent producer while the leader of partition 0 is killed; read them back.

    Returns the longest gap between acknowledgements from partition 0 and the time the node took to start again, in seconds.
    """
    wait_for(60, f"{topic} in sync", lambda: in_sync(topic, 3))
    leader = next(p.leader.id for p in describe(topic) if p.id == 0)
    producer = Producer({**BASE, "enable.idempotence": True, "linger.ms": 1, "delivery.timeout.ms": 120_000})
    acks, errors, sent, killed, alive_again = {p: [] for p in range(3)}, [], 0, None, None

    def done(error, message):
        if error:
            errors.append(error.name())
        else:
            acks[message.partition()].append((time.monotonic(), int(message.value())))

    began = time.monotonic()
    while True:
        now = time.monotonic()
        if killed is None and now - began > 2:
            command(os.environ["KILL_NODE"], leader)
            killed = time.monotonic()
        # What was in flight may still be answered: an acknowledgement of a record sent later shows a new leader.
        if killed and alive_again is None and acks[0] and acks[0][-1][1] > after_kill:
            alive_again = now
        if (alive_again and now - alive_again > 2) or now - began > 90:
            break
        producer.produce(topic, str(sent).encode(), partition=sent % 3, on_delivery=done)
        if not killed:
            after_kill = sent
        sent += 1
        producer.poll(max(0, began + sent * 0.005 - time.monotonic()))
    left = producer.flush(120)
    starting = time.monotonic()
    command(os.environ["START_NODE"], leader)
    started = time.monotonic() - starting
    expect(alive_again, "no acknowledgement from partition 0 within 90 s of the kill")
    expect(not errors and not left, f"errors {errors[:5]}, {left} unacknowledged")
    gap = max(b[0] - a[0] for a, b in zip(acks[0], acks[0][1:]))
    for p, messages in read_all(topic, range(3)).items():
        got, expected = [int(m.value()) for m in messages], list(range(p, sent, 3))
        expect(got == expected, f"partition {p}: {len(expected)} sent, {len(got)} read, {len(set(got))} distinct, in order: {got == sorted(got)}")
    wait_for(60, f"{topic} in sync again", lambda: in_sync(topic, 3))
    return gap, started


def check_kill():
    gap, _ = kill_leader("confluent-kill")
    print(f"kill-leader: longest gap between acknowledgements {gap * 1000:.0f} ms", flush=True)


def gaps(count):
    """For scripts/bench: kill that many leaders that are not the active controller, and that many that are, by turns.

    Per line which of the two (leader, controller), the gap in ms and the node's start in s.
    """
    for n in range(count):
        for victim in "leader", "controller":
            topic, controller = f"gap-{victim}-{n}", admin.describe_cluster().result(15).controller.id
            create_led_by(topic, controller if victim == "controller" else controller % 3 + 1)
            gap, started = kill_leader(topic)
            print(f"{victim} {gap * 1000:.0f} {started:.3f}", flush=True)


def check_delete():
    admin.delete_topics(["confluent-times"])["confluent-times"].result(30)
    wait_for(15, "topic gone", lambda: error_of(lambda: describe("confluent-times")) == "UNKNOWN_TOPIC_OR_PART")


def main():
    check("create", check_create)
    check("describe-cluster", check_cluster)
    for number, codec in enumerate(CODECS):
        check(f"codec-{codec}", check_codec, number)
    check_others()
    check("offsets-by-time", check_times)
    check("group-feed", check_groups)
    check("commit-resume", check_resume)
    check_errors()
    check("delete", check_delete)
    check("kill-leader", check_kill)


if __name__ == "__main__":
    if sys.argv[1:2] == ["gaps"]:
        gaps(int(sys.argv[2]))
    else:
        main()
