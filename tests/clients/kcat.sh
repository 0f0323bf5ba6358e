#!/usr/bin/env bash
# kcat (librdkafka 2.0 from the distribution). Started by ./run: BOOTSTRAP, KILL_NODE, START_NODE and SCRATCH are set.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$SCRATCH/kcat
mkdir -p "$work"
trap 'kill $(jobs -p) 2>/dev/null' EXIT
codecs=(none gzip snappy lz4 zstd)
report() { # CHECK WHY: an empty WHY is success
  if [ -z "$2" ]; then echo "ok $1"; else echo "not ok $1: $(head -c 600 <<<"$2" | tr '\n' ' ')"; fi
}
client() { kcat -b "$BOOTSTRAP" "$@"; }
create() { # TOPIC PARTITIONS
  "$here/kafka-tool" topics --bootstrap-server "$BOOTSTRAP" --create --topic "$1" --partitions "$2" --replication-factor 3 --config min.insync.replicas=2
}
until_true() { # SECONDS COMMAND...: wait for the command to succeed
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}

# The records that every client writes (README.md): BLOCK.in as "kcat -P" takes them, PARTITION.out as the format prints them.
format='%p %K %k %S %s %h\n'
records() { # CODEC_INDEX
  awk -v c="$1" -v codec="${codecs[$1]}" -v folder="$work" '
    function noise(seed, size, file1, file2,    text, state) { # in pieces: a string that grows is copied at each step
      for (state = seed; size-- > 0; ) {
        state = (75 * state + 74) % 65537
        text = text substr(alphabet, state % 64 + 1, 1)
        if (size % 1000 == 0) { printf "%s", text >file1; printf "%s", text >file2; text = "" }
      }
    }
    BEGIN {
      alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
      header[0] = ""; header[1] = " codec=" codec ",empty="; header[2] = " dup=1,dup=2,null=NULL"
      size[8] = size[9] = 3000; size[10] = 900000
      for (b = 0; b < 12; b++) {
        sent = folder "/" b ".in"; got = folder "/" 3 * c + b % 3 ".out"
        printf "" >sent
        for (j = 0; j < (b == 10 ? 3 : 20); j++) {
          i = 20 * b + j
          key = b % 4 > 1 ? "key-" i : ""
          value = b >= 6 && b <= 10 ? "" : codec "-" i
          printf "%s%s", (b % 4 ? key ":" : ""), value >sent
          printf "%d %d %s %d %s", 3 * c + b % 3, (b % 4 ? length(key) : -1), key, (b == 6 ? -1 : b in size ? size[b] : length(value)), value >got
          if (b in size) noise(1000 * c + i + 1, size[b], sent, got)
          print "" >sent
          print header[b % 3] >got
        }
      }
    }'
}
write_records() { # TOPIC CODEC_INDEX
  local b args
  records "$2"
  for b in {0..11}; do
    args=(-P -t "$1" -p $((3 * $2 + b % 3)) -z "${codecs[$2]}" -X acks=all)
    if [ $((b % 4)) != 0 ]; then args+=(-K :); fi
    if [ "$b" = 6 ]; then args+=(-Z); fi
    case $((b % 3)) in
    1) args+=(-H "codec=${codecs[$2]}" -H empty=) ;;
    2) args+=(-H dup=1 -H dup=2 -H null) ;;
    esac
    client "${args[@]}" <"$work/$b.in" || return
  done
}
differs() { # TOPIC CODEC_INDEX: says how the topic differs from the records
  local p
  for p in $((3 * $2)) $((3 * $2 + 1)) $((3 * $2 + 2)); do
    timeout 30 kcat -b "$BOOTSTRAP" -C -t "$1" -p "$p" -o beginning -e -q -f "$format" >"$work/got" || { echo "partition $p: reading failed"; return; }
    sed -i 's/ $//' "$work/got" # what stands before absent headers
    cmp -s "$work/got" "$work/$p.out" || {
      echo "partition $p: $(wc -l <"$work/got") records, expected $(wc -l <"$work/$p.out"); first difference:" \
        "$(diff "$work/got" "$work/$p.out" | cut -c1-120 | head -n 4)"
      return
    }
  done
}

