"""Clusters to measure: this project's own, and any other with a script of the same commands."""

import os
import re
import subprocess
import time

NODES = 3


class Cluster:
    """Three nodes. `columns` are those of the report that it fills: a name, and the topic configs that go with it."""

    def __init__(self, folder, columns):
        self.folder, self.columns = folder, columns
        self.bootstrap = ""

    def command(self, verb, *args):
        """The command and its environment."""
        raise NotImplementedError

    def run(self, verb, *args):
        command, more = self.command(verb, *args)
        done = subprocess.run(command, env={**os.environ, **more}, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"bench: {' '.join(command)} failed")
        return done.stdout

    def start(self):
        """Seconds until all three are ready."""
        begin = time.monotonic()
        out = self.run("start")
        took = time.monotonic() - begin
        told = re.search(r"^bootstrap: (.*)$", out, re.M)
        self.bootstrap = told[1] if told else out.strip().splitlines()[-1]
        return took

    def clean(self):
        self.run("clean")

    def restart(self, node):
        """Seconds until a node that was shut down is ready again."""
        self.run("down", node)
        begin = time.monotonic()
        self.run("up", node)
        return time.monotonic() - begin

    def pids(self):
        return [int(line.split()[1]) for line in self.run("pids").splitlines()]

    def shell(self, verb, *args):
        """A line of shell that does this to node {}."""
        command, more = self.command(verb, "{}", *args)
        return " ".join([f"{k}='{v}'" for k, v in more.items()] + [f"'{word}'" if word != "{}" else word for word in command])


class Rookery(Cluster):
    def command(self, verb, *args):
        ports = {"KAFKA_PORT": os.environ.get("KAFKA_PORT", "21092"), "HTTP_PORT": os.environ.get("HTTP_PORT", "20990")}
        return ["scripts/cluster", verb, *map(str, args)], {"CLUSTER_DIR": self.folder, "NO_TRY": "1", **ports}


class Peer(Cluster):
    """A script with the commands start 3 DIR, clean DIR, up|down ID DIR, signal ID SIG DIR, pids DIR; start prints the bootstrap string last."""

    def __init__(self, script, *args):
        super().__init__(*args)
        self.script = script

    def command(self, verb, *args):
        if verb == "start":
            args = (NODES,)
        return [self.script, verb, *map(str, args), self.folder], {}
