#!/usr/bin/env bash
# Kafka's own command-line tools. Started by ./run: BOOTSTRAP, KILL_NODE, START_NODE and SCRATCH are set. Each tool is a JVM of its own: few calls, side by side where they can be.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$SCRATCH/tools
mkdir -p "$work"
report() { # CHECK WHY: an empty WHY is success
  if [ -z "$2" ]; then echo "ok $1"; else echo "not ok $1: $(head -c 600 <<<"$2" | tr '\n' ' ')"; fi
}
tool() { # NAME ARGS
  local name=$1
  shift
  timeout 60 "$here/kafka-tool" "$name" --bootstrap-server "$BOOTSTRAP" "$@"
}
expect() { # CHECK TEXT FILE
  if grep -qF -- "$2" "$3"; then report "$1" ""; else report "$1" "expected \"$2\", got: $(tail -n 5 "$3")"; fi
}

tool topics --create --topic tools-text --partitions 3 --replication-factor 3 >"$work/create" 2>&1
expect create "Created topic tools-text." "$work/create"

tool topics --describe --topic tools-text >"$work/describe" 2>&1 &
tool topics --list >"$work/list" 2>&1 &
tool topics --create --topic tools-text --partitions 3 >"$work/exists" 2>&1 &
wait
why=
grep -q 'Topic: tools-text.*PartitionCount: 3.*ReplicationFactor: 3' "$work/describe" || why+="no line of the topic; "
[ "$(grep -cE 'Partition: [0-2].Leader: [1-3].Replicas: [1-3],[1-3],[1-3].Isr: [1-3],[1-3],[1-3]' "$work/describe")" = 3 ] || why+="not three partitions in sync; "
report describe "${why:+$why$(cat "$work/describe")}"
expect list tools-text "$work/list"
expect topic-exists TopicExistsException "$work/exists"

tool topics --create --topic 'tools text?' --partitions 1 >"$work/name" 2>&1 &
tool topics --create --topic tools-four --partitions 1 --replication-factor 4 >"$work/four" 2>&1 &
tool topics --describe --topic tools-no-such-topic >"$work/unknown" 2>&1 &
wait
expect illegal-name InvalidTopicException "$work/name"
expect rf-above-brokers InvalidReplicationFactorException "$work/four"
expect unknown-topic "does not exist as expected" "$work/unknown"

# headers, key and value of each line; NULL stands for null
awk 'BEGIN { for (i = 0; i < 300; i++) printf "h:%d,g:x\t%s\t%s\n", i, i % 5 ? "key-" i % 5 : "NULL", i % 7 ? "value-" i : "NULL" }' >"$work/sent"
tool console-producer --topic tools-text --reader-property parse.headers=true --reader-property parse.key=true --reader-property null.marker=NULL \
  --command-property acks=all --command-property compression.type=lz4 <"$work/sent" >"$work/produce" 2>&1
produced=$?
tool console-consumer --topic tools-text --group tools --from-beginning --max-messages 300 --timeout-ms 30000 \
  --formatter-property print.headers=true --formatter-property print.key=true --formatter-property null.literal=NULL >"$work/got" 2>"$work/consume"
why=
[ $produced = 0 ] || why+="producing: $(tail -n 3 "$work/produce"); "
cmp -s <(sort "$work/sent") <(sort "$work/got") || why+="sent and received differ: $(diff <(sort "$work/sent") <(sort "$work/got") | head -n 4) $(tail -n 3 "$work/consume"); "
# One partition of a key keeps its order.
for k in 1 2 3 4; do cmp -s <(grep -P "\tkey-$k\t" "$work/sent") <(grep -P "\tkey-$k\t" "$work/got") || why+="key-$k out of order; "; done
report console "$why"

tool consumer-groups --list >"$work/groups" 2>&1 &
tool consumer-groups --describe --group tools >"$work/group" 2>&1 &
tool get-offsets --topic tools-text >"$work/ends" 2>&1 &
wait
expect groups-list tools "$work/groups"
why=
[ "$(awk '$1 == "tools" && $2 == "tools-text" && $6 == 0 { n += $4 } END { print n + 0 }' "$work/group")" = 300 ] || why="committed offsets do not add up to 300 without lag: $(cat "$work/group")"
report groups-describe "$why"
why=
[ "$(awk -F: '$1 == "tools-text" { n += $3 } END { print n + 0 }' "$work/ends")" = 300 ] || why="end offsets do not add up to 300: $(cat "$work/ends")"
report get-offsets "$why"