described() { # TOPIC: one line "partition leader replicas in-sync" per partition
  client -L -t "$1" | sed -n 's/^ *partition \([0-9]*\), leader \(-*[0-9]*\), replicas: \([0-9,]*\), isrs: \([0-9,]*\).*/\1 \2 \3 \4/p'
}
all_in_sync() { # TOPIC PARTITIONS
  [ "$(described "$1" | awk 'split($3, r, ",") == 3 && split($4, s, ",") == 3 && $2 > 0' | wc -l)" = "$2" ]
}
check_create() {
  local why
  why=$({ create records-kcat 15 & create kcat-group 6 & create kcat-kill 3 & wait; } 2>&1 >/dev/null)
  until_true 30 all_in_sync records-kcat 15 || why+="described: $(described records-kcat)"
  report create "$why"
  why=
  [ "$(client -L | grep -c '^  broker [0-9]* at ')" = 3 ] || why="brokers: $(client -L | head -n 8)"
  report describe-cluster "$why"
}
check_codecs() {
  local c why topic
  for c in {0..4}; do
    why=$(write_records records-kcat "$c" 2>&1) && why=$(differs records-kcat "$c")
    report "codec-${codecs[$c]}" "$why"
  done
  for topic in $(client -L | sed -n 's/^  topic "\(records-[a-z]*\)" with 15 partitions:.*/\1/p'); do
    [ "$topic" = records-kcat ] && continue
    why=
    for c in {0..4}; do why+=$(differs "$topic" "$c"); done # against the files that the codecs' checks left
    report "reads-$topic" "$why"
  done
}
check_offsets() { # earliest, latest and by time
  local why= line offset stamp last
  client -C -t records-kcat -p 0 -o beginning -e -q -f '%o %T\n' >"$work/times"
  [ "$(client -C -t records-kcat -p 0 -o -3 -e -q -f '%o ')" = "77 78 79 " ] || why+="the last three are not at 77 78 79; "
  [ "$(client -C -t records-kcat -p 0 -o beginning -c 1 -q -f '%o')" = 0 ] || why+="the first is not at 0; "
  for line in 2 30 75; do
    stamp=$(sed -n "${line}p" "$work/times" | cut -d' ' -f2)
    offset=$(awk -v t="$stamp" '$2 >= t { print $1; exit }' "$work/times")
    [ "$(client -Q -t "records-kcat:0:$stamp" | sed 's/.*offset //')" = "$offset" ] || why+="time $stamp: $(client -Q -t "records-kcat:0:$stamp"), expected $offset; "
  done
  last=$(tail -n 1 "$work/times" | cut -d' ' -f2)
  [ "$(client -Q -t "records-kcat:0:$((last + 1000000))" | sed 's/.*offset //')" = -1 ] || why+="beyond the last: $(client -Q -t "records-kcat:0:$((last + 1000000))"); "
  report offsets-by-time "$why"
}

numbers() { # LIMIT_FILE: 1, 2, 3 ... about a hundred a second until the file exists
  local n=0
  until [ -e "$1" ]; do echo $((++n)); sleep 0.01; done
}
join() { # NAME: one member of the group; what it reads goes to NAME.read, what it is assigned to NAME.log
  kcat -b "$BOOTSTRAP" -G kcat-group -u -X auto.offset.reset=earliest -X heartbeat.interval.ms=500 -X session.timeout.ms=20000 \
    -X partition.assignment.strategy="$strategy" -f '%s\n' kcat-group >>"$work/$1.read" 2>>"$work/$1.log" &
  member[$1]=$!
}
owned() { # NAME: what it was assigned last
  grep -E 'assigned:|revoked:' "$work/$1.log" | tail -n 1 | sed -n 's/.* assigned: //p' | grep -o '\[[0-9]*\]' | sort -u
}
shared_by() { # NAME...: the six partitions are owned, each by one of these, and each owns some
  local name
  for name; do [ -n "$(owned "$name")" ] || return 1; done
  [ "$(for name; do owned "$name"; done | sort | tr -d '\n')" = "[0][1][2][3][4][5]" ]
}
all_read() {
  sort -un "$work"/{a,b,c}.read | cmp -s - <(seq "$(wc -l <"$work/numbers")")
}
check_group() {
  local why= strategy=range
  local -A member
  rm -f "$work/stop"
  : >"$work/a.read" >"$work/b.read" >"$work/c.read" >"$work/a.log" >"$work/b.log" >"$work/c.log"
  numbers "$work/stop" | tee "$work/numbers" | client -P -t kcat-group -X linger.ms=5 -X partitioner=random -X sticky.partitioning.linger.ms=0 &
  local producer=$!
  join a; join b
  until_true 40 shared_by a b || why+="two members do not share the partitions; "
  join c
  until_true 40 shared_by a b c || why+="three members do not share the partitions; "
  kill "${member[a]}"
  wait "${member[a]}"
  until_true 40 shared_by b c || why+="the two that stay do not share the partitions; "
  touch "$work/stop"
  wait "$producer" || why+="producing failed; "
  until_true 40 all_read || why+="$(wc -l <"$work/numbers") records written, $(sort -un "$work"/{a,b,c}.read | wc -l) read; "
  kill "${member[b]}" "${member[c]}"
  wait "${member[b]}" "${member[c]}"
  report group-$strategy "$why"
}
check_resume() {
  local why= read='-X auto.offset.reset=earliest -X session.timeout.ms=20000 -q'
  # shellcheck disable=SC2086
  timeout 60 kcat -b "$BOOTSTRAP" -G kcat-resume $read -c 100 -f '%p %o\n' kcat-group >"$work/first" 2>"$work/errors" || why+="first: $(tail -n 2 "$work/errors"); "
  # shellcheck disable=SC2086
  timeout 60 kcat -b "$BOOTSTRAP" -G kcat-resume $read -e -f '%p %o\n' kcat-group >"$work/second" 2>"$work/errors" || why+="second: $(tail -n 2 "$work/errors"); "
  [ "$(wc -l <"$work/first")" = 100 ] || why+="$(wc -l <"$work/first") records first, not 100; "
  [ "$(cat "$work/first" "$work/second" | wc -l)" = "$(wc -l <"$work/numbers")" ] || why+="$(cat "$work/first" "$work/second" | wc -l) of $(wc -l <"$work/numbers") records; "
  # In each partition the second run goes on one after the first.
  why+=$(awk '{ if ($2 != next_[$1] + 0) { print "partition " $1 ": " $2 " after " next_[$1] - 1; exit } next_[$1] = $2 + 1 }' "$work/first" "$work/second")
  report commit-resume "$why"
}
expect_error() { # CHECK TEXT COMMAND...
  local check=$1 text=$2 out
  shift 2
  out=$(timeout 30 "$@" 2>&1 </dev/null)
  if grep -qF -- "$text" <<<"$out"; then report "$check" ""; else report "$check" "expected \"$text\", got: ${out:-nothing}"; fi
}
too_large() { head -c 2000000 /dev/zero | tr '\0' x | client -P -t kcat-kill -p 2 -X message.max.bytes=5000000; }
check_errors() {
  export -f too_large client
  expect_error too-large "Broker: Message size too large" bash -c too_large
  expect_error unknown-topic "Unknown topic or partition" kcat -b "$BOOTSTRAP" -C -t kcat-no-such-topic -p 0 -e
}

