"""The loads, each one run of `rookery bench`."""

import json
import os
import re
import subprocess
import sys

REPLICAS = 3


class LoadError(Exception):
    pass


class Loads:
    """Of one cluster and one set of topic configs."""

    def __init__(self, rookery, cluster, column, configs):
        self.rookery, self.cluster, self.column, self.configs = rookery, cluster, column, configs
        self.topics = 0

    def topic(self):
        self.topics += 1
        return "bench-" + re.sub("[^a-z0-9.]+", "-", f"{self.column} {self.topics}".lower())

    def bench(self, command, topic, *args, measured=True):
        """What the tool says; CPU and bytes written of the brokers too, unless it is only to warm up."""
        line = [self.rookery, "bench", command, "--bootstrap", self.cluster.bootstrap, "--topic", topic, "--output", "json", *map(str, args)]
        if measured:
            line += ["--broker-pids", ",".join(map(str, self.cluster.pids()))]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise LoadError(f"{' '.join(line)} ended with {done.returncode}")
        return json.loads(done.stdout)

    def creating(self, partitions):
        args = ["--partitions", partitions, "--replication-factor", REPLICAS, "--config", "min.insync.replicas=2"]
        for config in self.configs:
            args += ["--config", config]
        return args

    def warm_up(self, seconds):
        """A JVM compiles what it runs often."""
        topic = self.topic()
        self.bench("produce", topic, *self.creating(12), "--duration", f"{seconds}s", measured=False)
        self.bench("consume", topic, measured=False)

    def produce(self, megabytes, size, partitions, codec):
        """Topic, and what came of writing so much as fast as it goes."""
        topic = self.topic()
        records = int(megabytes * 1e6 / size)
        return topic, self.bench("produce", topic, *self.creating(partitions), "--records", records, "--record-bytes", size, "--codec", codec)

    def consume(self, topic, size):
        return self.bench("consume", topic, "--record-bytes", size)

    def latency(self, rate, seconds, warm_up):
        """Written and read at a fixed rate."""
        return self.bench(
            "end-to-end", self.topic(), *self.creating(1), "--rate", rate, "--duration", f"{seconds}s", "--warm-up", f"{warm_up}s"
        )

    def fan_out(self, megabytes, consumers):
        return self.bench("fan-out", self.topic(), *self.creating(12), "--records", int(megabytes * 1e6 / 1024), "--consumers", consumers)


def drop_caches():
    """Whether reads come from the disk from now on; needs root."""
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError as e:
        print(f"bench: the page cache cannot be dropped ({e}): nothing is read from a cold disk", file=sys.stderr)
        return False