tool topics --create --topic tools-doomed --partitions 1 >"$work/doomed" 2>&1
tool topics --delete --topic tools-doomed >>"$work/doomed" 2>&1
tool topics --list >"$work/list" 2>&1
why=
grep -qx tools-doomed "$work/list" && why="still listed: $(cat "$work/doomed")"
grep -qx tools-text "$work/list" || why+="tools-text is not listed: $(cat "$work/list" "$work/doomed")"
report delete "$why"

# Elections. Nodes 1 and 3 die in turn, so that the one replica of tools-stale that is left misses what the other took alone.
elect() { # FILE ARGS
  local file=$work/$1
  shift
  tool leader-election "$@" >"$file" 2>&1
}
wait_for() { # TOPIC PATTERN: of a line of its description
  local try
  for try in $(seq 30); do
    tool topics --describe --topic "$1" >"$work/wait" 2>&1
    grep -qE "$2" "$work/wait" && return
  done
  report "elect-$1" "never \"$2\": $(cat "$work/wait")"
}
node() { # kill|start ID
  case $1 in
  kill) bash -c "${KILL_NODE//\{\}/$2}" ;;
  start) bash -c "${START_NODE//\{\}/$2}" ;;
  esac >"$work/node" 2>&1 || report "elect-$1" "node $2: $(cat "$work/node")"
}
tool topics --create --topic tools-elect --replica-assignment 3:1:2,1:2:3 >"$work/create" 2>&1 &
tool topics --create --topic tools-lonely --replica-assignment 3 >"$work/create" 2>&1 &
tool topics --create --topic tools-stale --replica-assignment 3:1 --config min.insync.replicas=1 >"$work/create" 2>&1 &
wait
wait_for tools-stale 'Leader: 3.*Isr: (3,1|1,3)'
node kill 1
wait_for tools-stale 'Leader: 3.*Isr: 3\b[^,]'
echo late | tool console-producer --topic tools-stale --command-property acks=all >"$work/late" 2>&1
node kill 3
node start 1
wait_for tools-stale 'Leader: none'
echo '{"partitions": [{"topic": "tools-elect", "partition": 1}]}' >"$work/partitions.json"
elect preferred --election-type preferred --topic tools-elect --partition 0
expect elect-preferred-away PreferredLeaderNotAvailable "$work/preferred"
elect file --election-type unclean --path-to-json-file "$work/partitions.json"
expect elect-file "Valid replica already elected for partitions tools-elect-1" "$work/file"
elect lonely --election-type unclean --topic tools-lonely --partition 0
expect elect-nobody EligibleLeadersNotAvailable "$work/lonely"
elect missing --election-type preferred --topic tools-no-such-topic --partition 0
expect elect-unknown UnknownTopicOrPartition "$work/missing"
elect unclean --election-type unclean --topic tools-stale --partition 0
expect elect-unclean "Successfully completed leader election (UNCLEAN) for partitions tools-stale-0" "$work/unclean"
elect all --election-type unclean --all-topic-partitions
why=
grep -q 'partition: tools-lonely-0.*EligibleLeadersNotAvailable' "$work/all" || why+="nothing of tools-lonely; "
grep -q 'tools-stale-0\|tools-elect' "$work/all" && why+="something of those that are well; "
report elect-all-unclean "${why:+$why$(cat "$work/all")}"
node start 3
wait_for tools-elect 'Partition: 0.*Isr: [1-3],[1-3],[1-3]'
elect back --election-type preferred --all-topic-partitions
elected=$?
tool topics --describe --topic tools-elect >"$work/describe" 2>&1
why=
[ "$elected" = 0 ] || why+="status $elected; "
grep -qE 'Partition: 0.Leader: 3' "$work/describe" || why+="partition 0 is not led by node 3; "
report elect-all-preferred "${why:+$why$(cat "$work/back" "$work/describe")}"
exit 0