check_kill() { # records at a steady rate to partition 0 while its leader is killed
  local why= leader producer at
  until_true 60 all_in_sync kcat-kill 3 || why+="not in sync: $(described kcat-kill); "
  leader=$(described kcat-kill | awk '$1 == 0 { print $2 }')
  rm -f "$work/stop"
  # Emptied before both sides of the file begin: the reader could meet what another check left there.
  : >"$work/numbers" >"$work/acks"
  numbers "$work/stop" >>"$work/numbers" &
  # Each acknowledgement is one line on kcat's stderr; it gets its time here.
  { tail -n +1 -f --pid=$! "$work/numbers" | client -P -t kcat-kill -p 0 -v -v -v -X acks=all -X enable.idempotence=true -X linger.ms=1; echo "exit $?" >&2; } 2>&1 >/dev/null |
    while IFS= read -r line; do echo "${EPOCHREALTIME/./} $line"; done >>"$work/acks" &
  producer=$!
  acks() { grep -c 'Message delivered' "$work/acks"; }
  more_acks() { [ "$(acks)" -gt "$1" ]; }
  until_true 30 more_acks 200 || why+="no acknowledgements at first; "
  bash -c "${KILL_NODE//\{\}/$leader}" || why+="the leader could not be killed; "
  # What was in flight may still be answered: only later ones show a new leader.
  sleep 1
  at=$(acks)
  until_true 60 more_acks $((at + 200)) || why+="no acknowledgements within 60 s of the kill; "
  touch "$work/stop"
  wait $producer
  bash -c "${START_NODE//\{\}/$leader}" >/dev/null || why+="the node could not be started again; "
  grep -q ' exit 0$' "$work/acks" || why+="producer: $(grep -v delivered "$work/acks" | tail -n 3); "
  client -C -t kcat-kill -p 0 -o beginning -e -q -f '%s\n' >"$work/got"
  cmp -s "$work/got" "$work/numbers" || why+="$(wc -l <"$work/numbers") records sent, $(wc -l <"$work/got") read, $(sort -u "$work/got" | wc -l) distinct; first difference: $(diff "$work/got" "$work/numbers" | head -n 3); "
  echo "kill-leader: $(wc -l <"$work/numbers") records, longest gap between acknowledgements $(awk '/Message delivered/ { if (was && $1 - was > gap) gap = $1 - was; was = $1 } END { printf "%.0f ms", gap / 1000 }' "$work/acks")"
  report kill-leader "$why"
}

check_create
check_codecs
check_offsets
check_group
check_resume
check_errors
check_kill
exit 0
